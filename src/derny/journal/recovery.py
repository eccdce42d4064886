"""What a database file still holds when the daemon starts, and what to do if that is less than it held.

One rule: never a silent loss, and never a change to a damaged file before a copy of it is safe. A sound
file is only read. A damaged one is set aside, and the longest good prefix of its turns goes into a fresh
database. Blocking code, called by `store.Journal.open` in a thread, under the directory's lock.

A turn is good if its revision follows the last one and its checksum, chained over all turns before it,
matches. The settings beside the turns have no checksum; they are good if SQLite finds nothing wrong.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from derny.journal import migrations, replacement, wal
from derny.journal.errors import JournalError
from derny.journal.leaves import Leaves

APPLICATION_ID: Final = 0x6465726E
"""Set by the first migration."""

CHECKPOINTED: Final = "checkpointed_revision"
"""Key in `meta`: a revision known to be durable, noted at every checkpoint, so that a journal which lost
its end whole, with nothing torn, is noticed too."""

DAMAGE: Final = "damage"
"""Key in `meta` of a rebuilt database: the sentence that says why it was rebuilt."""

IN_META: Final = "the settings beside its turns can't be read"
NOTHING_TOUCHED: Final = "nothing was touched. Move it away to start afresh."
TURNS: Final = "SELECT revision, at, events, checksum FROM turns"
LINK: Final = Struct("<IQd")
MALFORMED: Final = "its database image is malformed"
WITHOUT_META: Final = (
    ", without the settings beside them, which can't be read, so the seed is the one given now or a new one"
)
AS_SQLITE_SEES_IT: Final = "mode=ro"
WITHOUT_ITS_LOG: Final = "immutable=1"
LEAF_BY_LEAF: Final = "without its tree"


class Recovery(NamedTuple):
    """What was found. `damage` is None or a sentence for the log: what was lost, kept and set aside."""

    turns: int
    last_revision: int
    checksum: int
    damage: str | None


NOTHING: Final = Recovery(0, 0, 0, None)


class Prefix(NamedTuple):
    """The good turns at the start of a database, and the flaw that ended them, if any."""

    seen: str
    """AS_SQLITE_SEES_IT, WITHOUT_ITS_LOG or LEAF_BY_LEAF."""
    last_revision: int
    checksum: int
    claimed_revision: int
    """The highest revision of which the database has any trace."""
    unread: wal.Unread
    flaw: str | None


def chained(checksum: int, revision: int, at: float, events: bytes) -> int:
    """The checksum of a turn, given that of the turn before it (0 before the first).

    CRC-32 notices damage, not malice: whoever can write the file can also compute it.
    """
    return zlib.crc32(events, zlib.crc32(LINK.pack(checksum, revision, at)))


def recover(path: Path) -> Recovery:
    """Leave a sound database at `path`, made from nothing or from what is left, and say what it holds.

    Raises JournalError, with nothing touched, where no turn can be kept or the file isn't ours; OSError and
    sqlite3.Error where the disk or SQLite says no.
    """
    was_replaced = replacement.finish(path)
    if not path.exists():
        _create(path)
    prefix = _examine(path, AS_SQLITE_SEES_IT)
    flaw = prefix.flaw or _loss_at_the_end(prefix, _claimed_without_log(path))
    if flaw is not None:
        prefix = _salvage(path, prefix, flaw)
        was_replaced = True
    damage = _why_replaced(path) if was_replaced else _torn_tail(path, prefix)
    return Recovery(prefix.last_revision, prefix.last_revision, prefix.checksum, damage)


def _create(path: Path) -> None:
    log = replacement.beside(path, "-wal")
    if log.exists() and log.stat().st_size:
        raise JournalError(f"{path} is missing although {log.name} holds a part of it; nothing was touched.")
    replacement.write(path, (), {})
    replacement.finish(path)


def _connect(path: Path, seen: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?{seen}", uri=True, isolation_level=None)
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _examine(path: Path, seen: str) -> Prefix:
    if path.stat().st_size == 0:
        # SQLite would take an empty file for a new database and delete its log.
        raise JournalError(f"{path} is empty, which a journal never is; nothing was touched.")
    with closing(_connect(path, seen)) as connection:
        malformed = None
        try:
            _check_owner(path, connection)
        except sqlite3.DatabaseError as error:
            _raise_unless_damage(error)
            malformed = MALFORMED
            _trust_no_length(connection)
            _check_owner_again(path, connection)
        revision, checksum, flaw = _follow_chain(connection)
        claimed = max(revision, _claimed(connection))
        malformed = malformed or _flaw_of_meta(connection)
        return Prefix(seen, revision, checksum, claimed, wal.unread(path), flaw or malformed)


def _check_owner_again(path: Path, connection: sqlite3.Connection) -> None:
    """As far as the first page can be read at all; without it nothing else can."""
    try:
        _check_owner(path, connection)
    except sqlite3.DatabaseError as error:
        _raise_unless_damage(error)
        raise JournalError(
            f"{path} can't be read from its first page on, so it is damaged, or no journal ({error}); "
            f"{NOTHING_TOUCHED}"
        ) from error


def _check_owner(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse what isn't a journal or is one of a newer derny. Reads the first page, so damage there shows."""
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = len(migrations.scripts())
    if owner != APPLICATION_ID:
        raise JournalError(f"{path} is a database, but not a journal of derny; nothing was touched.")
    if version > newest:
        raise JournalError(
            f"{path} was written by a newer derny: it is at version {version}, and this derny knows versions "
            f"up to {newest}; nothing was touched."
        )


