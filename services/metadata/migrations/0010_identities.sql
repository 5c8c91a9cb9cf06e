-- oldest: 9
-- People and programs that have credentials here. member_of and what else is a
-- list or a map is JSON; times are microseconds since 1970, 0: never, or not.
CREATE TABLE users (
    id        TEXT   NOT NULL PRIMARY KEY,
    origin    TEXT   NOT NULL,
    service   BIGINT NOT NULL,
    disabled  BIGINT NOT NULL,
    member_of TEXT   NOT NULL,
    note      TEXT   NOT NULL,
    created   BIGINT NOT NULL,
    seen      BIGINT NOT NULL
) /*clustered*/;

CREATE INDEX users_disabled ON users (id) WHERE disabled > 0;

-- Secrets somebody can be known by, as SHA-256 hashes. An owner '' is nobody yet.
CREATE TABLE credentials (
    hash    BYTEA  NOT NULL PRIMARY KEY,
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    owner   TEXT   NOT NULL,
    label   TEXT   NOT NULL,
    scopes  TEXT   NOT NULL,
    claims  TEXT   NOT NULL,
    agent   TEXT   NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL
) /*clustered*/;

CREATE UNIQUE INDEX credentials_by_id ON credentials (kind, id);

CREATE INDEX credentials_by_owner ON credentials (owner, kind, created, id);

CREATE INDEX credentials_by_expiry ON credentials (expires) WHERE expires > 0 AND kind <> 'key';

-- Keys that sign tokens.
CREATE TABLE token_keys (
    id      TEXT   NOT NULL PRIMARY KEY,
    seed    BYTEA  NOT NULL,
    created BIGINT NOT NULL,
    until   BIGINT NOT NULL
) /*clustered*/;

-- How often something was taken away from somebody.
CREATE TABLE identity_state (
    one      BIGINT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL
) /*clustered*/;

INSERT INTO identity_state (one, revision) VALUES (1, 1);
