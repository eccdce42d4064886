"""Spec files: jobs and pools as people write them, read into the API's own messages.

One rule: a file means what its messages mean in the proto3 JSON mapping, and anything else in it is a
SpecError with file, line, column and path; nothing is guessed or dropped. Looser than JSON only in spelling:
`instanceCount`, `instance_count` and `instancecount` are equal, and enums may leave out their prefix.
Called by the command line's --apply.

    kind: Job                  # or ResourcePool; a document without kind and spec is a bare JobSpec
    respool: /web/prod         # path of the job's pool; a ResourcePool has `parent:` instead
    id: 4ef8b17b-...           # the id that the job or pool is to have
    create: {batchSize: 2}     # CreateSpec, of jobs only
    spec: {name: checkout, instanceCount: 4}
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

import betterproto2
import msgspec

from derny.client.yaml_tree import Item, SpecError, folded, read, suggestion
from derny.proto.peloton.api.v1alpha.job.stateless import CreateSpec, JobSpec
from derny.proto.peloton.api.v1alpha.respool import ResourcePoolSpec

Message = TypeVar("Message", bound=betterproto2.Message)


class JobDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A job to create. What the file leaves out is empty; `pool` is a path; `place` is file:line:column."""

    place: str
    warnings: tuple[str, ...]
    spec: JobSpec
    id: str = ""
    pool: str = ""
    create: CreateSpec | None = None


class PoolDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A resource pool to create. What the file leaves out is empty; `parent` is a path."""

    place: str
    warnings: tuple[str, ...]
    spec: ResourcePoolSpec
    id: str = ""
    parent: str = ""


Document = JobDocument | PoolDocument


def load(path: Path) -> list[Document]:
    """The documents of a YAML or JSON file, in their order; SpecError for whatever is wrong with it."""
    return [_document(item) for item in read(path)]


def message_from(item: Item, message: type[Message], warnings: list[str]) -> Message:
    """The message that a mapping spells; null fields are unset, unknown ones that are null add a warning."""
    meta = _metadata(message)
    fields = _fields_by_json_name(message)
    values: dict[str, Any] = {}
    for json_name, value in item.fields(fields, warnings).items():
        name = fields[json_name]
        field, content = meta.meta_by_field_name[name], meta.cls_by_field[name]
        if field.map_meta is not None:
            values[name] = _map(value, field.map_meta, meta.cls_by_field[f"{name}.value"], warnings)
        elif field.repeated:
            values[name] = [_single(one, field, content, warnings) for one in value.items()]
        else:
            values[name] = _single(value, field, content, warnings)
    return message(**values)


# Documents.


def _document(item: Item) -> Document:
    keys = {folded(entry.key.text()) for entry in item.entries()}
    warnings: list[str] = []
    if not keys & {"kind", "spec"}:
        spec = message_from(item, JobSpec, warnings)
        return JobDocument(place=item.place, warnings=tuple(warnings), spec=spec)
    if "kind" not in keys:
        raise SpecError(f"{item.place}: kind is missing beside spec; expected Job or ResourcePool")
    return _DOCUMENT_OF_KIND[_kind(item)](item, warnings)


def _kind(item: Item) -> str:
    kind = next(entry.value for entry in item.entries() if folded(entry.key.text()) == "kind")
    name = next((name for name in _DOCUMENT_OF_KIND if folded(name) == folded(kind.text())), None)
    if name is None:
        raise kind.wrong("Job or ResourcePool")
    return name


def _job(item: Item, warnings: list[str]) -> JobDocument:
    parts = item.fields(("kind", "spec", "respool", "id", "create"), warnings)
    spec = message_from(_spec(item, parts), JobSpec, warnings)
    if "respool" in parts and spec.respool_id is not None:
        raise parts["respool"].wrong("the pool here or as spec.respoolId, not both")
    return JobDocument(
        place=item.place,
        spec=spec,
        id=_text(parts, "id"),
        pool=_pool_path(parts, "respool"),
        create=message_from(parts["create"], CreateSpec, warnings) if "create" in parts else None,
        warnings=tuple(warnings),
    )


def _pool(item: Item, warnings: list[str]) -> PoolDocument:
    parts = item.fields(("kind", "spec", "parent", "id"), warnings)
    spec = message_from(_spec(item, parts), ResourcePoolSpec, warnings)
    if "parent" in parts and spec.parent is not None:
        raise parts["parent"].wrong("the parent here or as spec.parent, not both")
    return PoolDocument(
        place=item.place,
        spec=spec,
        id=_text(parts, "id"),
        parent=_pool_path(parts, "parent"),
        warnings=tuple(warnings),
    )


_DOCUMENT_OF_KIND: Final[Mapping[str, Callable[[Item, list[str]], Document]]] = {
    "Job": _job,
    "ResourcePool": _pool,
}


def _spec(item: Item, parts: dict[str, Item]) -> Item:
    if "spec" not in parts:
        raise SpecError(f"{item.place}: spec is missing; expected a mapping beside kind")
    return parts["spec"]


def _text(parts: dict[str, Item], name: str) -> str:
    return parts[name].text() if name in parts else ""


def _pool_path(parts: dict[str, Item], name: str) -> str:
    path = _text(parts, name)
    if name in parts and not path.startswith("/"):
        raise parts[name].wrong("the path of a pool, such as /DefaultResPool")
    return path


# Fields.


def _metadata(message: type[betterproto2.Message]) -> betterproto2.ProtoClassMetadata:
    return message._betterproto  # type: ignore[arg-type]  # its descriptor is annotated for no class at all


@cache
def _fields_by_json_name(message: type[betterproto2.Message]) -> dict[str, str]:
    """The names of a class' fields by their proto3 JSON names, which errors suggest."""
    names = {}
    for name in _metadata(message).sorted_field_names:
        first, *rest = name.split("_")
        names[first + "".join(map(str.capitalize, rest))] = name
    return names


