"""The codec must agree with Google's protobuf on every message class of the contract.

These differences are meant. Google's parser keeps a known field with another wire type than its own as an
unknown field, drops the bits of a varint above the 64th, lets a field number 0 pass inside an unknown group,
and lets a Timestamp pass that is outside the years 1 to 9999 or has nanoseconds outside of a second: all are
refused here. It keeps a map entry with an unknown field out of the map, as an unknown field; here the entry
counts and its unknown field is dropped. Nanoseconds are cut to whole microseconds, and the tag of an unknown
field is written in its shortest form.
"""

import datetime
import random
from collections.abc import Iterator
from dataclasses import make_dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any

import betterproto2
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from derny.api import codec
from derny.api.codec import GrpcCodec, WireError
from derny.model.errors import Invalid
from derny.proto.message_pool import default_message_pool
from derny.proto.peloton.api.v1alpha import peloton, pod
from derny.proto.peloton.api.v1alpha.admin.svc import Component, LockdownRequest
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, WorkflowStatus
from derny.proto.peloton.api.v1alpha.job.stateless.svc import CreateJobRequest, ListPodsResponse

CREATE = "peloton.api.v1alpha.job.stateless.svc.CreateJobRequest"
KINDS = {  # each scalar type: its number in a descriptor, its Python type
    "double": (1, float), "float": (2, float), "int64": (3, int), "uint64": (4, int), "int32": (5, int),
    "fixed64": (6, int), "fixed32": (7, int), "bool": (8, bool), "string": (9, str), "bytes": (12, bytes),
    "uint32": (13, int), "sfixed32": (15, int), "sfixed64": (16, int), "sint32": (17, int),
    "sint64": (18, int),
}  # fmt: skip


def every_kind() -> tuple[type[betterproto2.Message], descriptor_pb2.FileDescriptorProto]:
    """What the contract does not use: each scalar as a plain, optional and repeated field and in a oneof."""
    file = descriptor_pb2.FileDescriptorProto(name="every.proto", package="every", syntax="proto3")
    message = file.message_type.add(name="Every")
    message.oneof_decl.add(name="choice")
    made = []
    for index, (kind, (number, python)) in enumerate(KINDS.items(), 1):
        message.field.add(name=f"a_{kind}", number=index, type=number, label=1)
        made.append((f"a_{kind}", python, betterproto2.field(index, kind)))
        message.field.add(name=f"many_{kind}", number=index + 20, type=number, label=3)
        made.append((f"many_{kind}", list[python], betterproto2.field(index + 20, kind, repeated=True)))
        message.field.add(name=f"one_{kind}", number=index + 40, type=number, label=1, oneof_index=0)
        made.append((f"one_{kind}", python | None, betterproto2.field(index + 40, kind, group="choice")))
        optional = {"number": index + 600, "oneof_index": len(message.oneof_decl), "proto3_optional": True}
        message.field.add(name=f"opt_{kind}", type=number, label=1, **optional)
        message.oneof_decl.add(name=f"_opt_{kind}")
        made.append((f"opt_{kind}", python | None, betterproto2.field(index + 600, kind, optional=True)))
    return make_dataclass("Every", made, bases=(betterproto2.Message,), eq=False, repr=False), file


def described() -> descriptor_pb2.FileDescriptorSet:
    """The contract as it is shipped, but with every repeated number packed: that is how we write them."""
    data = files("derny.proto").joinpath("descriptors.binpb").read_bytes()
    found = descriptor_pb2.FileDescriptorSet.FromString(data)
    for message in every_message(found):
        for field in message.field:
            field.options.ClearField("packed")
    return found


def every_message(described: descriptor_pb2.FileDescriptorSet) -> Iterator[Any]:
    waiting = [message for file in described.file for message in file.message_type]
    while waiting:
        message = waiting.pop()
        waiting += message.nested_type
        yield message


def pool_of(described: descriptor_pb2.FileDescriptorSet) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return pool


def names_of(prefix: str, messages: Any) -> Iterator[str]:
    for message in messages:
        if not message.options.map_entry:
            yield f"{prefix}.{message.name}"
            yield from names_of(f"{prefix}.{message.name}", message.nested_type)


