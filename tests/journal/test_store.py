"""What `append` returned from survives, in order, whatever happens; nothing follows a failure."""

import asyncio
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derny.journal import store
from derny.journal.errors import JournalError, JournalLocked
from derny.journal.store import Journal


@asynccontextmanager
async def opened(directory):
    journal = await Journal.open(directory)
    try:
        yield journal
    finally:
        await journal.close()


async def turns_of(journal, after=0):
    return [turn async for chunk in journal.read(after) for turn in chunk]


async def closed_after(directory, turns):
    async with opened(directory) as journal:
        for at, events in turns:
            await journal.append(at, events)


def copied_as_by_a_crash(directory, copy):
    """The files as a kill -9 would leave them at this moment: the log is there, unread."""
    copy.mkdir()
    for name in ("derny.db", "derny.db-wal"):
        if (directory / name).exists():
            shutil.copy(directory / name, copy / name)
    return copy


@pytest.fixture(params=["file", "memory"])
def home(request, tmp_path):
    return tmp_path / "data" if request.param == "file" else None


@pytest.mark.asyncio
async def test_turns_are_read_back_in_order_as_appended(home):
    turns = [(1.5, b"one"), (1.5, b""), (2.0, bytes(range(256)) * 400), (1e9 + 1 / 3, b"four")]
    async with opened(home) as journal:
        revisions = [await journal.append(at, events) for at, events in turns]
        assert revisions == [1, 2, 3, 4]
        assert journal.last_revision == 4
        assert await turns_of(journal) == [(n, at, events) for n, (at, events) in enumerate(turns, 1)]
        assert await turns_of(journal, after=3) == [(4, *turns[3])]
        assert await turns_of(journal, after=4) == []


@pytest.mark.asyncio
async def test_a_closed_journal_opens_with_everything_and_goes_on(tmp_path):
    await closed_after(tmp_path, [(1.0, b"a"), (2.0, b"b")])
    async with opened(tmp_path) as journal:
        assert journal.recovered[:2] == (2, 2)
        assert journal.recovered.damage is None
        assert await journal.append(3.0, b"c") == 3
    async with opened(tmp_path) as journal:
        assert await turns_of(journal) == [(1, 1.0, b"a"), (2, 2.0, b"b"), (3, 3.0, b"c")]


@pytest.mark.asyncio
async def test_closing_leaves_no_log_behind_and_may_be_repeated(tmp_path):
    journal = await Journal.open(tmp_path)
    await journal.append(1.0, b"x" * 10_000)
    await journal.close()
    await journal.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["derny.db", "derny.lock"]
    for refused in (journal.append(2.0, b""), journal.meta("seed"), journal.set_meta("seed", "1")):
        with pytest.raises(JournalError, match="closed"):
            await refused


@pytest.mark.asyncio
async def test_chunks_are_bounded_in_turns_and_in_bytes(monkeypatch):
    monkeypatch.setattr(store, "CHUNK_TURNS", 4)
    monkeypatch.setattr(store, "CHUNK_BYTES", 100)
    sizes = [10, 10, 10, 10, 10, 60, 60, 300, 1, 100]
    async with opened(None) as journal:
        for size in sizes:
            await journal.append(0.0, b"." * size)
        chunks = [[len(events) for _, _, events in chunk] async for chunk in journal.read()]
    assert chunks == [[10, 10, 10, 10], [10, 60], [60], [300], [1], [100]]


@pytest.mark.asyncio
async def test_settings_are_kept_beside_the_turns(home):
    async with opened(home) as journal:
        assert await journal.meta("seed") is None
        await journal.set_meta("seed", "1")
        await journal.set_meta("seed", "2")
        assert await journal.meta("seed") == "2"
    if home is not None:
        async with opened(home) as journal:
            assert await journal.meta("seed") == "2"


@pytest.mark.asyncio
async def test_every_commit_is_synchronous_and_the_log_is_checkpointed_late(tmp_path):
    async with opened(tmp_path) as journal:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("wal_autocheckpoint", 10_000)):
            ((found,),) = await journal._connection.execute_fetchall(f"PRAGMA {pragma}")
            assert found == value, pragma


@pytest.mark.asyncio
async def test_an_idle_checkpoint_moves_the_log_into_the_database_once_it_is_worth_it(tmp_path):
    database = tmp_path / store.DATABASE
    async with opened(tmp_path) as journal:
        empty = database.stat().st_size
        await journal.append(1.0, b"small")
        await journal.checkpoint()
        assert database.stat().st_size == empty
        await journal.append(2.0, b"x" * store.IDLE_CHECKPOINT_PAGES * store.PAGE_BYTES)
        await journal.checkpoint()
        assert database.stat().st_size > store.IDLE_CHECKPOINT_PAGES * store.PAGE_BYTES
        assert await journal.append(3.0, b"more") == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
async def test_files_are_their_owners_alone_whatever_the_umask(tmp_path, umask):
    directory = tmp_path / "deep" / "data"
    directory.parent.mkdir()
    before = os.umask(umask)
    try:
        async with opened(directory) as journal:
            await journal.append(1.0, b"x")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("derny.db", "derny.db-wal", "derny.db-shm", "derny.lock"), 0o600)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.asyncio
