CREATE TABLE jobs (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE CHECK (length(id) = 30 AND id GLOB 'ftjob-*'),
    kind            TEXT NOT NULL CHECK (kind IN ('train')),
    name            TEXT NOT NULL CHECK (length(name) <= 200),
    state           TEXT NOT NULL CHECK (state IN ('created', 'queued', 'starting', 'running', 'saving',
                                                   'pausing', 'paused', 'finished', 'failed', 'cancelled')),
    wish            TEXT CHECK (wish IN ('cancel', 'pause', 'stop_early')),
    priority        INTEGER NOT NULL CHECK (priority BETWEEN -1000 AND 1000),
    given           TEXT NOT NULL CHECK (json_valid(given)),
    resolved        TEXT NOT NULL CHECK (json_valid(resolved)),
    suffix          TEXT NOT NULL DEFAULT '',
    num_devices     INTEGER NOT NULL CHECK (num_devices >= 1),
    devices         TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(devices)),
    run_path        TEXT NOT NULL,
    metadata        TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    idempotency_key TEXT UNIQUE,
    request_hash    TEXT NOT NULL,
    retry_of        TEXT,
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    retries         INTEGER NOT NULL DEFAULT 0 CHECK (retries >= 0),
    events_from     INTEGER NOT NULL DEFAULT 0,
    worker          TEXT CHECK (worker IS NULL OR json_valid(worker)),
    error           TEXT CHECK (error IS NULL OR json_valid(error)),
    model           TEXT,
    created_at      REAL NOT NULL,
    queued_at       REAL,
    started_at      REAL,
    finished_at     REAL,
    deleted         INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    CHECK ((state IN ('finished', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'failed' OR error IS NOT NULL),
    CHECK (worker IS NULL OR state IN ('starting', 'running', 'saving', 'pausing'))
) STRICT;

CREATE INDEX jobs_waiting ON jobs (priority DESC, queued_at, number) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (deleted, state);

-- One attempt at a time may work in a run directory.
CREATE UNIQUE INDEX jobs_live_run ON jobs (run_path)
    WHERE state IN ('created', 'queued', 'starting', 'running', 'saving', 'pausing', 'paused');

-- What happened to a job and why, in the order it happened; nothing here is ever changed.
CREATE TABLE job_log (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    job      TEXT NOT NULL,
    time     REAL NOT NULL,
    before   TEXT,
    after    TEXT NOT NULL,
    attempt  INTEGER NOT NULL,
    reason   TEXT NOT NULL
) STRICT;
CREATE INDEX job_log_of ON job_log (job, number);

CREATE TABLE files (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE CHECK (id GLOB 'file-*'),
    filename    TEXT NOT NULL,
    stored      TEXT NOT NULL UNIQUE,
    purpose     TEXT NOT NULL,
    bytes       INTEGER NOT NULL CHECK (bytes >= 0),
    sha256      TEXT NOT NULL CHECK (length(sha256) = 64),
    created_at  REAL NOT NULL
) STRICT;

CREATE TABLE job_files (
    job   TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    file  TEXT NOT NULL,
    PRIMARY KEY (job, file)
) STRICT;
CREATE INDEX job_files_of ON job_files (file);
