"""A fresh database put where none was, or where a damaged one was set aside.

One rule: a crash at any moment leaves either the old state or the new one. The database is written as
`-building` and renamed to `-rebuilt` once it is whole and durable; from then on the replacement is decided,
and `finish` carries it out, if need be at the next start. A write-ahead log must never meet a database that
isn't its own, so the old log goes before the new database takes the name. Called by `recovery` alone.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from derny.journal import migrations

Row = tuple[Any, Any, Any, Any]
"""A turn as it lies in the table: revision, at, events, checksum. A damaged file may hold values of any
type."""


def write(path: Path, turns: Iterable[Row], meta: dict[str, str]) -> None:
    """Write a whole, durable database beside `path`, ready to be put in its place by `finish`.

    Raises OSError or sqlite3.Error, and changes nothing that counts, if the disk is full or fails.
    """
    building = beside(path, "-building")
    for suffix in ("", "-wal", "-shm"):
        beside(building, suffix).unlink(missing_ok=True)
    _create(building).close()
    with closing(sqlite3.connect(building, isolation_level=None)) as fresh:
        # Until its renaming the file is worth nothing, so it needs no way back.
        fresh.execute("PRAGMA journal_mode = OFF")
        for script in migrations.scripts_after(0):
            fresh.executescript(script)
        fresh.execute("BEGIN")
        fresh.executemany("INSERT INTO turns (revision, at, events, checksum) VALUES (?, ?, ?, ?)", turns)
        fresh.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", meta.items())
        fresh.execute("COMMIT")
        fresh.execute("PRAGMA journal_mode = WAL")
    with building.open("rb") as file:
        os.fsync(file.fileno())
    building.rename(beside(path, "-rebuilt"))
    sync_directory(path.parent)


def finish(path: Path) -> bool:
    """Put a database that was written in the place of the old one. Whether there was one; may be repeated."""
    rebuilt = beside(path, "-rebuilt")
    if not rebuilt.exists():
        return False
    beside(path, "-wal").unlink(missing_ok=True)
    beside(path, "-shm").unlink(missing_ok=True)
    sync_directory(path.parent)
    rebuilt.rename(path)
    sync_directory(path.parent)
    return True


def set_aside(path: Path) -> Path:
    """Make durable copies of a database and its log under the next free number, where they open as a pair."""
    number = 1
    while (aside := beside(path, f".damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal"):
        if beside(path, suffix).exists():
            with beside(path, suffix).open("rb") as source, _create(beside(aside, suffix)) as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
    sync_directory(path.parent)
    return aside


def beside(path: Path, suffix: str) -> Path:
    """The file that goes with a database, named as SQLite names them: the whole name and a suffix."""
    return path.with_name(path.name + suffix)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable, which POSIX leaves to an fsync of its own."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path) -> BinaryIO:
    """A new file for its owner alone, whatever the umask. SQLite gives a log the mode of its database."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "r+b")
