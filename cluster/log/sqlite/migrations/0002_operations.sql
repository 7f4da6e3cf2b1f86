-- What the engine remembers beside the runs: one value a (kind, name). The body is the engine's own.
CREATE TABLE facts (
    kind    TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    body    BLOB    NOT NULL,
    time_us INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- One row a delivery that gave up and that nothing handled; settling it changes `state`, nothing deletes it.
CREATE TABLE dead (
    letter_id  BLOB    PRIMARY KEY NOT NULL,
    run        INTEGER NOT NULL,
    run_id     BLOB    NOT NULL,
    delivery   INTEGER NOT NULL,
    pipeline   TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    event_type TEXT    NOT NULL,
    event_id   BLOB    NOT NULL,
    kind       TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    time_us    INTEGER NOT NULL,
    blocked    INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT;

-- The open ones, newest first: what an operator looks at. Those long settled cost it nothing.
CREATE INDEX dead_open ON dead (time_us, letter_id) WHERE state = 'open';

-- The open ones of a step, newest first, and how many and how old they are without a look at the rows.
CREATE INDEX dead_step ON dead (pipeline, step, time_us, letter_id) WHERE state = 'open';

CREATE INDEX dead_time ON dead (time_us, letter_id);

CREATE INDEX dead_run ON dead (run_id);

-- Who did what, in the order of the commits: never changed, never deleted.
CREATE TABLE audit (
    number  INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_subject ON audit (subject);
