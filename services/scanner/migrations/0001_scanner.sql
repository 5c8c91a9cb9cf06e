-- Images, by the digest of their manifest. found is what is in them, counts what was
-- found in which version of the vulnerability database. rank orders those that wait, the
-- lowest first, and none is scanned before the time queued. An index has the state index.
CREATE TABLE images (
	digest TEXT NOT NULL PRIMARY KEY,
	repo TEXT NOT NULL,
	state TEXT NOT NULL,
	reason TEXT NOT NULL,
	rank BIGINT NOT NULL,
	queued BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	seen BIGINT NOT NULL,
	at BIGINT NOT NULL,
	db TEXT NOT NULL,
	unknown BIGINT NOT NULL,
	low BIGINT NOT NULL,
	medium BIGINT NOT NULL,
	high BIGINT NOT NULL,
	critical BIGINT NOT NULL,
	packages BIGINT NOT NULL,
	os TEXT NOT NULL,
	found BYTEA
) /*clustered*/;

CREATE INDEX images_queue ON images (state, rank, queued);

CREATE INDEX images_db ON images (state, db);

CREATE INDEX images_seen ON images (seen);

-- The images that an index lists.
CREATE TABLE children (
	parent TEXT NOT NULL,
	child TEXT NOT NULL,
	PRIMARY KEY (parent, child)
) /*clustered*/;

CREATE INDEX children_child ON children (child, parent);

-- What was found in an image: packages is JSON.
CREATE TABLE findings (
	image TEXT NOT NULL,
	id TEXT NOT NULL,
	severity BIGINT NOT NULL,
	packages TEXT NOT NULL,
	PRIMARY KEY (image, id)
) /*clustered*/;

CREATE INDEX findings_id ON findings (id, image);

-- What is told of vulnerabilities.
CREATE TABLE vulnerabilities (
	id TEXT NOT NULL PRIMARY KEY,
	title TEXT NOT NULL,
	description TEXT NOT NULL,
	reference TEXT NOT NULL
) /*clustered*/;

-- What is in layers. format tells how it was found out.
CREATE TABLE layers (
	digest TEXT NOT NULL PRIMARY KEY,
	format BIGINT NOT NULL,
	found BYTEA NOT NULL,
	used BIGINT NOT NULL
) /*clustered*/;
