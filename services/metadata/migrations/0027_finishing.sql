-- oldest: 21
-- One row: that all files of another registry are to become our own, who asked for it
-- and when, when that ended (0: it has not), what was done, and why the last attempt
-- failed. problems is a JSON list of text, the first of problem_count.
CREATE TABLE finishing (
    one           BIGINT NOT NULL PRIMARY KEY,
    requested     BIGINT NOT NULL,
    actor         TEXT   NOT NULL,
    ended         BIGINT NOT NULL,
    blobs         BIGINT NOT NULL,
    bytes         BIGINT NOT NULL,
    repositories  BIGINT NOT NULL,
    kept          BIGINT NOT NULL,
    removed       BIGINT NOT NULL,
    problem_count BIGINT NOT NULL,
    problems      TEXT   NOT NULL,
    failure       TEXT   NOT NULL
) /*clustered*/;
