-- An older program pushes without taking what it pushes out of cached_manifests, so
-- that this one would evict it: it must not serve beside this one.
--
-- Manifests that were fetched from an upstream and that nobody has pushed here.
-- used is when one was last pulled or fetched; cost is how many microseconds longer
-- it stays than others, for what it costs to fetch it again; rank is their sum, in
-- the order of which they go.
CREATE TABLE cached_manifests (
    repo_id  BIGINT NOT NULL,
    digest   BYTEA  NOT NULL,
    pool     TEXT   NOT NULL,
    upstream TEXT   NOT NULL,
    fetched  BIGINT NOT NULL,
    used     BIGINT NOT NULL,
    cost     BIGINT NOT NULL,
    rank     BIGINT NOT NULL,
    PRIMARY KEY (repo_id, digest)
) /*clustered*/;

CREATE INDEX cached_manifests_by_rank ON cached_manifests (pool, rank, repo_id, digest);

-- Patterns of cached content that stays.
CREATE TABLE cache_pins (
    pattern TEXT   NOT NULL PRIMARY KEY,
    reason  TEXT   NOT NULL,
    actor   TEXT   NOT NULL,
    since   BIGINT NOT NULL
) /*clustered*/;

-- Who a blob is for. cached: 0 something that was pushed, 1 cached manifests only, 2
-- nothing, since it was evicted.
ALTER TABLE blobs ADD COLUMN cached SMALLINT NOT NULL DEFAULT 0;

CREATE INDEX blobs_cached ON blobs (pool, size) WHERE cached = 1;
