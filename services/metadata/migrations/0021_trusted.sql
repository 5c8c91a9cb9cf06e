-- oldest: 20
-- Keys and certificates that signatures are verified with.
CREATE TABLE trusted (
    id    TEXT   NOT NULL PRIMARY KEY,
    tool  TEXT   NOT NULL,
    store TEXT   NOT NULL,
    pem   TEXT   NOT NULL,
    actor TEXT   NOT NULL,
    since BIGINT NOT NULL
) /*clustered*/;
