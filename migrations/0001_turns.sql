-- The journal: one row for each turn of the loop, and a few settings beside it.
-- `checksum` chains each row to the one before it (derny.journal.recovery.chained), so that a missing, moved or
-- altered row is noticed. No revision is ever reused or skipped.

PRAGMA application_id = 0x6465726e;  -- "dern": tells a journal from any other SQLite file

CREATE TABLE turns (
    revision INTEGER PRIMARY KEY,
    at       REAL    NOT NULL,  -- when the turn was decided, in seconds since the epoch
    events   BLOB    NOT NULL,  -- the turn's events, opaque here (derny.journal.codec)
    checksum INTEGER NOT NULL
);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;
