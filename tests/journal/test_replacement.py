"""A fresh database is whole and durable before it takes a name, and never meets a log that isn't its own."""

import os
import sqlite3
from contextlib import closing

import pytest

from derny.journal import replacement

TURNS = [(1, 0.5, b"one", 11), (2, 1.5, b"two", 22)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "derny.db"


def names_in(directory):
    return sorted(file.name for file in directory.iterdir())


def test_what_was_written_waits_until_it_is_finished(path):
    assert not replacement.finish(path)
    replacement.write(path, TURNS, {"seed": "7"})
    assert names_in(path.parent) == ["derny.db-rebuilt"]
    assert replacement.finish(path)
    assert names_in(path.parent) == ["derny.db"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM turns").fetchall() == TURNS
        assert connection.execute("SELECT * FROM meta").fetchall() == [("seed", "7")]


def test_the_old_log_goes_with_the_old_database(path):
    for suffix in ("", "-wal", "-shm"):
        replacement.beside(path, suffix).write_bytes(b"old")
    replacement.write(path, TURNS, {})
    assert path.read_bytes() == b"old"
    replacement.finish(path)
    assert names_in(path.parent) == ["derny.db"]


def test_what_an_interrupted_writing_left_is_written_anew(path):
    def interrupted():
        yield TURNS[0]
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        replacement.write(path, interrupted(), {})
    assert not replacement.finish(path), "half a database never takes the name"
    replacement.write(path, TURNS, {})
    assert replacement.finish(path)


def test_copies_are_set_aside_as_a_pair_and_never_over_others(path):
    path.write_bytes(b"database")
    replacement.beside(path, "-wal").write_bytes(b"log")
    before = os.umask(0)
    try:
        asides = [replacement.set_aside(path) for _ in range(2)]
    finally:
        os.umask(before)
    assert [aside.name for aside in asides] == ["derny.db.damaged-1", "derny.db.damaged-2"]
    for aside in asides:
        assert aside.read_bytes() == b"database"
        assert replacement.beside(aside, "-wal").read_bytes() == b"log"
        assert aside.stat().st_mode & 0o777 == 0o600
