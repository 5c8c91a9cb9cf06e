-- Whether the last that an upstream has told of a tag in notices is that it was removed.
ALTER TABLE notices ADD COLUMN removed BIGINT NOT NULL DEFAULT 0;
