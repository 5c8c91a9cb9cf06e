-- oldest: 5
-- How often each manifest was pulled, by the tag it was asked for with ('' is by
-- digest), when that was last, and by whom.
CREATE TABLE pulls (
    repo_id BIGINT NOT NULL,
    digest  BYTEA  NOT NULL,
    tag     TEXT   NOT NULL,
    actor   TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    times   BIGINT NOT NULL,
    PRIMARY KEY (repo_id, digest, tag)
) /*clustered*/;
