"""Writes, for a betterproto2 message class, the Python that encodes and decodes it in a straight line.

The one rule: the fields of a class are walked once, on first use, and become the source of one function,
which calls those of its submessages. A decoder works on the whole request with a position and an end, so
nothing is copied on the way down and a fault knows its byte offset; the names on the way to it are gathered
while it travels up. `api.codec` is the only caller.
"""

import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from math import copysign
from typing import Any, get_args, get_type_hints

import betterproto2

from derny.api.wire import (
    FIXED,
    TRUNCATED,
    VARINTS,
    WIRE_TYPES,
    FaultError,
    head_bytes,
    key_bytes,
    narrowed,
    number_bytes,
    packed_bytes,
    read_long_tag,
    read_packed,
    read_packed_fixed,
    read_short_varint,
    read_varint,
    short_heads,
    skip_value,
    too_deep,
    varint_bytes,
)

_ZEROS: dict[str, Any] = {"string": "", "bytes": b"", "bool": False, "float": 0.0, "double": 0.0}


@dataclass(frozen=True)
class _Field:
    """What the compiler needs to know of one field (or of the key or value of a map entry)."""

    name: str
    number: int
    kind: str  # the scalar type of the proto, or "enum", "message", "map"
    many: bool = False
    explicit: bool = False  # absent is None: optional, in a oneof, or a message
    rivals: tuple[str, ...] = ()  # the other members of its oneof
    type: Any = None  # the class of a message or an enum
    wrapped: bool = False  # the attribute is a Python value (a datetime) that the message class wraps
    entry: "tuple[_Field, _Field] | None" = None

    @property
    def wire(self) -> int:
        if self.kind in VARINTS:
            return 0
        if self.kind in FIXED:
            return 1 if struct.calcsize("<" + FIXED[self.kind]) == 8 else 5
        return 2

    @property
    def expected(self) -> str:
        either = " or 2 (packed)" if self.many and self.wire != 2 else ""
        return WIRE_TYPES[self.wire] + either

    @property
    def zero(self) -> Any:
        if self.explicit or self.kind == "message":
            return None
        return _members(self.type)[0] if self.kind == "enum" else _ZEROS.get(self.kind, 0)


def _fields_of(cls: type[betterproto2.Message]) -> list[_Field]:
    """The fields in ascending number, from betterproto2's metadata and the annotations."""
    hints = get_type_hints(cls, vars(sys.modules[cls.__module__]), {})
    metas = {field.name: betterproto2.FieldMetadata.get(field) for field in fields(cls)}  # type: ignore[arg-type]  # generated classes are dataclasses, their base is not
    found = []
    for name, meta in metas.items():
        rivals = tuple(n for n, m in metas.items() if meta.group and m.group == meta.group and n != name)
        found.append(_field(name, meta, hints[name], rivals))
    return sorted(found, key=lambda field: field.number)


def _field(name: str, meta: betterproto2.FieldMetadata, hint: Any, rivals: tuple[str, ...] = ()) -> _Field:
    arguments = get_args(hint)
    if meta.map_meta:
        entry = [_field(n, m, h) for n, m, h in zip(("key", "value"), meta.map_meta, arguments, strict=True)]
        return _Field(name, meta.number, "map", many=True, entry=(entry[0], entry[1]))
    return _Field(
        name,
        meta.number,
        meta.proto_type,
        many=bool(meta.repeated),
        explicit=bool(meta.optional or meta.group),
        rivals=rivals,
        type=meta.unwrap() if meta.unwrap else arguments[0] if arguments else hint,
        wrapped=meta.unwrap is not None,
    )


class _Members(dict[int, Any]):
    """The members of an enum by number; betterproto2 makes a nameless member of an unknown number."""

    def __init__(self, enum: Any) -> None:
        super().__init__({member.value: member for member in enum})
        self.enum = enum

    def __missing__(self, number: int) -> Any:
        return self.enum(number)


@cache
def _members(enum: Any) -> _Members:
    return _Members(enum)