DESCRIBED = described()
Every, every_file = every_kind()
DESCRIBED.file.append(every_file)
POOL = pool_of(DESCRIBED)
NAMES = [
    name
    for file in DESCRIBED.file
    if file.package.startswith(("peloton.", "mesos."))
    for name in names_of(file.package, file.message_type)
]
for package in {file.package for file in DESCRIBED.file if file.package.startswith(("peloton.", "mesos."))}:
    import_module(f"derny.proto.{package}")
CLASSES = {url.partition("/")[2]: cls for url, cls in default_message_pool.url_to_type.items()}


def google(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


def canonical(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


CLASSES["every.Every"] = Every


def ints(low: int, high: int) -> st.SearchStrategy[int]:
    edges = [value for value in (0, 1, -1, 127, 128, 16_384, low, high) if low <= value <= high]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "double": st.one_of(st.sampled_from([0.0, -0.0, 1.5]), st.floats()),
    "float": st.one_of(st.sampled_from([0.0, -0.0, 1.5]), st.floats(width=32, allow_nan=False)),
    "bool": st.booleans(),
    "string": st.one_of(st.just(""), st.text(max_size=12), st.just("x" * 130)),
    "bytes": st.binary(max_size=12),
    **{kind: ints(-(2**31), 2**31 - 1) for kind in ("int32", "sint32", "sfixed32")},
    **{kind: ints(-(2**63), 2**63 - 1) for kind in ("int64", "sint64", "sfixed64")},
    **{kind: ints(0, 2**32 - 1) for kind in ("uint32", "fixed32")},
    **{kind: ints(0, 2**64 - 1) for kind in ("uint64", "fixed64")},
}
BY_NUMBER = {number: SCALARS[kind] for kind, (number, _) in KINDS.items()}
UNKNOWN = [
    b"",
    b"\xc0\x3e\x05",
    b"\xc2\x3e\x03abc",
    b"\xc3\x3e\x08\x01\xc4\x3e",
    b"\xc1\x3e12345678\xc5\x3e1234",
]


def scalar(draw: st.DrawFn, field: Any) -> Any:
    if field.enum_type:
        return draw(st.one_of(st.sampled_from(sorted(field.enum_type.values_by_number)), SCALARS["int32"]))
    return draw(BY_NUMBER[field.type])


def fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    """Set some of the fields; a Timestamp gets whole microseconds of our calendar."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        message.FromMicroseconds(draw(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)))
        return
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            fill_map(draw, message, field, depth)
        elif field.message_type and field.is_repeated:
            for _ in range(draw(st.integers(0, 2 if depth else 0))):
                fill(draw, getattr(message, field.name).add(), depth - 1)
        elif field.message_type:
            if depth:
                getattr(message, field.name).SetInParent()
                fill(draw, getattr(message, field.name), depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(scalar(draw, field) for _ in range(draw(st.integers(0, 3))))
        else:
            setattr(message, field.name, scalar(draw, field))


def fill_map(draw: st.DrawFn, message: Any, field: Any, depth: int) -> None:
    key_field, value_field = (
        field.message_type.fields_by_name["key"],
        field.message_type.fields_by_name["value"],
    )
    for _ in range(draw(st.integers(0, 2))):
        key = scalar(draw, key_field)
        if not value_field.message_type:
            getattr(message, field.name)[key] = scalar(draw, value_field)
        elif depth:
            fill(draw, getattr(message, field.name)[key], depth - 1)


@st.composite
def messages(draw: st.DrawFn, name: str) -> Any:
    message = google(name)()
    fill(draw, message, 3)
    message.MergeFromString(draw(st.sampled_from(UNKNOWN)))
    return message


quick = settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
every_class = pytest.mark.parametrize("name", [*NAMES, "every.Every"])


def reaches_timestamp(descriptor: Any, seen: frozenset[str] = frozenset()) -> bool:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return True
    seen |= {descriptor.full_name}
    below = [field.message_type for field in descriptor.fields if field.message_type]
    return any(reaches_timestamp(message, seen) for message in below if message.full_name not in seen)


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes(written) + bytes([number])


def refused(cls: type[betterproto2.Message], data: bytes) -> str:
    with pytest.raises(WireError) as caught:
        codec.decode(cls, data)
    return str(caught.value)


def test_every_class_of_the_contract_is_tried() -> None:
    assert len(NAMES) > 200
    assert set(NAMES) <= set(CLASSES)


@every_class
def test_round_trip_equals_google(name: str) -> None:
    """Google's bytes → our decode → our encode: the same bytes but for their order, the same meaning."""

    @quick
    @given(message=messages(name))
    def agree(message: Any) -> None:
        theirs = message.SerializeToString()
        ours = codec.encode(codec.decode(CLASSES[name], theirs))
        assert sorted(ours) == sorted(theirs)
        assert canonical(google(name).FromString(ours)) == canonical(message)

    agree()


@every_class
def test_damaged_bytes_are_refused_when_google_refuses_them(name: str) -> None:
    """Every prefix, and bytes changed here and there; what both accept must mean the same."""

    @quick
    @given(message=messages(name), seed=st.integers(0, 2**32))
    def agree(message: Any, seed: int) -> None:
        whole = message.SerializeToString()
        dice = random.Random(seed)
        for _ in range(12):
            data = bytearray(whole[: dice.randrange(len(whole) + 1)] if dice.random() < 0.5 else whole)
            for _ in range(dice.randrange(3) if data else 0):
                data[dice.randrange(len(data))] = dice.choice([dice.randrange(256), 0, 7, 0x7F, 0x80, 0xFF])
            same_verdict(name, bytes(data))

    agree()


STRICTER = (" is expected", " is out of range", "has more than 64 bits", "field number 0")


def same_verdict(name: str, data: bytes) -> None:
    try:
        theirs = google(name).FromString(data)
    except DecodeError:
        refused(CLASSES[name], data)
        return
    try:
        ours = codec.encode(codec.decode(CLASSES[name], data))
    except WireError as error:
        assert any(reason in str(error) for reason in STRICTER), (data, str(error))
        return
    if not reaches_timestamp(theirs.DESCRIPTOR) and not has_entry_aside(theirs):
        assert known_part(google(name).FromString(ours)) == known_part(theirs), data


def has_entry_aside(message: Any) -> bool:
    """Whether Google's parser put a map entry among the unknown fields, here or below."""
    known = message.DESCRIPTOR.fields_by_number
    if any(field.field_number in known and field.wire_type == 2 for field in UnknownFieldSet(message)):
        return True
    below: list[Any] = []
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            below += [item for item in value.values() if hasattr(item, "DESCRIPTOR")]
        elif field.message_type:
            below += value if field.is_repeated else [value]
    return any(map(has_entry_aside, below))


def known_part(message: Any) -> bytes:
    message.DiscardUnknownFields()
    return canonical(message)


@every_class
def test_every_prefix_is_judged_as_by_google(name: str) -> None:
    @settings(quick, max_examples=1)
    @given(message=messages(name))
    def agree(message: Any) -> None:
        whole = message.SerializeToString()
        for length in range(min(len(whole), 200)):
            same_verdict(name, whole[:length])

    agree()


@every_class
def test_empty_bytes_are_the_default_message(name: str) -> None:
    message = codec.decode(CLASSES[name], b"")
    assert codec.encode(message) == b""
    assert message == CLASSES[name]()
    assert vars(message) == vars(CLASSES[name]())


def test_submessages_that_occur_twice_are_merged() -> None:
    specs = [JobSpec(name="a", instance_count=3), JobSpec(name="b")]
    data = b"".join(codec.delimited(2, codec.encode(spec)) for spec in specs)
    assert codec.decode(CreateJobRequest, data).spec == JobSpec(name="b", instance_count=3)


def test_the_last_member_of_a_oneof_wins_and_clears_the_others() -> None:
    first, last = google("every.Every")(one_int64=5), google("every.Every")(one_string="")
    message = codec.decode(Every, first.SerializeToString() + last.SerializeToString())
    given_ones = {name: value for name, value in vars(message).items() if name.startswith("one_")}
    assert {name for name, value in given_ones.items() if value is not None} == {"one_string"}


def test_packed_and_unpacked_numbers_are_the_same() -> None:
    assert codec.decode(LockdownRequest, b"\x08\x01\x0a\x02\x02\x03\x08\x04").components == [
        Component(n) for n in (1, 2, 3, 4)
    ]


def test_map_entries_may_lack_their_key_or_value_and_the_later_key_wins() -> None:
    status = codec.decode(pod.ContainerStatus, b"\x1a\x00\x1a\x05\x0a\x01a\x10\x07\x1a\x05\x0a\x01a\x10\x09")
    assert status.ports == {"": 0, "a": 9}
    assert codec.decode(JobSpec, b"\x5a\x02\x08\x05").instance_spec == {5: pod.PodSpec()}


def test_unknown_enum_numbers_and_negative_ones_survive() -> None:
    for number in (77, -1):
        message = LockdownRequest(components=[Component(number)])
        assert codec.decode(LockdownRequest, codec.encode(message)).components == [number]


def test_negative_zero_is_kept_and_zero_is_not_written() -> None:
    assert codec.encode(pod.ResourceSpec(cpu_limit=-0.0)) == b"\x09" + bytes(7) + b"\x80"
    assert codec.encode(pod.ResourceSpec(cpu_limit=0.0)) == b""


def test_unknown_fields_are_kept_in_nested_messages_and_written_again() -> None:
    data = codec.delimited(2, b"\x12\x01a" + UNKNOWN[3]) + UNKNOWN[2]
    request = codec.decode(CreateJobRequest, data)
    assert request.spec is not None
    assert request.spec._unknown_fields == UNKNOWN[3]
    assert codec.encode(request) == data


def test_timestamps_are_datetimes_of_whole_microseconds() -> None:
    utc = datetime.UTC
    moments = [
        datetime.datetime(1, 1, 1, tzinfo=utc),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, utc),
    ]
    for moment in moments:
        message = peloton.TimeRange(min=moment)
        assert codec.decode(peloton.TimeRange, codec.encode(message)) == message


