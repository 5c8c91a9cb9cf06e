-- oldest: 8
-- What repositories that share a quota hold, by the patterns of the quota: the
-- repositories that are counted, each content with the number of their links and
-- manifests that have it, and the bytes of all contents.
CREATE TABLE quotas (
    name TEXT   NOT NULL PRIMARY KEY,
    used BIGINT NOT NULL
) /*clustered*/;

CREATE TABLE quota_repositories (
    quota   TEXT   NOT NULL,
    repo_id BIGINT NOT NULL,
    PRIMARY KEY (quota, repo_id)
) /*clustered*/;

CREATE TABLE quota_content (
    quota  TEXT   NOT NULL,
    digest BYTEA  NOT NULL,
    refs   BIGINT NOT NULL,
    size   BIGINT NOT NULL,
    PRIMARY KEY (quota, digest)
) /*clustered*/;
