-- oldest: 13
-- What a search knows of each manifest besides what is elsewhere, made from the
-- manifest and from its image's config by whoever reads the feed as "search". It can
-- be made again at any time. created: when the image was made. platforms: those of
-- the image or of an index's manifests, as ",os/arch,os/arch,". layers: 16 bytes of
-- the hash of each, in order. waits: the config, if it could not be read. signature:
-- the tag that its signatures may be under.
CREATE TABLE images (
    repo_id   BIGINT NOT NULL,
    digest    BYTEA  NOT NULL,
    created   BIGINT NOT NULL,
    platforms TEXT   NOT NULL,
    vendor    TEXT   NOT NULL,
    layers    BYTEA,
    waits     BYTEA,
    signature TEXT   NOT NULL,
    PRIMARY KEY (repo_id, digest)
) /*clustered*/;

CREATE INDEX images_by_created ON images (repo_id, created, digest);

CREATE INDEX images_by_layers ON images (layers) WHERE layers IS NOT NULL;

CREATE INDEX images_waiting ON images (waits) WHERE waits IS NOT NULL;

-- The part of an image's config that people look at, as JSON.
CREATE TABLE image_configs (
    repo_id BIGINT NOT NULL,
    digest  BYTEA  NOT NULL,
    config  TEXT   NOT NULL,
    PRIMARY KEY (repo_id, digest)
) /*clustered*/;

-- Which repositories somebody likes. kind: 1 starred, 2 bookmarked.
CREATE TABLE preferences (
    actor   TEXT   NOT NULL,
    kind    BIGINT NOT NULL,
    repo_id BIGINT NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (actor, kind, repo_id)
) /*clustered*/;

CREATE INDEX preferences_by_repo ON preferences (repo_id, kind);
