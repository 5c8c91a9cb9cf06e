-- oldest: 7
-- Patterns of repositories that nobody may change.
CREATE TABLE maintenance (
    repositories TEXT   NOT NULL PRIMARY KEY,
    reason       TEXT   NOT NULL,
    actor        TEXT   NOT NULL,
    since        BIGINT NOT NULL
) /*clustered*/;
