-- oldest: 19
-- What receivers of events are told, in the order of (tx, seq). The last row always
-- stays, so that numbers are not used again.
CREATE TABLE outbox (
    /*ordered*/
    id         TEXT   NOT NULL UNIQUE,
    type       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    repo       TEXT   NOT NULL,
    reference  TEXT   NOT NULL,
    digest     BYTEA,
    media_type TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    method     TEXT   NOT NULL,
    agent      TEXT   NOT NULL,
    data       TEXT
);

CREATE INDEX outbox_by_repo ON outbox (repo, id);

-- How far each receiver was told.
CREATE TABLE outbox_sinks (
    name      TEXT   NOT NULL PRIMARY KEY,
    tx        BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    dropped   BIGINT NOT NULL,
    failures  BIGINT NOT NULL,
    error     TEXT   NOT NULL
) /*clustered*/;
