-- oldest: 10
-- Who did what. The id begins with the time, so that it orders by it.
CREATE TABLE audit (
    id      TEXT   NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    source  TEXT   NOT NULL,
    action  TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    status  BIGINT NOT NULL,
    result  TEXT   NOT NULL,
    request TEXT   NOT NULL
) /*clustered*/;

CREATE INDEX audit_by_actor ON audit (actor, id);
