"""A damaged journal keeps exactly its longest good prefix, and says what was lost and where the rest is."""

import asyncio
import os
import random
import shutil
import sqlite3
import struct
from contextlib import closing

import pytest

from derny.journal import recovery, replacement
from derny.journal.errors import JournalError
from derny.journal.recovery import recover
from derny.journal.store import DATABASE, Journal

TURNS = 40


def events_of(revision):
    return bytes([revision]) * (revision * 997 % 9000)


async def append_turns(journal, count):
    for _ in range(count):
        revision = journal.last_revision + 1
        await journal.append(revision / 2, events_of(revision))


@pytest.fixture(scope="module")
def sizes():
    """How long the database of `sound` was once each turn had been checkpointed into it."""
    return []


@pytest.fixture(scope="module")
def sound(tmp_path_factory, sizes):
    """A closed journal of TURNS turns; copy it before use."""

    async def make(path):
        journal = await Journal.open(path.parent)
        await journal.set_meta("seed", "7")
        for _ in range(TURNS):
            await append_turns(journal, 1)
            await journal._checkpoint("TRUNCATE")
            sizes.append(path.stat().st_size)
        await journal.close()

    path = tmp_path_factory.mktemp("sound") / DATABASE
    asyncio.run(make(path))
    return path


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """Half of the turns are checkpointed into the database, the other half is in the log alone."""

    async def make(directory, copy):
        journal = await Journal.open(directory)
        await journal.set_meta("seed", "7")
        await append_turns(journal, TURNS // 2)
        await journal._checkpoint("TRUNCATE")
        await append_turns(journal, TURNS // 2)
        for name in (DATABASE, f"{DATABASE}-wal"):
            shutil.copy(directory / name, copy / name)
        await journal.close()

    copy = tmp_path_factory.mktemp("crashed")
    asyncio.run(make(tmp_path_factory.mktemp("running"), copy))
    return copy / DATABASE


def copied(database, directory):
    directory.mkdir(exist_ok=True)
    for file in database.parent.glob(f"{DATABASE}*"):
        shutil.copy(file, directory / file.name)
    return directory / DATABASE


def log_of(path):
    return replacement.beside(path, "-wal")


def turns_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT revision, at, events FROM turns ORDER BY revision").fetchall()


def assert_holds(path, kept):
    assert turns_in(path) == [(n, n / 2, events_of(n)) for n in range(1, kept + 1)]


def meta_of(path, key):
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row and row[0]


def alter(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")  # or else a freed page would still hold its turns
        for statement in statements:
            connection.execute(statement)


TAMPERINGS = {
    "altered events": (11, "UPDATE turns SET events = events || x'00' WHERE revision = 12"),
    "altered time": (11, "UPDATE turns SET at = at + 0.001 WHERE revision = 12"),
    "altered checksum": (11, "UPDATE turns SET checksum = checksum + 1 WHERE revision = 12"),
    "events of another type": (11, "UPDATE turns SET events = 'text' WHERE revision = 12"),
    "time of another type": (11, "UPDATE turns SET at = 'noon' WHERE revision = 12"),
    "missing in the middle": (11, "DELETE FROM turns WHERE revision = 12"),
    "moved to the end": (11, "UPDATE turns SET revision = 99 WHERE revision = 12"),
    "an invented turn": (TURNS, f"INSERT INTO turns VALUES ({TURNS + 1}, 1.0, x'', 5)"),
    "an end cut off": (30, "DELETE FROM turns WHERE revision > 30"),
}


@pytest.mark.parametrize(("kept", "statement"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_each_kind_of_tampering_keeps_exactly_the_turns_before_it(sound, tmp_path, kept, statement):
    path = copied(sound, tmp_path)
    alter(path, statement)
    found = recover(path)
    assert found[:2] == (kept, kept)
    assert f"{kept} turns of at least" in found.damage or kept == 30
    assert str(path) + ".damaged-1" in found.damage
    assert_holds(path, kept)
    assert meta_of(path, "seed") == "7"
    assert recover(path) == found._replace(damage=None), "the next start finds it sound"


def test_swapped_turns_keep_those_before_the_first_of_them(sound, tmp_path):
    path = copied(sound, tmp_path)
    alter(
        path,
        *(
            f"UPDATE turns SET revision = {new} WHERE revision = {old}"
            for old, new in ((5, 0), (6, 5), (0, 6))
        ),
    )
    assert recover(path).last_revision == 4
    assert_holds(path, 4)


def test_the_damaged_file_is_set_aside_byte_for_byte_under_the_next_free_number(sound, tmp_path):
    path = copied(sound, tmp_path)
    for number, last_good in ((1, 20), (2, 10)):
        alter(path, f"DELETE FROM turns WHERE revision = {last_good + 1}")
        damaged = path.read_bytes()
        assert f".damaged-{number}" in recover(path).damage
        aside = replacement.beside(path, f".damaged-{number}")
        assert aside.read_bytes() == damaged
        assert aside.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_mode & 0o777 == 0o600


def test_no_turn_to_keep_is_refused_and_nothing_touched(sound, tmp_path):
    path = copied(sound, tmp_path)
    alter(path, "UPDATE turns SET at = 0 WHERE revision = 1")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="none of its turns can be kept; nothing was touched"):
        recover(path)
    assert path.read_bytes() == before


def test_a_rebuilt_journal_goes_on_and_chains_from_what_was_kept(sound, tmp_path):
    path = copied(sound, tmp_path)
    alter(path, "DELETE FROM turns WHERE revision = 21")

    async def go_on():
        for already, damaged in ((20, True), (25, False)):
            journal = await Journal.open(tmp_path)
            try:
                assert journal.last_revision == already
                assert (journal.recovered.damage is not None) == damaged
                assert await journal.meta("seed") == "7"
                await append_turns(journal, 5)
            finally:
                await journal.close()

    asyncio.run(go_on())
    assert_holds(path, 30)


@pytest.mark.parametrize("cut", range(16))
def test_a_truncated_database_keeps_all_turns_that_lie_before_the_cut(sound, sizes, tmp_path, cut):
    path = copied(sound, tmp_path)
    length = path.stat().st_size * cut // 16 + cut
    os.truncate(path, length)
    whole = sum(size <= length for size in sizes)
    try:
        found = recover(path)
    except JournalError as refusal:
        assert "nothing was touched" in str(refusal)
        assert path.stat().st_size == length
        assert whole < 10, "the first turns share a page that moves once when the tree gets its second level"
    else:
        # The turn on the edge is kept too if what the cut took of its last page was empty.
        assert whole <= found.last_revision <= whole + 1
        assert "was damaged" in found.damage
        assert_holds(path, found.last_revision)


PAGE_BYTES = 4096
FILLINGS = {
    "zeros": lambda length: bytes(length),
    "ones": lambda length: b"\xff" * length,
    "noise": lambda length: random.Random(5).randbytes(length),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A closed journal of 60 small turns, none of which spills over its leaf."""

    async def make(directory):
        journal = await Journal.open(directory)
        await journal.set_meta("seed", "7")
        for revision in range(1, 61):
            await journal.append(revision / 2, bytes([revision]) * (revision * 97 % 900))
        await journal.close()

    directory = tmp_path_factory.mktemp("small")
    asyncio.run(make(directory))
    return directory / DATABASE


def overwritten(database, directory, start, end, filling):
    path = copied(database, directory)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(FILLINGS[filling](end - start))
    return path


def leaf_revisions(path):
    """The revisions in each leaf of the turns, by the offset of its page."""
    revisions = {}
    with closing(sqlite3.connect(path)) as connection:
        pages = connection.execute(
            "SELECT pageno, ncell FROM dbstat WHERE name = 'turns' AND pagetype = 'leaf' ORDER BY path"
        ).fetchall()
    first = 1
    for number, cells in pages:
        revisions[(number - 1) * PAGE_BYTES] = first
        first += cells
    assert first == 61
    return revisions


async def used_again(directory):
    """Open, read, append and set: all that a daemon needs of its journal. The turns, the seed, the damage."""
    journal = await Journal.open(directory)
    try:
        seed = await journal.meta("seed")
        await journal.set_meta("seed", "8")
        turns = [turn async for chunk in journal.read() for turn in chunk]
        await journal.append(99.0, b"next")
        return turns, seed, journal.recovered.damage
    finally:
        await journal.close()


@pytest.mark.parametrize("filling", FILLINGS)
def test_whichever_page_is_lost_every_turn_before_its_own_is_kept(small, tmp_path, filling):
    pages = range(PAGE_BYTES, small.stat().st_size, PAGE_BYTES)
    assert len(pages) >= 8
    firsts, lost = leaf_revisions(small), []
    whole = turns_in(small)
    for start in pages:
        path = overwritten(small, tmp_path / str(start), start, start + PAGE_BYTES, filling)
        kept = firsts.get(start, 61) - 1
        if not kept:
            with pytest.raises(JournalError, match="none of its turns can be kept; nothing was touched"):
                recover(path)
            continue
        turns, seed, damage = asyncio.run(used_again(path.parent))
        assert turns == whole[:kept]
        assert f"{kept} turns " in damage
        assert replacement.beside(path, ".damaged-1").exists()
        assert ("so the seed is the one given now or a new one" in damage) == (seed is None)
        lost += [seed] if seed is None else []
        assert asyncio.run(used_again(path.parent))[1:] == ("8", None), "the next start finds it sound"
    assert len(lost) == 1, "only the page of the settings takes the seed along"


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("start", [0, 16, 18, 24, 40, 60])
def test_a_lost_header_is_refused_with_what_to_do(small, tmp_path, start, filling):
    """From its beginning, or from somewhere in it."""
    path = overwritten(small, tmp_path, start, PAGE_BYTES, filling)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="nothing was touched") as refused:
        asyncio.run(Journal.open(tmp_path))
    assert "Move it away to start afresh" in str(refused.value) or "not a journal of derny" in str(
        refused.value
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize("filling", FILLINGS)
def test_a_schema_that_is_lost_behind_a_sound_header_costs_the_settings_alone(small, tmp_path, filling):
    overwritten(small, tmp_path, 100, PAGE_BYTES, filling)
    turns, seed, damage = asyncio.run(used_again(tmp_path))
    assert (turns, seed) == (turns_in(small), None)
    assert "60 turns were kept" in damage


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET value = CAST(x'ff80' AS TEXT) WHERE key = 'seed'",
        "UPDATE meta SET value = x'37' WHERE key = 'seed'",
    ],
)
def test_a_setting_that_is_no_text_is_lost_but_no_turn(small, tmp_path, statement):
    path = copied(small, tmp_path)
    alter(path, statement)
    turns, seed, damage = asyncio.run(used_again(tmp_path))
    assert (len(turns), seed) == (60, None)
    assert "the settings beside its turns can't be read" in damage


def test_a_note_of_the_last_checkpoint_that_is_no_number_is_passed_over(small, tmp_path):
    path = copied(small, tmp_path)
    alter(path, f"UPDATE meta SET value = 'x' WHERE key = '{recovery.CHECKPOINTED}'")
    assert recover(path) == (60, 60, recover(small).checksum, None)


def commits_of(log):
    """The sizes that a log has right after each of its commits."""
    return [
        end
        for end in range(32 + 4120, len(log) + 1, 4120)
        if struct.unpack_from(">I", log, end - 4120 + 4)[0]
    ]


@pytest.mark.parametrize("cut", [*range(0, 64, 8), *(-(n**3) for n in range(1, 30))])
def test_a_truncated_log_keeps_every_turn_that_was_whole(crashed, tmp_path, cut):
    path = copied(crashed, tmp_path)
    log = log_of(path).read_bytes()
    log = log[:cut]
    log_of(path).write_bytes(log)
    ends = commits_of(log)
    found = recover(path)
    assert found.last_revision == TURNS // 2 + len(ends)
    # Sixteen bytes into a frame are the salts that tell it from an old one.
    torn = len(log) >= max(32 + 24, (ends[-1] if ends else 32) + 16)
    assert (found.damage is not None) == torn
    assert not torn or "unfinished commit" in found.damage
    assert_holds(path, found.last_revision)


def test_a_log_altered_in_its_middle_is_more_than_a_torn_tail(crashed, tmp_path):
    path = copied(crashed, tmp_path)
    log = bytearray(log_of(path).read_bytes())
    ends = commits_of(log)
    log[ends[4] + 24 + 4000] ^= 1
    log_of(path).write_bytes(log)
    found = recover(path)
    kept = TURNS // 2 + 5
    assert found.last_revision == kept
    assert f"the last {len(ends) - 5} commits in its write-ahead log can't be read" in found.damage
    assert replacement.beside(path, ".damaged-1-wal").read_bytes() == log
    assert_holds(path, kept)


def test_a_log_without_a_sound_header_is_noticed(crashed, tmp_path):
    path = copied(crashed, tmp_path)
    log = bytearray(log_of(path).read_bytes())
    log[0] ^= 1
    log_of(path).write_bytes(log)
    found = recover(path)
    assert found.last_revision == TURNS // 2
    assert "write-ahead log can't be read" in found.damage
    assert_holds(path, TURNS // 2)


def test_a_log_that_hides_turns_already_in_the_database_is_passed_over(tmp_path):
    """A log cut at a commit is sound by itself, but a checkpoint may have moved what is gone."""

    async def make(directory, copy):
        journal = await Journal.open(directory)
        await append_turns(journal, TURNS)
        await journal._checkpoint("PASSIVE")
        copied(directory / DATABASE, copy)
        await journal.close()

    asyncio.run(make(tmp_path / "running", tmp_path / "crashed"))
    path = tmp_path / "crashed" / DATABASE
    replacement.beside(path, "-shm").unlink()
    log = log_of(path).read_bytes()
    log_of(path).write_bytes(log[: commits_of(log)[10]])
    found = recover(path)
    assert found.last_revision == TURNS
    assert "turns are missing at its end" in found.damage
    assert_holds(path, TURNS)


def test_a_sound_journal_is_only_read(crashed, tmp_path):
    path = copied(crashed, tmp_path)
    before = path.read_bytes(), log_of(path).read_bytes()
    assert recover(path).damage is None
    assert (path.read_bytes(), log_of(path).read_bytes()) == before


@pytest.mark.parametrize("step", ["-wal", "-rebuilt"])
def test_a_crash_in_the_middle_of_a_replacement_is_completed_at_the_next_start(
    crashed, tmp_path, monkeypatch, step
):
    """Stop before the old log goes, or before the new database takes the name."""
    path = copied(crashed, tmp_path)
    alter(path, "UPDATE turns SET at = 0 WHERE revision = 31")
    copied(crashed, tmp_path)
    alter_log = bytearray(log_of(path).read_bytes())
    alter_log[commits_of(alter_log)[4] + 100] ^= 1
    log_of(path).write_bytes(alter_log)
    target = {"-wal": "unlink", "-rebuilt": "rename"}[step]
    real = getattr(type(path), target)

    def dies(self, *args, **kwargs):
        if self == replacement.beside(path, step):
            raise OSError("power loss")
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(path), target, dies)
        with pytest.raises(OSError, match="power loss"):
            recover(path)
    found = recover(path)
    assert found.last_revision == TURNS // 2 + 5
    assert "set aside" in found.damage
    assert_holds(path, TURNS // 2 + 5)


def test_what_is_not_a_database_is_refused_and_not_touched(sound, tmp_path):
    path = copied(sound, tmp_path)
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"from its first page on.*Move it away to start afresh"):
        asyncio.run(Journal.open(tmp_path))
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused(tmp_path):
    path = tmp_path / DATABASE
    alter(path, "CREATE TABLE recipes (name)")
    with pytest.raises(JournalError, match="not a journal of derny"):
        recover(path)


def test_a_journal_of_a_newer_derny_is_refused_and_not_touched(sound, tmp_path):
    path = copied(sound, tmp_path)
    alter(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(
        JournalError, match="newer derny: it is at version 99, and this derny knows versions up to"
    ):
        recover(path)
    assert path.read_bytes() == before


def test_an_empty_file_and_a_log_without_its_database_are_refused(crashed, tmp_path):
    path = copied(crashed, tmp_path)
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="is empty"):
        recover(path)
    path.unlink()
    with pytest.raises(JournalError, match=r"is missing although derny\.db-wal holds"):
        recover(path)
    assert log_of(path).stat().st_size


def test_the_checksum_depends_on_all_that_it_covers():
    checksums = {
        recovery.chained(*turn)
        for turn in (
            (0, 1, 0.5, b"x"),
            (1, 1, 0.5, b"x"),
            (0, 2, 0.5, b"x"),
            (0, 1, 0.25, b"x"),
            (0, 1, 0.5, b"y"),
        )
    }
    assert len(checksums) == 5
