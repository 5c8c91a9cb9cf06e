-- Bytes of content that came over a rule's line in a month, as "2026-01".
CREATE TABLE months (
	rule TEXT NOT NULL,
	month TEXT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (rule, month)
) /*clustered*/;