async def test_a_second_journal_in_one_process_is_refused_until_the_first_is_closed(tmp_path):
    async with opened(tmp_path):
        with pytest.raises(JournalLocked, match=rf"{tmp_path} is in use .* process {os.getpid()}\."):
            await Journal.open(tmp_path)
    async with opened(tmp_path) as journal:
        assert journal.last_revision == 0


APPENDER = """
import asyncio, sys
from pathlib import Path
from derny.journal.store import Journal

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    print("open", journal.last_revision, flush=True)
    while True:
        size = journal.last_revision * 7919 % 30_000
        print(await journal.append(float(journal.last_revision), b"x" * size), flush=True)

asyncio.run(main())
"""


def start_appender(directory):
    command = [sys.executable, "-c", APPENDER, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.asyncio
async def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path):
    with start_appender(tmp_path) as holder:
        try:
            assert holder.stdout.readline().startswith("open")
            with pytest.raises(JournalLocked, match=rf"process {holder.pid}\."):
                await Journal.open(tmp_path)
        finally:
            holder.kill()


@pytest.mark.asyncio
async def test_after_kill_9_every_acknowledged_turn_is_there(tmp_path):
    for acknowledgements in (1, 40, 7, 250, 90):
        with start_appender(tmp_path) as appender:
            lines = [appender.stdout.readline() for _ in range(acknowledgements + 1)]
            appender.send_signal(signal.SIGKILL)
            lines += appender.stdout.readlines()
        acknowledged = int(lines[-1])
        async with opened(tmp_path) as journal:
            # The kill may have come between the commit and its acknowledgement.
            assert acknowledged <= journal.last_revision <= acknowledged + 1
            assert "set aside" not in (journal.recovered.damage or "")
            assert [len(events) for _, _, events in await turns_of(journal)] == [
                revision * 7919 % 30_000 for revision in range(journal.last_revision)
            ]


@pytest.mark.asyncio
async def test_after_a_failed_append_every_write_is_refused_and_nothing_was_kept(tmp_path):
    async with opened(tmp_path) as journal:
        await journal.append(1.0, b"kept")
        # As full as a disk can be.
        await journal._connection.execute_fetchall("PRAGMA max_page_count = 1")
        with pytest.raises(JournalError, match="can't be written: database or disk is full"):
            await journal.append(2.0, b"x" * 100_000)
        with pytest.raises(JournalError, match="disk is full"):
            await journal.append(2.0, b"small enough")
        with pytest.raises(JournalError, match="disk is full"):
            await journal.set_meta("seed", "1")
        assert journal.last_revision == 1
    async with opened(tmp_path) as journal:
        assert await turns_of(journal) == [(1, 1.0, b"kept")]


@pytest.mark.asyncio
async def test_a_time_that_is_not_a_number_is_refused():
    async with opened(None) as journal:
        with pytest.raises(JournalError):
            await journal.append(math.nan, b"")


@pytest.mark.asyncio
async def test_a_cancelled_scope_waits_until_the_turn_is_durable_and_counted(tmp_path):
    async with opened(tmp_path) as journal:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.append(1.0, b"whole")
        assert journal.last_revision == 1
        assert await journal.append(2.0, b"next") == 2
        assert await turns_of(journal) == [(1, 1.0, b"whole"), (2, 2.0, b"next")]


@pytest.mark.asyncio
async def test_an_append_interrupted_from_outside_refuses_all_others_and_is_found_at_the_next_start(tmp_path):
    journal = await Journal.open(tmp_path)
    task = asyncio.create_task(journal.append(1.0, b"whole"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(JournalError, match="interrupted"):
        await journal.append(2.0, b"")
    await journal.close()
    async with opened(tmp_path) as journal:
        assert await turns_of(journal) == [(1, 1.0, b"whole")]


@pytest.mark.asyncio
async def test_two_appends_at_once_are_a_broken_promise():
    async with opened(None) as journal:
        first = asyncio.create_task(journal.append(1.0, b"first"))
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="one write at a time"):
            await journal.append(1.0, b"second")
        assert await first == 1


@pytest.mark.asyncio
async def test_a_directory_that_cant_be_made_is_a_journal_error(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(JournalError, match="can't be opened"):
        await Journal.open(tmp_path / "file")


TIMES = st.floats(allow_nan=False)
BLOBS = st.binary(max_size=60) | st.binary(min_size=5000, max_size=9000)
STEPS = st.lists(st.tuples(TIMES, BLOBS) | st.sampled_from(["close", "crash", "checkpoint"]), max_size=25)


async def play(steps, directory):
    """Play steps against a journal and a list, and compare them after each reopening and at the end."""
    model = []
    journal = await Journal.open(directory)
    try:
        for step in steps:
            match step:
                case "close" | "crash":
                    if step == "crash":
                        directory = copied_as_by_a_crash(directory, directory.with_name(directory.name + "-"))
                    await journal.close()
                    journal = await Journal.open(directory)
                    assert journal.recovered.damage is None
                    assert await turns_of(journal) == model
                case "checkpoint":
                    await journal._checkpoint("PASSIVE")
                case at, events:
                    assert await journal.append(at, events) == len(model) + 1
                    model.append((len(model) + 1, at, events))
        assert await turns_of(journal) == model
    finally:
        await journal.close()


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_a_journal_is_a_list_that_survives_closing_and_crashing(tmp_path_factory, steps):
    asyncio.run(play(steps, tmp_path_factory.mktemp("journal") / "d"))