def _keep(into: Any, known: dict[int, _Field], data: bytes, pos: int, end: int, tag: int, depth: int) -> int:
    """Keep the unknown field whose value starts at `pos`; the position after it. A map entry keeps none."""
    if field := known.get(tag >> 3):
        got = WIRE_TYPES.get(tag & 7, str(tag & 7))
        raise FaultError(f"wire type {got} where {field.expected} is expected", pos)
    stop = skip_value(data, pos, end, tag, depth)
    if into is not None:
        if not into._unknown_fields:  # a bytearray, as bytes would be copied whole for each field added
            into._unknown_fields = bytearray()
        into._unknown_fields += varint_bytes(tag) + data[pos:stop]
    return stop


def _placed(
    error: Exception, into: Any, known: dict[int, _Field], tag: int, pos: int, end: int
) -> FaultError:
    """The fault that `error` is, with the name of the field under way added."""
    if isinstance(error, FaultError):
        fault = error
    elif isinstance(error, UnicodeDecodeError):
        fault = FaultError("the string is not UTF-8", pos + error.start)
    else:
        fault = FaultError(TRUNCATED, end)
    if fault.at is None:
        fault.at = pos
    if fault.in_tag:
        fault.in_tag = False
        return fault
    field = known.get(tag >> 3)
    name = field.name.rstrip("_") if field else f"(field {tag >> 3})"
    if field and field.many:
        name += f"[{len(getattr(into, field.name))}]"
    fault.names.append(name)
    return fault


def _unwrap(message: Any, pos: int) -> Any:
    """The Python value of a well-known type: a datetime, of whole microseconds, for a Timestamp."""
    try:
        if not 0 <= getattr(message, "nanos", 0) <= 999_999_999 and hasattr(message, "to_datetime"):
            raise ValueError(f"nanos {message.nanos} is not within 0..999999999")
        return message.to_wrapped()
    except (OverflowError, ValueError) as error:
        raise FaultError(f"the {type(message).__name__} is out of range: {error}", pos) from None


# What the generated functions see; they find each other here too.
_space: dict[str, Any] = {
    "Fault": FaultError,
    "StructError": struct.error,
    "TRUNCATED": TRUNCATED,
    "copysign": copysign,
    "head": head_bytes,
    "keep": _keep,
    "narrow": narrowed,
    "new": object.__new__,
    "number": number_bytes,
    "pack": packed_bytes,
    "pack_fixed": struct.pack,
    "packed": read_packed,
    "packed_fixed": read_packed_fixed,
    "placed": _placed,
    "long_tag": read_long_tag,
    "short_varint": read_short_varint,
    "too_deep": too_deep,
    "unwrap": _unwrap,
    "varint": read_varint,
}


@cache
def compiled(verb: str, cls: type) -> Callable[..., Any]:
    """The function that encodes or decodes `cls`; those of its submessages follow when they are first met."""
    name = _reference(verb, cls)
    source = _encoder(name, _fields_of(cls)) if verb == "encode" else _decoder(name, _fields_of(cls), cls)
    exec(compile("\n".join(source), f"<{name}>", "exec"), _space)
    function: Callable[..., Any] = _space[name]
    return function


def _reference(verb: str, cls: type) -> str:
    """The name of a generated function; at first it is that of a stand-in, which compiles and calls it."""
    name = f"{verb}_{cls.__name__}_{id(cls):x}"
    if name not in _space:
        _space[name] = lambda *arguments: compiled(verb, cls)(*arguments)
    return name


def _constant(value: Any) -> str:
    """The name under which generated functions see an object, which stays alive with them."""
    name = f"k_{id(value):x}"
    _space[name] = value
    return name


def _indent(lines: Iterable[str], levels: int = 1) -> Iterator[str]:
    return ("    " * levels + line for line in lines)


def _encoder(name: str, fields_: list[_Field]) -> Iterator[str]:
    yield f"def {name}(message):"
    yield "    out = []"
    for field in fields_:
        yield f"    value = message.{field.name}"
        yield from _indent(_write_field(field))
    yield "    if message._unknown_fields:"
    yield "        out.append(message._unknown_fields)"
    yield "    return b''.join(out)"


