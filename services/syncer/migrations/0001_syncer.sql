-- What a mirrored tag was found to be upstream, and when. An empty digest says that
-- there was none.
CREATE TABLE tags (
	repo TEXT NOT NULL,
	tag TEXT NOT NULL,
	digest TEXT NOT NULL,
	checked BIGINT NOT NULL,
	PRIMARY KEY (repo, tag)
) /*clustered*/;

-- Repositories that were pushed to here: nothing is fetched into them.
CREATE TABLE claims (
	repo TEXT NOT NULL PRIMARY KEY,
	actor TEXT NOT NULL,
	since BIGINT NOT NULL
) /*clustered*/;

-- Blobs that are being fetched: who does it, until when unless renewed, and how much
-- there is. Their bytes are in the staging directory of the holder.
CREATE TABLE fills (
	digest TEXT NOT NULL PRIMARY KEY,
	repo TEXT NOT NULL,
	rule TEXT NOT NULL,
	size BIGINT NOT NULL,
	holder TEXT NOT NULL,
	until BIGINT NOT NULL,
	since BIGINT NOT NULL
) /*clustered*/;

-- What became of rules.
CREATE TABLE rules (
	name TEXT NOT NULL PRIMARY KEY,
	paused BIGINT NOT NULL,
	last_run BIGINT NOT NULL,
	last_error TEXT NOT NULL,
	done BIGINT NOT NULL,
	total BIGINT NOT NULL
) /*clustered*/;
