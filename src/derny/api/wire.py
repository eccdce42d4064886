"""Protobuf's wire format: reading and writing varints, tags, lengths, unknown values and packed numbers.

The one rule: nothing here knows of a message class, and every reader is strict. A reader takes the whole
request and a position in it, and raises a FaultError that says what is wrong there. `api.compiler` writes
functions that call these off their straight line. The format: protobuf.dev/programming-guides/encoding.
"""

import struct
from functools import cache
from typing import Any

DEPTH_LIMIT = 100  # submessages inside one another, the limit of Google's parsers
WIRE_TYPES = {
    0: "0 (varint)",
    1: "1 (64-bit)",
    2: "2 (length-delimited)",
    3: "3 (start of a group)",
    4: "4 (end of a group)",
    5: "5 (32-bit)",
}
VARINTS = {  # kind: the smallest value, and one more than the largest
    "bool": (0, 2),
    "enum": (-(1 << 31), 1 << 31),
    "int32": (-(1 << 31), 1 << 31),
    "int64": (-(1 << 63), 1 << 63),
    "sint32": (-(1 << 31), 1 << 31),
    "sint64": (-(1 << 63), 1 << 63),
    "uint32": (0, 1 << 32),
    "uint64": (0, 1 << 64),
}
FIXED = {"float": "f", "fixed32": "I", "sfixed32": "i", "double": "d", "fixed64": "Q", "sfixed64": "q"}


class FaultError(Exception):
    """What is wrong, the byte where reading stopped, and the names on the way down to it, innermost first."""

    def __init__(self, reason: str, at: int | None = None, *, in_tag: bool = False) -> None:
        super().__init__(reason)
        self.at = at
        self.in_tag = in_tag
        self.names: list[str] = []

    def path(self) -> str:
        names = self.names[::-1]
        if len(names) > 12:  # a nesting bomb has a hundred names, a status message has room for few
            names = [*names[:8], "…", *names[-3:]]
        return "".join(f".{name}" for name in names)


TRUNCATED = "the message ends in the middle of a field"
_TOO_WIDE = "a varint is longer than 10 bytes or has more than 64 bits"


