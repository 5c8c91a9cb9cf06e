-- Mirrored tags that a complete list of their upstream has not had since then, by rules
-- that remove such tags.
CREATE TABLE gone (
	rule TEXT NOT NULL,
	repo TEXT NOT NULL,
	tag TEXT NOT NULL,
	digest TEXT NOT NULL,
	since BIGINT NOT NULL,
	PRIMARY KEY (rule, repo, tag)
) /*clustered*/;
