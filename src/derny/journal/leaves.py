"""Turns found leaf by leaf, where the pages above that lead SQLite to them are lost.

One rule: nothing that is found here is to be believed, since any page may be garbage or out of date; the
checksums tell. Only reads the database file, without its log. Called by `recovery` for a damaged database.
Source: sections 1.3 to 1.6 (pages, cells, overflow) and 2.1 (records) of https://sqlite.org/fileformat2.html.
"""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from derny.journal.replacement import Row

TABLE_LEAF: Final = 0x0D
LEAF_HEADER_BYTES: Final = 8
INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Width of an integer by its serial type."""
REAL: Final = 7
CONSTANTS: Final = {8: 0, 9: 1}
FIRST_BLOB: Final = 12
"""An even serial type from here up is a blob of half as many bytes, counted from here."""


class Cell(NamedTuple):
    """Where a record begins in the file, and how long it is in bytes."""

    start: int
    length: int


class Leaves:
    """The rows of four columns that begin in any leaf of a table, by revision."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        head = self._read(0, 100)
        (page_bytes,) = struct.unpack_from(">H", head, 16)
        self._page_bytes = 65536 if page_bytes == 1 else max(page_bytes, 512)
        self._usable_bytes = self._page_bytes - head[20]
        self._cells: defaultdict[int, list[Cell]] = defaultdict(list)
        # The first page belongs to the schema.
        for start in range(self._page_bytes, self._size, self._page_bytes):
            for revision, cell in self._cells_of(start):
                self._cells[revision].append(cell)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def turns(self, revision: int) -> Iterator[Row]:
        """Every row of that revision: a page that has moved may have left an old copy of itself behind."""
        for cell in self._cells.get(revision, ()):
            columns = _columns(self._record(cell))
            if columns is not None:
                yield (revision, *columns)

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)

    def _cells_of(self, start: int) -> Iterator[tuple[int, Cell]]:
        page = self._read(start, self._page_bytes)
        if len(page) < self._page_bytes or page[0] != TABLE_LEAF:
            return
        (count,) = struct.unpack_from(">H", page, 3)
        count = min(count, (self._page_bytes - LEAF_HEADER_BYTES) // 2)
        for at in struct.unpack_from(f">{count}H", page, LEAF_HEADER_BYTES):
            length, after_length = _varint(page, at)
            revision, record = _varint(page, after_length)
            if 0 < length < self._size:
                yield revision, Cell(start + record, length)

    def _record(self, cell: Cell) -> bytes:
        """A record's bytes, with those that overflow into pages of their own; fewer where these are lost."""
        local = self._local_bytes(cell.length)
        record = bytearray(self._read(cell.start, local))
        link = cell.start + local
        while len(record) < cell.length:
            number = int.from_bytes(self._read(link, 4), "big")
            link = (number - 1) * self._page_bytes
            if not 0 < link < self._size:
                break
            record += self._read(link + 4, min(self._usable_bytes - 4, cell.length - len(record)))
        return bytes(record)

    def _local_bytes(self, length: int) -> int:
        """How much of a record is in its leaf; the names and the formula are in section 1.6."""
        most = self._usable_bytes - 35
        least = (self._usable_bytes - 12) * 32 // 255 - 23
        if length <= most:
            return length
        fitting = least + (length - least) % (self._usable_bytes - 4)
        return fitting if fitting <= most else least


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to nine bytes, and where it ends; what lies past the data counts as zeros."""
    value = 0
    for index in range(9):
        byte = data[at + index] if at + index < len(data) else 0
        if index == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return value, at + index + 1


def _columns(record: bytes) -> tuple[float, bytes, int] | None:
    """Time, events and checksum, or None if this isn't a turn. The revision is the row's number instead."""
    head_bytes, at = _varint(record, 0)
    types = []
    while at < min(head_bytes, len(record)):
        serial, at = _varint(record, at)
        types.append(serial)
    if len(types) != 4 or types[0] != 0:
        return None
    values = []
    for serial in types[1:]:
        length = _length(serial)
        values.append(_value(serial, record[at : at + length]))
        at += length
    when, events, checksum = values
    if not isinstance(when, int | float) or not isinstance(events, bytes) or not isinstance(checksum, int):
        return None
    # SQLite keeps a REAL that is whole as an integer, to save space.
    return float(when), events, checksum


def _length(serial: int) -> int:
    if serial == REAL:
        return 8
    return INTEGER_BYTES.get(serial, max(0, serial - FIRST_BLOB) // 2)


def _value(serial: int, data: bytes) -> float | int | bytes | None:
    if len(data) < _length(serial):
        return None
    if serial in INTEGER_BYTES:
        return int.from_bytes(data, "big", signed=True)
    if serial == REAL:
        return float(struct.unpack(">d", data)[0])
    is_blob = serial >= FIRST_BLOB and serial % 2 == 0
    return data if is_blob else CONSTANTS.get(serial)
