"""Frames that SQLite would silently pass over are counted, and those of an earlier generation are not."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from derny.journal import wal
from derny.journal.wal import Unread

PAGE_BYTES = 4096
STRIDE = wal.FRAME_HEADER_BYTES + PAGE_BYTES


def commit(connection, count):
    for _ in range(count):
        connection.execute("INSERT INTO things VALUES (x'00')")


@pytest.fixture
def database(tmp_path):
    """A database whose log is in its second generation: 3 one-page commits over the first of 10."""
    running = tmp_path / "running.db"
    with closing(sqlite3.connect(running, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE things (thing)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        commit(connection, 10)
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        commit(connection, 3)
        for suffix in ("", "-wal"):
            shutil.copy(f"{running}{suffix}", f"{tmp_path / 'crashed.db'}{suffix}")
    return tmp_path / "crashed.db"


def log_of(database):
    return database.with_name(database.name + "-wal")


def unread(database):
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT count(*) FROM things").fetchone()
        return wal.unread(database)


def flip(database, offset):
    content = bytearray(log_of(database).read_bytes())
    content[offset] ^= 1
    log_of(database).write_bytes(content)


def test_old_frames_behind_a_sound_log_dont_count(database):
    assert log_of(database).stat().st_size == wal.HEADER_BYTES + 10 * STRIDE
    assert unread(database) == Unread(0, 0)


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_an_altered_frame_hides_itself_and_all_behind_it(database, frame):
    flip(database, wal.HEADER_BYTES + frame * STRIDE + wal.FRAME_HEADER_BYTES + 4000)
    assert unread(database) == Unread(3 - frame, 3 - frame)


def test_an_altered_header_hides_the_whole_log(database):
    flip(database, 16)
    assert unread(database) == Unread(3, 3)


def test_no_log_and_an_empty_log_hide_nothing(database):
    log_of(database).write_bytes(b"")
    assert unread(database) == Unread(0, 0)
    log_of(database).unlink()
    assert unread(database) == Unread(0, 0)