def _write_field(field: _Field) -> Iterator[str]:
    if field.entry:
        key, value = field.entry
        yield "for key, value in value.items():"
        yield "    entry = []"
        yield from _indent(_write(key, "entry", "key"))
        yield from _indent(_write(value, "entry", "value"))
        yield "    value = b''.join(entry)"
        yield from _indent(_write_sized(field))
    elif field.many and field.wire != 2:
        yield "if value:"
        if code := FIXED.get(field.kind):
            yield f"    value = pack_fixed(f'<{{len(value)}}{code}', *value)"
        else:
            yield f"    value = pack({field.kind!r}, value, {field.name!r})"
        yield from _indent(_write_sized(field))
    elif field.many:
        yield "for value in value:"
        yield from _indent(_write(field))
    else:
        yield f"if {_presence(field)}:"
        yield from _indent(_write(field))


def _presence(field: _Field) -> str:
    if field.explicit or field.kind == "message":
        return "value is not None"
    if field.kind in ("float", "double"):
        return "value or copysign(1.0, value) < 0.0"  # the default is the positive zero alone
    return "value"


def _write(field: _Field, out: str = "out", value: str = "value") -> Iterator[str]:
    """Append the field with its key to the list `out`, whatever its value."""
    key = key_bytes(field.number, field.wire)
    if field.kind in ("string", "bytes", "message"):
        if field.kind == "string":
            yield f"{value} = {value}.encode()"
        if field.wrapped:
            yield f"{value} = {_constant(field.type.from_wrapped)}({value})"
        if field.kind == "message":
            yield f"{value} = {_reference('encode', field.type)}({value})"
        yield from _write_sized(field, out, value)
    elif code := FIXED.get(field.kind):
        yield f"{out}.append({key!r} + {_constant(struct.Struct('<' + code).pack)}({value}))"
    elif field.kind == "bool":
        yield f"{out}.append({short_heads(key)[1]!r} if {value} else {short_heads(key)[0]!r})"
    else:
        short = f"{_constant(short_heads(key))}[{value}] if 0 <= {value} < 128 else "
        short = "" if field.kind.startswith("sint") else short
        yield f"{out}.append({short}{key!r} + number({field.kind!r}, {value}, {field.name!r}))"


def _write_sized(field: _Field, out: str = "out", value: str = "value") -> Iterator[str]:
    key = key_bytes(field.number, 2)
    yield f"size = len({value})"
    yield f"{out} += ({_constant(short_heads(key))}[size] if size < 128 else head({key!r}, size), {value})"


def _decoder(name: str, fields_: list[_Field], cls: type | None) -> Iterator[str]:
    """One pass down the fields in ascending number, as they usually come; the loop is for any other order.

    A tag is first taken for the one byte that it usually is. One of several bytes meets no `if`, is read
    whole at the bottom of the loop, and is negative from then on. Without a class it is a map entry that is
    read, and handed back as its key and value.
    """
    for field in fields_:
        if field.entry:
            yield from _decoder(f"{name}_{field.name}", list(field.entry), None)
    known = _constant({field.number: field for field in fields_})
    into = "into" if cls else "None"
    target = "into." if cls else ""
    proceed = list(_proceed("into" if cls else "key, value"))
    yield f"def {name}(data, pos, end, depth, into):"
    yield "    if depth < 0: raise too_deep(pos)"
    yield "    if into is None:"
    yield f"        into = new({_constant(cls or object)})"
    for field in fields_:
        yield f"        {target}{field.name} = {_blank(field)}"
    if cls:
        yield "        into._unknown_fields = b''"
    yield "    tag = 0"
    yield "    try:"
    yield from _indent(proceed, 2)
    yield "        while True:"
    tags = []
    for field in fields_:
        for tag, lines in _read_field(field, target + field.name, name):
            tag = tag if tag < 128 else -tag
            tags.append(tag)
            yield f"            {'while' if field.many else 'if'} tag == {tag}:"
            yield from _indent(lines, 4)
            yield from _indent(proceed, 4)
    yield "            if tag > 127: tag, pos = long_tag(data, pos, tag)"
    yield f"            elif tag not in {_constant(frozenset(tags))}:"
    yield f"                pos = keep({into}, {known}, data, pos, end, abs(tag), depth)"
    yield from _indent(proceed, 4)
    yield "    except (Fault, IndexError, StructError, UnicodeDecodeError) as error:"
    yield f"        raise placed(error, {into}, {known}, abs(tag), pos, end) from None"


