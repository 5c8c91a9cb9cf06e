-- What may have lost its last reference, and when to look whether it has. What
-- nothing needs has a row here, always; what is needed may have one. kind: 1 a
-- manifest, 2 a link, 3 a pool's copy of a blob (repo_id 0), 4 a repository (no
-- digest). pool is the pool of the repository or the copy. Until lease somebody
-- was promised the content; due is never before. epoch is that of a blob when it
-- was condemned, 0 before.
CREATE TABLE reviews (
    repo_id BIGINT   NOT NULL,
    digest  BYTEA    NOT NULL,
    kind    SMALLINT NOT NULL,
    pool    TEXT     NOT NULL,
    due     BIGINT   NOT NULL,
    lease   BIGINT   NOT NULL,
    epoch   BIGINT   NOT NULL,
    PRIMARY KEY (repo_id, digest, kind, pool)
) /*clustered*/;

CREATE INDEX reviews_by_due ON reviews (pool, due);

-- Manifests that somebody deleted, until when that can be undone. tags are those
-- that pointed to it, one on each line.
CREATE TABLE trash (
    repo_id    BIGINT NOT NULL,
    digest     BYTEA  NOT NULL,
    media_type TEXT   NOT NULL,
    pushed     BIGINT NOT NULL,
    payload    BYTEA  NOT NULL,
    tags       TEXT   NOT NULL,
    deleted    BIGINT NOT NULL,
    until      BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    PRIMARY KEY (repo_id, digest)
);

CREATE INDEX trash_by_until ON trash (until);

-- What a deleted manifest refers to, as in manifest_references.
CREATE TABLE trash_references (
    repo_id     BIGINT  NOT NULL,
    manifest    BYTEA   NOT NULL,
    digest      BYTEA   NOT NULL,
    is_manifest BOOLEAN NOT NULL,
    required    BOOLEAN NOT NULL,
    PRIMARY KEY (repo_id, manifest, digest),
    FOREIGN KEY (repo_id, manifest) REFERENCES trash (repo_id, digest)
) /*clustered*/;

-- Repositories that somebody deleted, until when that can be undone. What they
-- have keeps their identity, by which nobody reads it.
CREATE TABLE deleted_repositories (
    id      BIGINT NOT NULL PRIMARY KEY,
    name    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    until   BIGINT NOT NULL,
    actor   TEXT   NOT NULL
) /*clustered*/;

CREATE INDEX deleted_repositories_by_name ON deleted_repositories (name, id);

-- One row: the largest identity of a repository that is gone. None is given twice.
CREATE TABLE repository_ids (
    one  BIGINT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
) /*clustered*/;

-- When each kind of sweep ended last.
CREATE TABLE sweeps (
    name  TEXT   NOT NULL PRIMARY KEY,
    ended BIGINT NOT NULL
) /*clustered*/;

-- Copies that a sweep found and nobody knew, and when that was first.
CREATE TABLE strays (
    pool    TEXT   NOT NULL,
    digest  BYTEA  NOT NULL,
    locator TEXT   NOT NULL,
    seen    BIGINT NOT NULL,
    PRIMARY KEY (pool, digest, locator)
) /*clustered*/;