@pytest.mark.parametrize(
    "seconds, nanos", [(253_402_300_800, 0), (-62_135_596_801, 0), (0, 1_000_000_000), (0, -1)]
)
def test_a_timestamp_out_of_range_is_refused(seconds: int, nanos: int) -> None:
    name = "peloton.api.v1alpha.peloton.TimeRange"
    data = google(name)(max={"seconds": seconds, "nanos": nanos}).SerializeToString()
    sentence = refused(peloton.TimeRange, data)
    assert sentence.startswith(f"{name}.max at byte 2: the Timestamp is out of range")


def request_with(spec: bytes) -> bytes:
    return codec.delimited(1, b"") + codec.delimited(2, spec)


LABELS = codec.delimited(7, b"\x0a\x01k") + codec.delimited(7, b"\x0a\x02a\xff")


@pytest.mark.parametrize(
    "data, place, reason",
    [
        (request_with(LABELS), ".spec.labels[1].key at byte 14", "the string is not UTF-8"),
        (b"\x12\x05\x12\x09a", ".spec at byte 5", "the message ends"),
        (b"\x12\x02\x12\x09abcdefghij", ".spec.name at byte 4", "the message ends in the middle of a field"),
        (b"\x0a", ".job_id at byte 1", "the message ends"),
        (b"\x12\x02\x40\x80", ".spec.instance_count at byte 4", "the message ends"),
        (b"\x12\x0b\x40" + b"\xff" * 10, ".spec.instance_count at byte 4", "longer than 10 bytes"),
        (b"\x12\x0b\x40" + b"\xff" * 9 + b"\x02", ".spec.instance_count at byte 4", "more than 64 bits"),
        (b"\x08\x01", ".job_id at byte 1", "wire type 0 (varint) where 2 (length-delimited) is expected"),
        (
            b"\x12\x02\x42\x00",
            ".spec.instance_count at byte 3",
            "wire type 2 (length-delimited) where 0",
        ),
        (b"\x12\x05\x45abcd", ".spec.instance_count at byte 3", "wire type 5 (32-bit) where 0 (varint) is"),
        (b"\x0a\x00\x00\x01", " at byte 3", "field number 0 does not exist"),
        (b"\x12\x02\x02\x00", ".spec at byte 3", "field number 0 does not exist"),
        (b"\x80\x80\x80\x80\x10\x01", " at byte 5", "field number 536870912 is above 536870911"),
        (b"\x7b\x08\x01", ".(field 15) at byte 3", "the message ends"),
        (b"\x7b\x08\x01\x84\x01", " at byte 5", "the group 16 ends but was not started"),
        (b"\x7c", " at byte 1", "the group 15 ends but was not started"),
        (b"\x7e\x01", " at byte 1", "wire type 6 does not exist"),
        (b"\x80" * 11, " at byte 0", "longer than 10 bytes"),
        (b"\x82", " at byte 0", "the message ends"),
        (b"\x12\x80\x80\x80\x80\x80\x00", ".spec at byte 2", "longer than 5 bytes"),
        (b"\x92\x80\x80\x80\x80\x00\x00", " at byte 0", "longer than 5 bytes"),
    ],
)
def test_a_refusal_names_its_place(data: bytes, place: str, reason: str) -> None:
    sentence = refused(CreateJobRequest, data)
    assert sentence.startswith(f"{CREATE}{place}: ")
    assert reason in sentence
    if not any(stricter in sentence for stricter in STRICTER[:3]):
        with pytest.raises(DecodeError):
            google(CREATE).FromString(data)