def _single(item: Item, field: betterproto2.FieldMetadata, content: type, warnings: list[str]) -> Any:
    """One value of a field's type; `content` is the class of a message or an enum."""
    # No field of a spec is a Timestamp, Duration or wrapper, which betterproto2 unwraps; a test says so.
    assert field.unwrap is None
    if field.proto_type == betterproto2.TYPE_MESSAGE:
        return message_from(item, content, warnings)
    if field.proto_type == betterproto2.TYPE_ENUM:
        return _enum(item, content)
    return _SCALARS[field.proto_type](item)


def _map(
    item: Item,
    meta: tuple[betterproto2.FieldMetadata, betterproto2.FieldMetadata],
    content: type,
    warnings: list[str],
) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key_item, value_item in item.entries():
        key = _SCALARS[meta[0].proto_type](key_item)
        if key in values:
            raise SpecError(f"{key_item.place}: {key_item.name} is given twice; expected each key once")
        values[key] = _single(value_item, meta[1], content, warnings)
    return values


@cache
def _numbers_by_name(enum: type[betterproto2.Enum]) -> tuple[dict[str, int], dict[str, int]]:
    """The numbers of an enum by full name, and by name without what all full names begin with."""
    renamed = enum.betterproto_value_to_renamed_proto_names()
    full = {renamed.get(member.value, member.name): int(member) for member in enum}
    words = zip(*(name.split("_") for name in full), strict=False)
    prefix = "".join(f"{first}_" for first, *_ in takewhile(lambda same: len(set(same)) == 1, words))
    return full, {name.removeprefix(prefix): number for name, number in full.items()}


def _enum(item: Item, enum: type[betterproto2.Enum]) -> betterproto2.Enum:
    """A value by its full name, its name without the prefix, or its number."""
    full, short = _numbers_by_name(enum)
    text = item.text("the name or number of an enum value")
    number = full.get(text, short.get(text))
    if number is None:
        number = next((known for known in full.values() if str(known) == text), None)
    if number is None:
        raise SpecError(
            f"{item.place}: {item.name} is {item.found}{suggestion(text, full if '_' in text else short)}"
        )
    return enum(number)


def _bytes(item: Item) -> bytes:
    """base64 in either alphabet, padded or not, as the JSON mapping accepts."""
    text = "".join(item.text("base64").split()).translate({ord("-"): "+", ord("_"): "/"})
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise item.wrong("base64") from None


def _whole(low: int, high: int) -> Callable[[Item], int]:
    return lambda item: item.whole(low, high)


_SCALARS: Final[Mapping[str, Callable[[Item], Any]]] = {
    **dict.fromkeys(("int32", "sint32", "sfixed32"), _whole(-(2**31), 2**31 - 1)),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), _whole(-(2**63), 2**63 - 1)),
    **dict.fromkeys(("uint32", "fixed32"), _whole(0, 2**32 - 1)),
    **dict.fromkeys(("uint64", "fixed64"), _whole(0, 2**64 - 1)),
    "bool": Item.truth,
    "string": Item.text,
    "bytes": _bytes,
    "double": Item.number,
}
"""The reader of every scalar type in specs, of which no field is a 32-bit float."""
