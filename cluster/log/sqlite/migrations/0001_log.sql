-- The log itself: one row is the consecutive records of one run in one commit.
CREATE TABLE log (
    offset INTEGER PRIMARY KEY,
    run    INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    body   BLOB    NOT NULL
) STRICT;

CREATE INDEX log_run ON log (run);

-- One row a run, for queries. Times are microseconds since 1970; statuses are those of events/state/run_status.py.
CREATE TABLE runs (
    run          INTEGER PRIMARY KEY,
    run_id       BLOB    NOT NULL UNIQUE,
    pipeline     TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    trigger_type TEXT    NOT NULL,
    status       INTEGER NOT NULL,
    started_us   INTEGER NOT NULL,
    finished_us  INTEGER
) STRICT;

-- Everything but the completed: what a restart reads, what an operator looks for, and what counts() counts.
CREATE INDEX runs_open ON runs (status, run, pipeline) WHERE status <> 3;

CREATE INDEX runs_pipeline ON runs (pipeline, run);

-- How many runs each pipeline has had: with runs_open it gives the number of completed ones without counting them.
CREATE TABLE tally (
    pipeline TEXT    PRIMARY KEY,
    started  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE seen (
    source    TEXT    NOT NULL,
    sender_id TEXT    NOT NULL,
    digest    BLOB    NOT NULL,
    run_id    BLOB    NOT NULL,
    event_id  BLOB    NOT NULL,
    time_us   INTEGER NOT NULL,
    PRIMARY KEY (source, sender_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX seen_time ON seen (time_us);

CREATE TABLE snapshots (
    offset INTEGER PRIMARY KEY,
    digest BLOB    NOT NULL,
    body   BLOB    NOT NULL
) STRICT;

CREATE TABLE definitions (
    pipeline   TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    definition BLOB    NOT NULL,
    time_us    INTEGER NOT NULL,
    PRIMARY KEY (pipeline, version)
) STRICT;

-- One row: who may write, and since which take-over. Epoch 0 is nobody.
CREATE TABLE owner (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL,
    name  TEXT    NOT NULL
) STRICT;

INSERT INTO owner VALUES (1, 0, '');