def test_a_fault_in_a_map_names_the_map_and_the_side() -> None:
    sentence = refused(pod.ContainerStatus, b"\x1a\x05\x0a\x01a\x10\x01\x1a\x03\x0a\x01\xff")
    assert (
        sentence == "peloton.api.v1alpha.pod.ContainerStatus.ports[1].key at byte 11: the string is not UTF-8"
    )


def test_a_refusal_is_invalid_argument() -> None:
    assert issubclass(WireError, Invalid)


def nested(levels: int) -> bytes:
    """A pod constraint with `levels` messages inside, one in the other, made from the inside out."""
    heads, size = [], 0
    for level in range(levels, 0, -1):
        head = (b"\x1a" if level % 2 else b"\x0a") + varint(size)
        heads.append(head)
        size += len(head)
    return b"".join(reversed(heads))


@pytest.mark.parametrize("levels", [0, 1, 50, 99, 100, 101, 102, 400])
def test_nesting_is_allowed_as_deep_as_google_allows_it(levels: int) -> None:
    same_verdict("peloton.api.v1alpha.pod.Constraint", nested(levels))
    same_verdict("peloton.api.v1alpha.pod.Constraint", b"\x7b" * levels + b"\x7c" * levels)


def test_a_hundred_and_one_levels_are_refused_with_their_place() -> None:
    sentence = refused(pod.Constraint, nested(102))
    assert "more than 100 messages are nested" in sentence
    assert sentence.startswith(
        "peloton.api.v1alpha.pod.Constraint.and_constraint.constraints[0].and_constraint."
    )
    assert len(sentence) < 500