def _raise_unless_damage(error: sqlite3.DatabaseError) -> None:
    """Damage is a malformed image or header, or a table gone with its page; a failing disk is neither."""
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    # Text that isn't UTF-8 is an error of Python's, which has no code.
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in damage:
        raise error


def _trust_no_length(connection: sqlite3.Connection) -> None:
    """Let SQLite read a file shorter than its header promises: a switch meant for its repair tools."""
    connection.execute("PRAGMA writable_schema = ON")


def _turns(connection: sqlite3.Connection) -> Iterator[replacement.Row]:
    """All turns in order, up to one that can't be read."""
    last = 0
    try:
        for row in connection.execute(f"{TURNS} ORDER BY revision"):
            yield row
            last = row[0]
    except sqlite3.DatabaseError:
        # sqlite3 looks one row ahead and drops the good row before a bad one, so ask for that one by itself.
        while row := connection.execute(f"{TURNS} WHERE revision = ?", (last + 1,)).fetchone():
            yield row
            last += 1
        raise


def _follow_chain(connection: sqlite3.Connection) -> tuple[int, int, str | None]:
    """The last good revision, its checksum, and what is wrong with the next turn, if anything is."""
    kept = checksum = 0
    try:
        for turn in _turns(connection):
            if turn[0] != kept + 1:
                return kept, checksum, f"turn {kept + 1} is missing"
            if not _is_good(turn, checksum):
                return kept, checksum, f"turn {turn[0]} does not match its checksum"
            kept, checksum = turn[0], turn[3]
    except sqlite3.DatabaseError as error:
        _raise_unless_damage(error)
        return kept, checksum, MALFORMED
    return kept, checksum, None


def _is_good(turn: replacement.Row, checksum: int) -> bool:
    """Whether a turn matches its checksum, given that of the turn before it."""
    revision, at, events, found = turn
    well_typed = isinstance(at, float) and isinstance(events, bytes)
    return well_typed and chained(checksum, revision, at, events) == found


def _turns_of_leaves(path: Path) -> Iterator[replacement.Row]:
    """The good turns in order, found without the tree."""
    kept = checksum = 0
    with Leaves(path) as leaves:
        while turn := next((turn for turn in leaves.turns(kept + 1) if _is_good(turn, checksum)), None):
            yield turn
            kept, checksum = turn[0], turn[3]


def _flaw_of_meta(connection: sqlite3.Connection) -> str | None:
    """Whether settings can be read and changed. One page, so SQLite may check all it can."""
    try:
        ((verdict,), *_) = connection.execute("PRAGMA integrity_check(meta)")
        values = [value for (value,) in connection.execute("SELECT value FROM meta")]
    except sqlite3.DatabaseError as error:
        _raise_unless_damage(error)
        return IN_META
    return None if verdict == "ok" and all(isinstance(value, str) for value in values) else IN_META


