-- oldest: 21
-- Upload sessions that were open for a while, by who began them.
CREATE TABLE open_uploads (
    id      TEXT   NOT NULL PRIMARY KEY,
    owner   TEXT   NOT NULL,
    touched BIGINT NOT NULL
) /*clustered*/;

CREATE INDEX open_uploads_by_owner ON open_uploads (owner, touched);
CREATE INDEX open_uploads_by_time ON open_uploads (touched);
