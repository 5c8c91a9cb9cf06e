-- Pushes that are to be passed on to other registries, in the order of seq, and what
-- became of the last one of each tag. progress is where an upload goes on.
CREATE TABLE forwards (
	seq BIGINT NOT NULL PRIMARY KEY,
	rule TEXT NOT NULL,
	repo TEXT NOT NULL,
	tag TEXT NOT NULL,
	digest TEXT NOT NULL,
	actor TEXT NOT NULL,
	via TEXT NOT NULL,
	state TEXT NOT NULL,
	attempts BIGINT NOT NULL,
	error TEXT NOT NULL,
	since BIGINT NOT NULL,
	changed BIGINT NOT NULL,
	progress TEXT NOT NULL
) /*clustered*/;
CREATE INDEX forwards_open ON forwards (rule, state, seq);
CREATE INDEX forwards_tag ON forwards (rule, repo, tag, seq);

-- What other installations that forward pushes know this one by.
CREATE TABLE identity (
	id TEXT NOT NULL PRIMARY KEY
) /*clustered*/;
