-- Tags that upstreams have told of and that are to be copied, each once. number grows
-- with each time that it is told again.
CREATE TABLE notices (
	rule TEXT NOT NULL,
	remote TEXT NOT NULL,
	tag TEXT NOT NULL,
	number BIGINT NOT NULL,
	since BIGINT NOT NULL,
	due BIGINT NOT NULL,
	attempts BIGINT NOT NULL,
	PRIMARY KEY (rule, remote, tag)
) /*clustered*/;
