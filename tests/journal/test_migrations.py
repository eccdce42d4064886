"""Each migration runs once, in order, whole or not at all, wherever the files are."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from derny.journal import migrations
from derny.journal.errors import JournalError
from derny.journal.store import DATABASE, Journal


@pytest.fixture
def more_migrations(tmp_path, monkeypatch):
    """A copy of the real files, to which a test may add."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    for file in migrations.folder().iterdir():
        (folder / file.name).write_text(file.read_text())
    monkeypatch.setattr(migrations, "folder", lambda: folder)
    return folder


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


async def open_and_append(directory):
    journal = await Journal.open(directory)
    try:
        return await journal.append(1.0, b"x")
    finally:
        await journal.close()


def test_the_files_are_found_and_numbered_from_one():
    assert next(iter(migrations.scripts())) == 1
    assert len(migrations.scripts_after(0)) == len(migrations.scripts())
    assert migrations.scripts_after(len(migrations.scripts())) == []


def test_a_gap_in_the_numbers_is_a_broken_promise(more_migrations):
    (more_migrations / "0099_gap.sql").write_text("SELECT 1;")
    with pytest.raises(AssertionError, match="numbered 1, 2"):
        migrations.scripts()


def test_a_new_journal_is_at_the_newest_version_and_stays_there(tmp_path):
    newest = len(migrations.scripts())
    for revision in (1, 2):
        assert asyncio.run(open_and_append(tmp_path)) == revision
        assert version_of(tmp_path / DATABASE) == newest


def test_an_older_journal_is_brought_up_to_date_and_keeps_its_turns(tmp_path, more_migrations):
    asyncio.run(open_and_append(tmp_path))
    newest = len(migrations.scripts()) + 1
    (more_migrations / f"{newest:04}_notes.sql").write_text("CREATE TABLE notes (note TEXT);")
    assert asyncio.run(open_and_append(tmp_path)) == 2
    assert version_of(tmp_path / DATABASE) == newest


def test_a_failing_migration_leaves_nothing_of_itself_and_is_a_journal_error(tmp_path, more_migrations):
    asyncio.run(open_and_append(tmp_path))
    newest = len(migrations.scripts()) + 1
    bad = more_migrations / f"{newest:04}_bad.sql"
    bad.write_text("CREATE TABLE notes (note TEXT); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(JournalError, match="no such table: nowhere"):
        asyncio.run(open_and_append(tmp_path))
    assert version_of(tmp_path / DATABASE) == newest - 1
    bad.unlink()
    assert asyncio.run(open_and_append(tmp_path)) == 2
