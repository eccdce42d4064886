"""Turns found without the tree are those that the tree would have led to, and garbage yields none."""

import random
import sqlite3
from contextlib import closing

import pytest

from derny.journal import migrations, replacement
from derny.journal.leaves import Leaves

SIZES = [0, 1, 57, 58, 2000, 4050, 4060, 4061, 4062, 4090, 8200, 40_000, 300]
"""Around the most that a leaf holds of a record, and far beyond."""


@pytest.fixture
def rows():
    generator = random.Random(3)
    times = [0.0, 1.0, -2.5, 1_700_000_000.0, 1_700_000_000.25, 300.0]
    checksums = [0, 1, 127, 128, 40_000, 2**23, 2**31, 2**32 - 1]
    return [
        (n, times[n % 6], generator.randbytes(size), checksums[n % 8])
        for n, size in enumerate(SIZES * 12, start=1)
    ]


@pytest.fixture
def database(tmp_path, rows):
    path = tmp_path / "derny.db"
    replacement.write(path, rows, {"seed": "7"})
    replacement.finish(path)
    return path


def found(path, count):
    with Leaves(path) as leaves:
        return [list(leaves.turns(revision)) for revision in range(1, count + 1)]


def test_every_turn_of_a_sound_database_is_found_as_sqlite_reads_it(database, rows):
    with closing(sqlite3.connect(database)) as connection:
        read = connection.execute(
            "SELECT revision, at, events, checksum FROM turns ORDER BY revision"
        ).fetchall()
    assert read == rows
    assert [candidates[0] for candidates in found(database, len(rows))] == rows
    assert found(database, len(rows) + 1)[-1] == []


def test_the_root_is_not_needed(database, rows):
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    assert [candidates[0] for candidates in found(database, len(rows))] == rows


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_pages_hold_nothing_is_raised(database, rows, seed):
    """Bytes are altered everywhere but in the header of the file, so links and lengths lead anywhere."""
    generator = random.Random(seed)
    data = bytearray(database.read_bytes())
    for _ in range(2000):
        data[generator.randrange(4096, len(data))] = generator.choice((0, 1, 0x0D, 0x7F, 0xFF))
    for start in range(4096, len(data), 4096):
        data[start] = 0x0D
    database.write_bytes(data)
    intact = sum(row in candidates for row, candidates in zip(rows, found(database, len(rows)), strict=True))
    assert intact < len(rows)


def test_a_database_of_another_page_size_is_read_too(tmp_path, rows):
    path = tmp_path / "derny.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 65536")
        for script in migrations.scripts_after(0):
            connection.executescript(script)
        connection.executemany("INSERT INTO turns VALUES (?, ?, ?, ?)", rows)
    assert [candidates[0] for candidates in found(path, len(rows))] == rows
