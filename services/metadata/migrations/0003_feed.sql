-- One row for each change of the catalog, written by the transaction that makes
-- it. Rows are read in the order of (tx, seq); the last one always stays, so that
-- numbers are not used again. What a kind of row means is in feed.go.
CREATE TABLE events (
    /*ordered*/
    kind    TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    repo_id BIGINT,
    repo    TEXT,
    name    TEXT,
    digest  BYTEA,
    number  BIGINT,
    pool    TEXT,
    locator TEXT,
    size    BIGINT
);

-- Who reads the events: rows behind the slowest reader stay, up to a limit. A
-- reader that fell behind that has no row any more.
CREATE TABLE feed_readers (
    name  TEXT   NOT NULL PRIMARY KEY,
    tx    BIGINT NOT NULL,
    seq   BIGINT NOT NULL,
    at    BIGINT NOT NULL,
    state TEXT   NOT NULL
) /*clustered*/;
