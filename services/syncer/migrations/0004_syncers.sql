-- oldest: 3
-- Where syncers that share this database reach each other, to pass on bytes of what
-- one of them is fetching.
CREATE TABLE syncers (
	holder TEXT NOT NULL PRIMARY KEY,
	address TEXT NOT NULL,
	seen BIGINT NOT NULL
) /*clustered*/;