def _blank(field: _Field) -> str:
    if field.many:
        return "{}" if field.entry else "[]"
    return _constant(field.zero) if field.kind == "enum" else repr(field.zero)


def _proceed(result: str) -> Iterator[str]:
    """Between two fields, the one place where reading beyond the end of a message is noticed."""
    yield "if pos >= end:"
    yield f"    if pos == end: return {result}"
    yield "    raise Fault(TRUNCATED, end)"
    yield "tag = data[pos]; pos += 1"


def _read_field(field: _Field, slot: str, owner: str) -> Iterator[tuple[int, list[str]]]:
    """The tags under which a field may come, each with the lines that read it into `slot`."""
    if field.entry:
        yield field.number << 3 | 2, list(_read_entry(field, slot, owner))
    elif field.many:
        yield field.number << 3 | field.wire, list(_read(field, f"{slot}.append(", ")"))
        if field.wire != 2:
            yield field.number << 3 | 2, list(_read_packed(field, slot))
    else:
        lines = list(_read(field, f"{slot} = ", "", slot))
        yield field.number << 3 | field.wire, lines + [f"into.{rival} = None" for rival in field.rivals]


def _read(field: _Field, before: str, after: str, merged: str = "None") -> Iterator[str]:
    if field.wire == 0:
        yield "number = data[pos]; pos += 1"
        yield "if number > 127:"
        yield "    number, pos = varint(data, pos, number)"
        if not field.kind.startswith("sint"):
            yield f"    if number >= {VARINTS[field.kind][1]}: number = narrow({field.kind!r}, number)"
        yield f"{before}{_number_read(field)}{after}"
    elif code := FIXED.get(field.kind):
        yield f"{before}{_constant(struct.Struct('<' + code).unpack_from)}(data, pos)[0]{after}"
        yield f"pos += {struct.calcsize('<' + code)}"
    else:
        yield from _read_size(check=field.kind == "message")
        yield f"{before}{_payload(field, merged)}{after}"
        yield "pos = stop"


def _number_read(field: _Field) -> str:
    if field.kind == "enum":
        return f"{_constant(_members(field.type))}[number]"
    if field.kind == "bool":
        return "number != 0"
    return f"narrow({field.kind!r}, number)" if field.kind.startswith("sint") else "number"


def _payload(field: _Field, merged: str) -> str:
    if field.kind == "string":
        return "data[pos:stop].decode()"
    if field.kind == "bytes":
        return "data[pos:stop]"
    decoder = _reference("decode", field.type)
    if not field.wrapped:
        return f"{decoder}(data, pos, stop, depth - 1, {merged})"
    again = f"{merged} and {_constant(field.type.from_wrapped)}({merged})"
    return f"unwrap({decoder}(data, pos, stop, depth - 1, {again}), pos)"


def _read_size(*, check: bool = True) -> Iterator[str]:
    yield "stop = data[pos]; pos += 1"
    yield "if stop > 127: stop, pos = short_varint(data, pos, stop)"
    yield "stop += pos"
    if check:
        yield "if stop > end: raise Fault(TRUNCATED, end)"


def _read_packed(field: _Field, slot: str) -> Iterator[str]:
    yield from _read_size()
    if code := FIXED.get(field.kind):
        yield f"{slot} += packed_fixed({code!r}, data, pos, stop)"
    else:
        members = _constant(_members(field.type)) if field.kind == "enum" else None
        yield f"{slot} += packed({field.kind!r}, {members}, data, pos, stop)"
    yield "pos = stop"


def _read_entry(field: _Field, slot: str, owner: str) -> Iterator[str]:
    yield from _read_size()
    yield f"key, item = {owner}_{field.name}(data, pos, stop, depth - 1, None)"
    if field.entry and field.entry[1].kind == "message":  # an absent value is an empty message
        empty = _reference("decode", field.entry[1].type)
        yield f"if item is None: item = {empty}(data, stop, stop, depth, None)"
    yield f"{slot}[key] = item"
    yield "pos = stop"
