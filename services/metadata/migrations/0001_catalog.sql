-- Digests are one byte for the algorithm (1 sha256, 2 sha512) and the hash.
-- Times are microseconds since 1970.

-- Identities are given by the application and never used again.
CREATE TABLE repositories (
    name    TEXT   NOT NULL PRIMARY KEY,
    id      BIGINT NOT NULL UNIQUE,
    created BIGINT NOT NULL
) /*clustered*/;

-- artifact_type, subject and annotations are what a referrers list shows; they
-- are always equal to what the payload says. annotations is a JSON object.
CREATE TABLE manifests (
    repo_id       BIGINT NOT NULL,
    digest        BYTEA  NOT NULL,
    media_type    TEXT   NOT NULL,
    size          BIGINT NOT NULL,
    pushed        BIGINT NOT NULL,
    artifact_type TEXT   NOT NULL,
    subject       BYTEA,
    annotations   TEXT,
    payload       BYTEA  NOT NULL,
    PRIMARY KEY (repo_id, digest)
);

-- To mount what any repository knows.
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repo_id, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX manifests_by_subject_type ON manifests (repo_id, subject, artifact_type, digest) WHERE subject IS NOT NULL;

-- What a manifest needs. is_manifest: an index lists it. required: it must be
-- known in the repository; false for foreign layers and what was missing when a
-- sparse manifest was pushed.
CREATE TABLE manifest_references (
    repo_id     BIGINT  NOT NULL,
    manifest    BYTEA   NOT NULL,
    digest      BYTEA   NOT NULL,
    is_manifest BOOLEAN NOT NULL,
    required    BOOLEAN NOT NULL,
    PRIMARY KEY (repo_id, manifest, digest),
    FOREIGN KEY (repo_id, manifest) REFERENCES manifests (repo_id, digest)
) /*clustered*/;

CREATE INDEX manifest_references_by_digest ON manifest_references (repo_id, digest);

CREATE TABLE tags (
    repo_id BIGINT NOT NULL,
    name    TEXT   NOT NULL,
    digest  BYTEA  NOT NULL,
    PRIMARY KEY (repo_id, name),
    FOREIGN KEY (repo_id, digest) REFERENCES manifests (repo_id, digest)
) /*clustered*/;

CREATE INDEX tags_by_digest ON tags (repo_id, digest);

-- One row for each change of a tag, numbered from 1; no digest: it was removed.
CREATE TABLE tag_history (
    repo_id BIGINT NOT NULL,
    name    TEXT   NOT NULL,
    number  BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    digest  BYTEA,
    PRIMARY KEY (repo_id, name, number)
) /*clustered*/;

-- The copy of each digest that is used in a pool. state: 0 live, 1 condemned,
-- 2 deleting; epoch counts changes of state; content that nothing refers to
-- stays until lease_until. A manifest that was mounted as a blob is inline and
-- has no locator.
CREATE TABLE blobs (
    pool        TEXT     NOT NULL,
    digest      BYTEA    NOT NULL,
    size        BIGINT   NOT NULL,
    locator     TEXT     NOT NULL,
    state       SMALLINT NOT NULL,
    epoch       BIGINT   NOT NULL,
    lease_until BIGINT   NOT NULL,
    created     BIGINT   NOT NULL,
    inline      BYTEA,
    PRIMARY KEY (pool, digest)
) /*clustered*/;

-- Which repository may read which blob.
CREATE TABLE links (
    repo_id BIGINT NOT NULL,
    digest  BYTEA  NOT NULL,
    pool    TEXT   NOT NULL,
    PRIMARY KEY (repo_id, digest),
    FOREIGN KEY (pool, digest) REFERENCES blobs (pool, digest)
) /*clustered*/;

CREATE INDEX links_by_digest ON links (digest, pool);

-- Copies to remove once due has come. A copy that is in here never becomes live.
CREATE TABLE garbage (
    pool     TEXT   NOT NULL,
    digest   BYTEA  NOT NULL,
    locator  TEXT   NOT NULL,
    size     BIGINT NOT NULL,
    due      BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (pool, digest, locator)
) /*clustered*/;

CREATE INDEX garbage_by_due ON garbage (due);

-- Keys that authenticate upload tokens.
CREATE TABLE upload_keys (
    id      TEXT   NOT NULL PRIMARY KEY,
    secret  BYTEA  NOT NULL,
    created BIGINT NOT NULL
) /*clustered*/;
