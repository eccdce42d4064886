"""What lies in SQLite's write-ahead log beyond the part that SQLite itself would read.

SQLite silently stops at the first frame that is torn or altered, which is right for an unfinished commit
and wrong to keep quiet about. One rule: only look, never write. Called by `recovery` while a connection is
reading, so that the log's index is there. Source: the log's layout and checksum in section 4 of
https://sqlite.org/fileformat2.html, its index in section 2 of https://sqlite.org/walformat.html.
"""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
MAGIC_OF_LITTLE_ENDIAN: Final = 0x377F0682
"""A log whose checksums are taken over little-endian words; the next number up means big-endian."""


class Unread(NamedTuple):
    """Frames of the log's present generation that SQLite won't read; how many of them end a commit."""

    frames: int
    commits: int


def unread(database: Path) -> Unread:
    """The frames past the last valid commit in the log of a database that a connection is reading."""
    log = database.with_name(database.name + "-wal")
    if not log.exists():
        return Unread(0, 0)
    with log.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(HEADER_BYTES)
        if size < HEADER_BYTES + FRAME_HEADER_BYTES:
            return Unread(0, 0)
        # A new generation starts with a new header and overwrites the old frames one by one, so frames with
        # other salts are old ones that have been moved into the database. Without a header the first frame
        # must tell.
        first_frame = os.pread(file.fileno(), FRAME_HEADER_BYTES, HEADER_BYTES)
        salts = header[16:24] if _is_sound(header) else first_frame[8:16]
        stride = FRAME_HEADER_BYTES + _page_size_bytes(database)
        start = HEADER_BYTES + _valid_frames(database) * stride
        beyond = [os.pread(file.fileno(), FRAME_HEADER_BYTES, at) for at in range(start, size, stride)]
    ours = [frame for frame in beyond if frame[8:16] == salts]
    return Unread(len(ours), sum(frame[4:8] != b"\0\0\0\0" for frame in ours))


def _valid_frames(database: Path) -> int:
    """Frames up to the last valid commit, as SQLite found them and wrote into the log's index (`mxFrame`)."""
    index = database.with_name(database.name + "-shm")
    if not index.exists():
        return 0
    with index.open("rb") as file:
        head = file.read(20)
    return int(struct.unpack_from("=I", head, 16)[0]) if len(head) == 20 else 0


def _page_size_bytes(database: Path) -> int:
    with database.open("rb") as file:
        (size,) = struct.unpack_from(">H", file.read(18), 16)
    return 65536 if size == 1 else int(size)


def _is_sound(header: bytes) -> bool:
    """Whether the log's header matches the checksum that it ends with."""
    (magic,) = struct.unpack_from(">I", header)
    order = "<" if magic == MAGIC_OF_LITTLE_ENDIAN else ">"
    words = struct.unpack_from(f"{order}6I", header)
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.unpack_from(">2I", header, 24) == (first, second)