def read_varint(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """The varint whose `first` byte stands before `pos`, and the position after it."""
    if first < 128:
        return first, pos
    value, shift = first & 127, 7
    while shift < 70:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise FaultError(_TOO_WIDE)
            return value, pos
        shift += 7
    raise FaultError(_TOO_WIDE)


def read_short_varint(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """A tag or a length: five bytes at most, as in Google's parsers."""
    value, after = read_varint(data, pos, first)
    if after - pos > 4:
        raise FaultError("a tag or length is longer than 5 bytes", pos)
    return value, after


def read_tag(data: bytes, pos: int, first: int) -> tuple[int, int]:
    try:
        tag, pos = read_short_varint(data, pos, first)
    except (FaultError, IndexError) as error:
        reason = str(error) if isinstance(error, FaultError) else TRUNCATED
        raise FaultError(reason, pos - 1, in_tag=True) from None
    if tag >> 32:
        raise FaultError(f"field number {tag >> 3} is above 536870911", pos, in_tag=True)
    return tag, pos


def read_long_tag(data: bytes, pos: int, first: int) -> tuple[int, int]:
    tag, pos = read_tag(data, pos, first)
    return (tag if tag < 128 else -tag), pos


def skip_value(data: bytes, pos: int, end: int, tag: int, depth: int) -> int:
    """The position after the value that belongs to `tag`; a group is skipped with all that is in it."""
    groups: list[int] = []
    while True:
        wire, number = tag & 7, tag >> 3
        if not number:
            raise FaultError("field number 0 does not exist", pos, in_tag=True)
        if wire == 0:
            _, pos = read_varint(data, pos + 1, data[pos])
        elif wire == 1:
            pos += 8
        elif wire == 2:
            length, pos = read_short_varint(data, pos + 1, data[pos])
            pos += length
        elif wire == 3:
            groups.append(number)
            if len(groups) > depth:
                raise too_deep(pos)
        elif wire == 4:
            if not groups or groups.pop() != number:
                raise FaultError(f"the group {number} ends but was not started", pos, in_tag=True)
        elif wire == 5:
            pos += 4
        else:
            raise FaultError(f"wire type {wire} does not exist", pos, in_tag=True)
        if pos > end:
            raise FaultError(TRUNCATED, end)
        if not groups:
            return pos
        tag, pos = read_tag(data, pos + 1, data[pos])


def too_deep(pos: int) -> FaultError:
    return FaultError(f"more than {DEPTH_LIMIT} messages are nested", pos)


def narrowed(kind: str, value: int) -> int:
    """The low bits of a varint as a number of `kind`: so protobuf reads a value too wide for its field."""
    if kind == "bool":
        return value != 0
    low, high = VARINTS[kind]
    if kind.startswith("sint"):
        value %= high - low
        return value >> 1 ^ -(value & 1)
    return (value - low) % (high - low) + low


def read_packed(kind: str, members: Any, data: bytes, pos: int, stop: int) -> list[Any]:
    values, bound = _varints(data, pos, stop)
    if kind == "enum":
        by_number = {value: members[narrowed(kind, value)] for value in set(values)}
        return list(map(by_number.__getitem__, values))
    if kind == "bool":
        return list(map(bool, values))
    high = VARINTS[kind][1]
    if kind.startswith("sint") or (bound >= high and max(values) >= high):
        return [narrowed(kind, value) for value in values]
    return values


def read_packed_fixed(code: str, data: bytes, pos: int, stop: int) -> tuple[Any, ...]:
    count, rest = divmod(stop - pos, struct.calcsize("<" + code))
    if rest:
        raise FaultError("a packed field ends in the middle of a number", stop - rest)
    return struct.unpack_from(f"<{count}{code}", data, pos)


def _varints(data: bytes, pos: int, stop: int) -> tuple[list[int], int]:
    """All varints of a packed field, and a bound that none is above."""
    chunk = data[pos:stop]
    if chunk.isascii():
        return list(chunk), 127
    if chunk[-1] > 127:
        raise FaultError("a packed field ends in the middle of a number", stop)
    count = len(chunk.translate(None, _CONTINUED))
    if len(chunk) < 1000 or count > len(chunk) * 2 // 3:
        return _varints_by_byte(chunk, pos)
    columns = _columns(chunk, pos)
    return _lanes(columns), 1 << 7 * len(columns)


_CONTINUED = bytes(range(128, 256))  # the bytes that are not the last of a varint


def _varints_by_byte(chunk: bytes, pos: int) -> tuple[list[int], int]:
    values: list[int] = []
    bound = 127
    append = values.append
    numbers = iter(chunk)
    for value in numbers:
        if value > 127:
            value -= 128
            shift = 7
            for byte in numbers:
                value += (byte & 127) << shift
                if byte < 128:
                    break
                shift += 7
                if shift > 63:
                    raise FaultError(_TOO_WIDE, pos)
            if shift > 56 and value >> 64:
                raise FaultError(_TOO_WIDE, pos)
            if value > bound:
                bound = value
        append(value)
    return values, bound


def _columns(chunk: bytes, pos: int) -> list[bytes]:
    """The first bytes of all varints, their second bytes and so on: 7 bits each, 0 where there is none.

    Each column is made in one go, with the chunk as one long integer: at the place of each first byte is put
    what follows it, every other place gets its top bit set, and those are dropped.
    """
    size = len(chunk)
    ones = int.from_bytes(b"\x01" * size, "little")
    whole = int.from_bytes(chunk, "little")
    continued = whole >> 7 & ones
    rest = whole ^ continued << 7
    inside = (continued << 15) & (1 << 8 * size) - 1  # the top bit of every byte that is not a first one
    columns: list[bytes] = []
    reach = ones  # 1 at the places whose varint extends to this column
    while reach and len(columns) <= 10:
        column = (rest & reach * 127 | inside).to_bytes(size, "little")
        columns.append(column.translate(None, _CONTINUED))
        rest >>= 8
        reach &= continued >> 8 * (len(columns) - 1)
    if len(columns) > 10 or (len(columns) == 10 and max(columns[9]) > 1):
        raise FaultError(_TOO_WIDE, pos)
    return columns


def _lanes(columns: list[bytes]) -> list[int]:
    """Lay the columns side by side, one lane per value, and close the gaps of one bit in all lanes."""
    count = len(columns[0])
    size = 2 if len(columns) <= 2 else 4 if len(columns) <= 4 else 8
    lanes = bytearray(size * count)
    for place, column in enumerate(columns[:8]):
        lanes[place::size] = column
    packed = int.from_bytes(lanes, "little")
    width = 1
    while width < size:  # neighbours of 7 bits become 14, those 28, those 56
        bits = 7 * width
        lane = ((1 << bits) - 1).to_bytes(2 * width, "little")
        low = int.from_bytes(lane * (len(lanes) // len(lane)), "little")
        packed = packed & low | packed >> width & low << bits
        width *= 2
    lanes = bytearray(packed.to_bytes(size * count, "little"))
    if len(columns) > 8:
        ninth = int.from_bytes(columns[8], "little")
        tenth = int.from_bytes(columns[9], "little") if len(columns) > 9 else 0
        lanes[7::8] = (ninth | tenth << 7).to_bytes(count, "little")
    code = {2: "H", 4: "I", 8: "Q"}[size]
    return list(struct.unpack(f"<{count}{code}", lanes))


def varint_bytes(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


@cache
def key_bytes(number: int, wire: int) -> bytes:
    return varint_bytes(number << 3 | wire)


def head_bytes(key: bytes, size: int) -> bytes:
    return key + varint_bytes(size)


@cache
def short_heads(key: bytes) -> list[bytes]:
    """`key` followed by each one-byte varint."""
    return [head_bytes(key, value) for value in range(128)]


def number_bytes(kind: str, value: int, name: str) -> bytes:
    low, high = VARINTS[kind]
    if not low <= value < high:
        raise FaultError(f"{name}: {value} is not a {kind}")
    if kind.startswith("sint"):
        return varint_bytes(value << 1 if value >= 0 else (-value << 1) - 1)
    return varint_bytes(value & (1 << 64) - 1)


def packed_bytes(kind: str, values: list[Any], name: str) -> bytes:
    if min(values) >= 0 and max(values) < 128 and not kind.startswith("sint"):
        return bytes(values)
    return b"".join([number_bytes(kind, value, name) for value in values])
