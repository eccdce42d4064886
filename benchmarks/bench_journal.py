"""Commits of the journal, beside the same inserts by plain sqlite3, and the reading back of many turns.

Run as `python benchmarks/bench_journal.py`. The baseline is sqlite3 on the calling thread with the same
pragmas, so the ratio is the price of the event loop, the trip to aiosqlite's thread and the checksum. Works
in a directory that is removed at the end, on the disk of TMPDIR: set it to measure another.
"""

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from derny.journal import recovery, store
from derny.journal.store import Journal

COMMITS_BY_BLOB_BYTES = {200: 3000, 20_000: 2000, 200_000: 300}
READ_TURNS = 200_000
READ_BLOB_BYTES = 200
INSERT = "INSERT INTO turns (revision, at, events, checksum) VALUES (?, ?, ?, ?)"


async def commits(home: Path, blob: bytes, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each commit by plain sqlite3 and by the journal, in turns, since disks have moods."""
    plain_s, journal_s = [], []
    journal = await Journal.open(home / "journal")
    try:
        with closing(await plain_database(home / "plain")) as plain:
            for revision in range(1, count + 1):
                start = time.perf_counter()
                plain.execute(INSERT, (revision, 1.0, blob, 0))
                between = time.perf_counter()
                await journal.append(1.0, blob)
                plain_s.append(between - start)
                journal_s.append(time.perf_counter() - between)
    finally:
        await journal.close()
    return plain_s, journal_s


async def plain_database(directory: Path) -> sqlite3.Connection:
    """A database that the journal made, opened by sqlite3 with the journal's pragmas."""
    await (await Journal.open(directory)).close()
    connection = sqlite3.connect(directory / store.DATABASE, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {store.AUTOCHECKPOINT_PAGES}")
    return connection


async def write_turns(directory: Path, count: int, blob: bytes) -> None:
    """A journal with a valid chain, in one transaction, since only the reading counts here."""
    checksum = 0
    with closing(await plain_database(directory)) as connection:
        connection.execute("BEGIN")
        for revision in range(1, count + 1):
            checksum = recovery.chained(checksum, revision, 1.0, blob)
            connection.execute(INSERT, (revision, 1.0, blob, checksum))
        connection.execute("COMMIT")


async def read_back(directory: Path) -> tuple[float, float]:
    """Seconds to open (which verifies all turns) and to read all turns."""
    start = time.perf_counter()
    journal = await Journal.open(directory)
    opened = time.perf_counter()
    try:
        assert sum([len(chunk) async for chunk in journal.read()]) == journal.last_revision == READ_TURNS
        return opened - start, time.perf_counter() - opened
    finally:
        await journal.close()


def percentile_us(durations_s: list[float], percent: int) -> float:
    """The value that this part of the durations does not exceed, in microseconds."""
    return sorted(durations_s)[math.ceil(len(durations_s) * percent / 100) - 1] * 1e6


def main() -> None:
    """Measure and print."""
    print("blob bytes   who     turns/s   p50 us   p99 us   of the baseline")
    with TemporaryDirectory() as home:
        for size, count in COMMITS_BY_BLOB_BYTES.items():
            blob = bytes(range(256)) * (size // 256 + 1)
            plain, ours = uvloop.run(commits(Path(home) / str(size), blob[:size], count))
            for who, durations in (("sqlite3", plain), ("journal", ours)):
                p50_us, p99_us = percentile_us(durations, 50), percentile_us(durations, 99)
                turns_per_s, ratio = count / sum(durations), sum(plain) / sum(durations)
                print(f"{size:10,} {who:>8} {turns_per_s:10,.0f} {p50_us:8,.0f} {p99_us:8,.0f} {ratio:8.2f}")
        uvloop.run(write_turns(Path(home) / "read", READ_TURNS, b"x" * READ_BLOB_BYTES))
        opening_s, reading_s = uvloop.run(read_back(Path(home) / "read"))
        print(
            f"{READ_TURNS:,} turns of {READ_BLOB_BYTES} bytes: {opening_s:.2f} s to open and verify,", end=" "
        )
        print(f"{reading_s:.2f} s to read")


if __name__ == "__main__":
    main()
