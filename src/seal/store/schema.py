"""The tables of `run.db`."""

from __future__ import annotations

VERSION = 1
"""Goes up with every change of a table; kept in SQLite's `user_version`."""

TABLES = """
CREATE TABLE problems (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    payload TEXT NOT NULL,
    queries TEXT NOT NULL,              -- JSON
    cluster TEXT NOT NULL
);
CREATE TABLE edits (
    id TEXT PRIMARY KEY,                -- phase/round/problem/index
    phase TEXT NOT NULL,                -- train, or the condition an evaluation measures
    round INTEGER NOT NULL,
    problem TEXT NOT NULL REFERENCES problems (id),
    "index" INTEGER NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    prompt TEXT NOT NULL,               -- JSON
    examples TEXT NOT NULL,             -- JSON
    tuning TEXT NOT NULL,               -- JSON
    cut INTEGER NOT NULL,
    fault_kind TEXT,                    -- NULL: it could be used
    fault_message TEXT
);
CREATE TABLE trials (
    id TEXT PRIMARY KEY,                -- edit/repeat; phase/round/problem/base for the unchanged model
    phase TEXT NOT NULL,
    round INTEGER NOT NULL,
    problem TEXT NOT NULL REFERENCES problems (id),
    edit TEXT REFERENCES edits (id),    -- NULL: the unchanged model
    repeat INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    saved TEXT,                         -- NULL: no trial's adapter is kept
    train_tokens INTEGER NOT NULL,
    train_steps INTEGER NOT NULL,
    train_seconds REAL NOT NULL,
    answer_tokens INTEGER NOT NULL,
    answer_seconds REAL NOT NULL,
    losses TEXT NOT NULL,               -- JSON
    fault_kind TEXT,                    -- NULL: it was answered
    fault_message TEXT
);
CREATE TABLE answers (
    trial TEXT NOT NULL REFERENCES trials (id),
    place INTEGER NOT NULL,             -- order within the trial
    query TEXT NOT NULL,
    text TEXT NOT NULL,
    score REAL,                         -- NULL: could not be graded
    metrics TEXT NOT NULL,              -- JSON
    PRIMARY KEY (trial, place)
) WITHOUT ROWID;
CREATE TABLE rewards (
    edit TEXT NOT NULL REFERENCES edits (id),
    name TEXT NOT NULL,
    value REAL,                         -- NULL: not to be learnt from
    PRIMARY KEY (edit, name)
) WITHOUT ROWID;
CREATE TABLE kept (
    phase TEXT NOT NULL,
    round INTEGER NOT NULL,
    edit TEXT NOT NULL REFERENCES edits (id),
    PRIMARY KEY (phase, round, edit)
) WITHOUT ROWID;
CREATE TABLE metrics (
    round INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (round, name)
) WITHOUT ROWID;
CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL                 -- JSON
) WITHOUT ROWID;
CREATE INDEX edits_of_round ON edits (phase, round);
CREATE INDEX trials_of_round ON trials (phase, round);
"""