def _claimed(connection: sqlite3.Connection) -> int:
    """The highest revision the database has a trace of, in whatever can still be read."""
    claims = [0]
    for query in ("SELECT max(revision) FROM turns", f"SELECT value FROM meta WHERE key = '{CHECKPOINTED}'"):
        try:
            claims += [int(value) for (value,) in connection.execute(query) if str(value).isdecimal()]
        except sqlite3.DatabaseError as error:
            _raise_unless_damage(error)
    return max(claims)


def _claimed_without_log(path: Path) -> int:
    """The claim without the log. Never ahead of the two together, unless the log lost its end."""
    with closing(_connect(path, WITHOUT_ITS_LOG)) as connection:
        return _claimed(connection)


def _loss_at_the_end(prefix: Prefix, claimed_without_log: int) -> str | None:
    if prefix.unread.commits > 1:
        # One may be the turn that was being written; those before it had been acknowledged.
        return f"the last {prefix.unread.commits} commits in its write-ahead log can't be read"
    if prefix.last_revision < max(prefix.claimed_revision, claimed_without_log):
        return "turns are missing at its end"
    return None


def _torn_tail(path: Path, prefix: Prefix) -> str | None:
    if not prefix.unread.frames:
        return None
    return (
        f"The journal {path} ended in an unfinished commit, which was dropped; the "
        f"{prefix.last_revision} turns before it were kept, up to revision {prefix.last_revision}."
    )


def _salvage(path: Path, prefix: Prefix, flaw: str) -> Prefix:
    """Replace a damaged database by one that holds its longest good prefix, and return that prefix."""
    views = (prefix, _examine_without_log(path), _examine_leaves(path, prefix))
    best = max(filter(None, views), key=lambda it: it.last_revision)
    kept, claimed = best.last_revision, max(prefix.claimed_revision, best.claimed_revision)
    if not kept:
        raise JournalError(
            f"The journal {path} is damaged ({flaw}) and none of its turns can be kept; {NOTHING_TOUCHED}"
        )
    aside = replacement.set_aside(path)
    by_leaf = best.seen == LEAF_BY_LEAF
    with closing(_connect(path, AS_SQLITE_SEES_IT if by_leaf else best.seen)) as damaged:
        _trust_no_length(damaged)
        meta = _meta(damaged)
        of_claimed = f" of at least {claimed}" if claimed > kept else ""
        without_meta = "" if meta else WITHOUT_META
        meta[DAMAGE] = (
            f"The journal {path} was damaged ({flaw}): {kept} turns{of_claimed} were kept, up to revision "
            f"{kept}{without_meta}; the damaged file was set aside as {aside}."
        )
        turns = _turns_of_leaves(path) if by_leaf else _turns(damaged)
        replacement.write(path, islice(turns, kept), meta)
    replacement.finish(path)
    return best


def _examine_without_log(path: Path) -> Prefix | None:
    """After a checkpoint the database alone may hold turns that a damaged log hides."""
    try:
        return _examine(path, WITHOUT_ITS_LOG)
    except (sqlite3.DatabaseError, JournalError):
        return None


def _examine_leaves(path: Path, prefix: Prefix) -> Prefix:
    """A lost page in the upper part of the tree hides turns that are still there."""
    kept = checksum = 0
    for turn in _turns_of_leaves(path):
        kept, checksum = turn[0], turn[3]
    return prefix._replace(seen=LEAF_BY_LEAF, last_revision=kept, checksum=checksum)


def _meta(damaged: sqlite3.Connection) -> dict[str, str]:
    """The settings worth keeping: all, or none if any has come to harm, since no checksum tells which."""
    if _flaw_of_meta(damaged) is not None:
        return {}
    meta = dict(damaged.execute("SELECT key, value FROM meta"))
    meta.pop(CHECKPOINTED, None)  # it may be past the prefix
    return meta


def _why_replaced(path: Path) -> str | None:
    with closing(_connect(path, AS_SQLITE_SEES_IT)) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (DAMAGE,)).fetchone()
    return row[0] if row else None
