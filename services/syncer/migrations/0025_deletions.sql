-- Whether a row of forwards says that the tag, or without one the manifest, was removed.
ALTER TABLE forwards ADD COLUMN deletion BIGINT NOT NULL DEFAULT 0;