@pytest.mark.parametrize("bomb", [nested(1_000_000), b"\x7b" * 1_000_000], ids=["messages", "groups"])
def test_a_bomb_of_a_million_levels_is_refused(bomb: bytes) -> None:
    assert "more than 100 messages are nested" in refused(pod.Constraint, bomb)


WIDTHS = {
    "one byte": lambda dice: dice.randrange(128),
    "two bytes": lambda dice: dice.randrange(128, 1 << 14),
    "mixed": lambda dice: dice.randrange(1 << dice.choice([1, 7, 8, 14, 21, 28, 32])),
    "seldom wide": lambda dice: dice.choice([1] * 50 + [2**32 - 1]),
    "over 32 bits": lambda dice: dice.choice([2**64 - 1, 2**63, 2**32, 5, 1 << 56, 1 << 49]),
}


WORKFLOW = "peloton.api.v1alpha.job.stateless.WorkflowStatus"
INSTANCES = 6


def test_the_large_field_is_the_one_meant() -> None:
    assert google(WORKFLOW).DESCRIPTOR.fields_by_number[INSTANCES].name == "instances_current"


@pytest.mark.parametrize("width", WIDTHS)
def test_packed_numbers_of_any_width_are_read_as_google_reads_them(width: str) -> None:
    dice = random.Random(width)
    for count in (10, 4000):
        packed = b"".join(varint(WIDTHS[width](dice)) for _ in range(count))
        data = codec.delimited(INSTANCES, packed)
        theirs = google(WORKFLOW).FromString(data).instances_current
        assert codec.decode(WorkflowStatus, data).instances_current == theirs


