-- Whether the other registry may have a push of forwards: its manifest, or the request to
-- remove it, was on its way.
ALTER TABLE forwards ADD COLUMN sent BIGINT NOT NULL DEFAULT 0;
