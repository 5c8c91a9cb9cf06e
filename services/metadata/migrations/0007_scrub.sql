-- oldest: 5
-- verified_at is when the bytes of a copy were last found to be those of its
-- digest: when it was made, read as a whole, or scrubbed, whatever came of that; -1
-- asks for a look soon. damaged is when they were found not to be, or not to be
-- there, and problem says what is wrong.
ALTER TABLE blobs ADD COLUMN verified_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN damaged BIGINT;
ALTER TABLE blobs ADD COLUMN problem TEXT;

-- What to look at first.
CREATE INDEX blobs_by_verified ON blobs (verified_at, pool, digest);
CREATE INDEX blobs_damaged ON blobs (pool, digest) WHERE damaged IS NOT NULL;

-- The same of a manifest's bytes. When they were looked at is known of all
-- together, see scrub.
ALTER TABLE manifests ADD COLUMN damaged BIGINT;

CREATE INDEX manifests_damaged ON manifests (repo_id, digest) WHERE damaged IS NOT NULL;

-- One row: when a look at everything was last asked for; when the last look at all
-- manifests began, and how far it has come (both empty: to its end); and what was
-- looked at since the store was made.
CREATE TABLE scrub (
    one       BIGINT NOT NULL PRIMARY KEY,
    requested BIGINT NOT NULL,
    began     BIGINT NOT NULL,
    at_repo   BIGINT NOT NULL,
    at_digest BYTEA  NOT NULL,
    blobs     BIGINT NOT NULL,
    bytes     BIGINT NOT NULL,
    manifests BIGINT NOT NULL
) /*clustered*/;