BAD_ENDS = [b"\x80", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02", b"\x80" * 5000 + b"\x01"]


@pytest.mark.parametrize("end", BAD_ENDS, ids=["cut", "11 bytes", "65 bits", "5001 bytes"])
@pytest.mark.parametrize("before", [b"", b"\x01" * 2000, b"\x80\x01" * 2000], ids=["alone", "narrow", "wide"])
def test_a_packed_field_with_a_bad_varint_is_refused(before: bytes, end: bytes) -> None:
    sentence = refused(WorkflowStatus, codec.delimited(INSTANCES, before + end))
    assert sentence.startswith(f"{WORKFLOW}.instances_current[0] at byte ")


def test_a_million_unknown_fields_are_kept_in_linear_time() -> None:
    data = b"\x78\x01" * 300_000
    message = codec.decode(pod.Constraint, data)
    assert codec.encode(message) == data


@pytest.mark.parametrize(
    "message, part",
    [
        (JobSpec(instance_count=2**32), "JobSpec: instance_count: 4294967296 is not a uint32"),
        (JobSpec(instance_count=-1), "instance_count: -1 is not a uint32"),
        (JobSpec(name="\ud800"), "surrogates not allowed"),
        (WorkflowStatus(instances_current=[1, 2**32]), "instances_current: 4294967296 is not a uint32"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(message: betterproto2.Message, part: str) -> None:
    with pytest.raises(WireError, match=part):
        codec.encode(message)


def test_a_message_without_some_fields_is_verbatim_else() -> None:
    message = JobSpec(name="a", owner="b", description="c", instance_count=7)
    data = codec.encode(message)
    assert codec.without_fields(data, {99}) is data
    assert codec.without_fields(data, {3, 8}) == codec.encode(JobSpec(name="a", description="c"))
    assert codec.without_fields(data, {2, 3, 6, 8}) == b""
    unknown = b"\xc2\x3e\x04late"
    assert codec.without_fields(data + unknown, {2, 3, 6, 8}) == unknown
    with pytest.raises(codec.WireError, match="malformed"):
        codec.without_fields(data[:4], {2})


def test_field_bytes_are_the_clients_own() -> None:
    spec = b"\x40\x03\x12\x01a\xc2\x3e\x03abc"  # not in ascending order, with an unknown field
    data = UNKNOWN[3] + codec.delimited(2, spec) + codec.delimited(1, b"") + UNKNOWN[4]
    assert codec.field_bytes(data, 2) == spec
    assert codec.field_bytes(data, 3) == b""
    assert codec.field_bytes(data + codec.delimited(2, b"\x40\x04"), 2) == spec + b"\x40\x04"
    with pytest.raises(WireError, match="malformed at byte"):
        codec.field_bytes(data[:-1], 2)


def test_a_response_can_be_joined_of_kept_items() -> None:
    items = [pod.PodSummary(pod_name=peloton.PodName(value="x" * n)) for n in (0, 3, 300)]
    joined = b"".join(codec.delimited(1, codec.encode(item)) for item in items)
    assert codec.decode(ListPodsResponse, joined) == ListPodsResponse(pods=items)


def test_a_received_message_remembers_its_bytes() -> None:
    data = request_with(b"\x40\x03\x12\x01a")
    request = GrpcCodec().decode(data, CreateJobRequest)
    assert codec.wire_bytes(request) == data
    assert request == CreateJobRequest(job_id=peloton.JobId(), spec=JobSpec(name="a", instance_count=3))
    made = CreateJobRequest(spec=JobSpec(name="a"))
    assert codec.wire_bytes(made) == codec.encode(made)


def test_bytes_pass_through_the_grpc_codec() -> None:
    assert GrpcCodec().encode(b"kept", CreateJobRequest) == b"kept"
    assert GrpcCodec().encode(JobSpec(name="a"), JobSpec) == b"\x12\x01a"
    with pytest.raises(TypeError, match="expected a CreateJobRequest, not a JobSpec"):
        GrpcCodec().encode(JobSpec(), CreateJobRequest)
    with pytest.raises(WireError):
        GrpcCodec().decode(b"\x0a", CreateJobRequest)
