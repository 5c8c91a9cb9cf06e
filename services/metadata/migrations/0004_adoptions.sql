-- oldest: 2
-- Repositories of another registry that lie below a pool's root as OCI image
-- layouts, and are taken over. state: 0 not complete, 1 taken over as the index
-- said, 2 its files are being removed. stamp and hash are the index's; problems is a
-- JSON list of text, the first of problem_count.
CREATE TABLE adoptions (
    repo          TEXT     NOT NULL PRIMARY KEY,
    pool          TEXT     NOT NULL,
    state         SMALLINT NOT NULL,
    stamp         TEXT     NOT NULL,
    hash          TEXT     NOT NULL,
    problem_count BIGINT   NOT NULL,
    problems      TEXT     NOT NULL,
    updated       BIGINT   NOT NULL
) /*clustered*/;

-- What the index said when it was taken over, so that what has been changed there
-- since is known from what was changed here.
CREATE TABLE adopted_manifests (
    repo   TEXT  NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (repo, digest)
) /*clustered*/;

CREATE TABLE adopted_tags (
    repo   TEXT  NOT NULL,
    name   TEXT  NOT NULL,
    digest BYTEA NOT NULL,
    PRIMARY KEY (repo, name)
) /*clustered*/;
