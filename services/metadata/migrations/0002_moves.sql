-- There is a row while this catalog, or the blobs it names, are being moved here
-- from elsewhere: it is not complete then and serves nobody.
CREATE TABLE moves (
    id      BIGINT NOT NULL PRIMARY KEY,
    source  TEXT   NOT NULL,
    started BIGINT NOT NULL
) /*clustered*/;

-- The copies that the move has made so far, and what they are copies of.
CREATE TABLE moved_blobs (
    pool        TEXT  NOT NULL,
    digest      BYTEA NOT NULL,
    old_locator TEXT  NOT NULL,
    locator     TEXT  NOT NULL,
    PRIMARY KEY (pool, digest)
) /*clustered*/;
