"""The journal: one row for each turn of the loop, durable once `append` has returned.

One rule: what `append` returned from has survived, and after a failure nothing is appended any more, since
memory and disk may differ by one turn; the daemon ends and replays. The events are opaque bytes here
(`journal.codec`). Opened by `app`, which reads all turns for the replay; appended to by `runtime.loop`
alone, one turn at a time.

SQLite runs in aiosqlite's thread. An append is a single INSERT in autocommit mode: one trip to the thread,
and a transaction of its own.
"""

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

import aiosqlite
from anyio import CancelScope, to_thread

from derny.journal import migrations, recovery, replacement
from derny.journal.errors import JournalError, JournalLocked

DATABASE: Final = "derny.db"
LOCK: Final = "derny.lock"

PAGE_BYTES: Final = 4096
AUTOCHECKPOINT_PAGES: Final = 10_000
"""When a busy journal moves its log into the database unasked: 40 MB. With SQLite's own 1,000 the p99 of
large commits was 11 ms instead of 4; idle moments (`checkpoint`) do most of it."""
IDLE_CHECKPOINT_PAGES: Final = 500
"""The least that is worth a checkpoint in an idle moment: 2 MB."""

CHUNK_TURNS: Final = 1000
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""What `read` holds at once; a larger turn is a chunk of its own."""

CLOSED: Final = "The journal is closed."

FULL: Final = 2
"""`PRAGMA synchronous`: fsync at every commit. NORMAL may lose acknowledged commits at power loss."""


class Journal:
    """An open journal. `recovered` is what was found; `last_revision` the last durable turn, or 0."""

    def __init__(
        self, connection: aiosqlite.Connection, lock: int | None, recovered: recovery.Recovery
    ) -> None:
        self.recovered = recovered
        self.last_revision = recovered.last_revision
        self._checksum = recovered.checksum
        self._connection = connection
        self._lock = lock
        self._writing = False
        self._failure: str | None = None
        self._pages_in_log = 0

    @classmethod
    async def open(cls, directory: Path | None) -> Self:
        """Open, and if need be make or repair, the journal in a directory; None keeps it in memory.

        Raises JournalLocked if another daemon has the directory, JournalError if the journal can't be used.
        A cancellation waits until the journal is open. Close it, or its thread keeps the process from ending.
        """
        with CancelScope(shield=True):
            if directory is None:
                journal = await cls._connect(":memory:", None, recovery.NOTHING)
            else:
                lock, recovered = await to_thread.run_sync(_prepare, directory)
                journal = await cls._connect(directory / DATABASE, lock, recovered)
        return journal

    @classmethod
    async def _connect(cls, database: Path | str, lock: int | None, recovered: recovery.Recovery) -> Self:
        connection = None
        try:
            connection = await aiosqlite.connect(database, isolation_level=None)
            await _configure(connection, "memory" if lock is None else "wal")
            await _migrate(connection)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            _release(lock)
            if isinstance(error, sqlite3.Error):
                raise JournalError(f"The journal {database} can't be opened: {error}.") from error
            raise
        return cls(connection, lock, recovered)

    async def append(self, at: float, events: bytes) -> int:
        """Make a turn durable and return its revision. `at` is in seconds since the epoch, and finite.

        Raises JournalError if it can't be made durable; from then on every write is refused. A cancellation
        by an anyio scope waits until the turn is durable and its revision counted. A bare `Task.cancel()`
        can't be held up: the turn still completes on the thread, but nobody here knows, so this counts as a
        failure too.
        """
        at += 0.0  # SQLite would turn -0.0 into 0.0, and the checksum would not match
        revision = self.last_revision + 1
        checksum = recovery.chained(self._checksum, revision, at, events)
        await self._write(
            "INSERT INTO turns (revision, at, events, checksum) VALUES (?, ?, ?, ?)",
            (revision, at, events, checksum),
        )
        self.last_revision, self._checksum = revision, checksum
        self._pages_in_log += 1 + len(events) // PAGE_BYTES
        return revision

    async def read(self, after: int = 0) -> AsyncIterator[list[tuple[int, float, bytes]]]:
        """The turns past a revision as (revision, at, events), in order, in chunks fit for memory."""
        while through := await self._chunk_end(after):
            rows = await self._fetch(
                "SELECT revision, at, events FROM turns WHERE revision BETWEEN ? AND ? ORDER BY revision",
                (after + 1, through),
            )
            yield [(revision, at, events) for revision, at, events in rows]
            after = through

    async def meta(self, key: str) -> str | None:
        """A setting kept beside the turns, such as the seed; None if it was never set."""
        rows = await self._fetch("SELECT value FROM meta WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    async def set_meta(self, key: str, value: str) -> None:
        """Keep a setting, durably. Raises JournalError as `append` does."""
        await self._write("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    async def checkpoint(self) -> None:
        """Move the log into the database if that is worth it; for idle moments, of the task that appends."""
        if self._pages_in_log >= IDLE_CHECKPOINT_PAGES:
            await self._checkpoint("PASSIVE")

    async def close(self) -> None:
        """Finish, fold the log into the database and release the directory. May be repeated.

        Raises JournalError, closed all the same, if the log can't be folded; the next start will read it.
        """
        if self._failure == CLOSED:
            return
        with CancelScope(shield=True):
            try:
                if self._failure is None and self._lock is not None:
                    await self._checkpoint("TRUNCATE")
            finally:
                self._failure = CLOSED
                await self._connection.close()
                _release(self._lock)

    async def _write(self, sql: str, parameters: tuple[object, ...]) -> None:
        assert not self._writing, "only the loop writes to the journal, one write at a time"
        if self._failure is not None:
            raise JournalError(self._failure)
        self._writing = True
        try:
            with CancelScope(shield=True):
                await self._connection.execute_insert(sql, parameters)
        except sqlite3.Error as error:
            self._failure = f"The journal can't be written: {error}."
            raise JournalError(self._failure) from error
        except BaseException:
            self._failure = "A write to the journal was interrupted; whether it is durable is not known here."
            raise
        finally:
            self._writing = False

    async def _checkpoint(self, mode: str) -> None:
        await self.set_meta(recovery.CHECKPOINTED, str(self.last_revision))
        await self._write(f"PRAGMA wal_checkpoint({mode})", ())
        self._pages_in_log = 0

    async def _chunk_end(self, after: int) -> int | None:
        """The last revision of the chunk that follows a revision; None at the end."""
        sizes = await self._fetch(
            "SELECT revision, length(events) FROM turns WHERE revision > ? ORDER BY revision LIMIT ?",
            (after, CHUNK_TURNS),
        )
        totals = accumulate(length for _, length in sizes)
        fitting = [
            revision for (revision, _), total in zip(sizes, totals, strict=True) if total <= CHUNK_BYTES
        ]
        return fitting[-1] if fitting else sizes[0][0] if sizes else None

    async def _fetch(self, sql: str, parameters: tuple[object, ...]) -> list[sqlite3.Row]:
        if self._failure == CLOSED:
            raise JournalError(CLOSED)
        try:
            return list(await self._connection.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise JournalError(f"The journal can't be read: {error}.") from error


async def _configure(connection: aiosqlite.Connection, journal_mode: str) -> None:
    """Set the pragmas that durability rests on, and read them back: SQLite ignores those it can't fulfil."""
    wanted = {
        "journal_mode": journal_mode,
        "synchronous": FULL,
        "wal_autocheckpoint": AUTOCHECKPOINT_PAGES,
    }
    for pragma, value in wanted.items():
        await connection.execute_fetchall(f"PRAGMA {pragma} = {value}")
        ((found,),) = await connection.execute_fetchall(f"PRAGMA {pragma}")
        if found != value:
            raise JournalError(f"SQLite keeps {pragma} at {found!r} where the journal needs {value!r}.")


async def _migrate(connection: aiosqlite.Connection) -> None:
    ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
    for script in migrations.scripts_after(version):
        await connection.executescript(script)


def _prepare(directory: Path) -> tuple[int, recovery.Recovery]:
    """Make the directory if need be, lock it, and recover its database: all of opening that blocks."""
    lock = None
    try:
        _make_private(directory)
        lock = _acquire(directory)
        return lock, recovery.recover(directory / DATABASE)
    except BaseException as error:
        _release(lock)
        if isinstance(error, OSError | sqlite3.Error):
            raise JournalError(f"The journal in {directory} can't be opened: {error}.") from error
        raise


def _make_private(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o700)  # by itself, since the umask cuts what mkdir is told
        replacement.sync_directory(directory.parent)


def _acquire(directory: Path) -> int:
    """Lock a directory, and return what holds the lock until it is closed or the process ends."""
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(lock, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise JournalLocked(
                f"{directory} is in use by another derny daemon, process {holder}."
            ) from error
        raise
    return lock


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
