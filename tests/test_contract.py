"""The compiled descriptors against the table of the public API, member by member.

contract.tsv has one row for each RPC, field, enum value and empty message: the file it is in, its owner,
name, number, type and label. The descriptors are those that reflection serves. Both have to say the same, in
both directions.
"""

import csv
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

import derny.proto
from derny.proto.message_pool import default_message_pool

TABLE = Path(__file__).parent / "contract.tsv"
DESCRIPTORS = Path(derny.proto.__file__).parent / "descriptors.binpb"
SIMULATION = "derny/simulation/v1/simulation.proto"
INSIGHT = "derny/insight/v1/insight.proto"
SCALARS = {
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
}
# proto3 enums begin at 0; these ones of Mesos begin at 1.
ADDED_ZEROS = {
    "mesos.v1.ContainerInfo.DockerInfo.Network.NETWORK_UNSPECIFIED",
    "mesos.v1.ContainerInfo.Type.TYPE_UNSPECIFIED",
    "mesos.v1.Image.Type.TYPE_UNSPECIFIED",
    "mesos.v1.NetworkInfo.Protocol.PROTOCOL_UNSPECIFIED",
    "mesos.v1.Volume.Mode.MODE_UNSPECIFIED",
}
DEPRECATED = {
    "mesos.v1.ExecutorInfo.source",
    "mesos.v1.LinuxInfo.capability_info",
    "mesos.v1.Resource.role",
    "peloton.api.v1alpha.host.svc.CompleteMaintenanceRequest.hostnames",
    "peloton.api.v1alpha.host.svc.StartMaintenanceRequest.hostnames",
    "peloton.api.v1alpha.job.stateless.JobStatus.pod_configuration_version_stats",
    "peloton.api.v1alpha.job.stateless.WorkflowInfo.restart_batch_size",
    "peloton.api.v1alpha.job.stateless.WorkflowInfo.restart_ranges",
    "peloton.api.v1alpha.job.stateless.svc.JobService.ListJobUpdates",
    "peloton.api.v1alpha.job.stateless.svc.RestartJobRequest.batch_size",
    "peloton.api.v1alpha.job.stateless.svc.RestartJobRequest.ranges",
    "peloton.api.v1alpha.pod.ContainerSpec.command",
    "peloton.api.v1alpha.pod.ContainerSpec.container",
    "peloton.api.v1alpha.pod.ContainerSpec.executor",
    "peloton.api.v1alpha.pod.HealthCheckSpec.command_check",
    "peloton.api.v1alpha.pod.HealthCheckSpec.http_check",
    "peloton.api.v1alpha.pod.PersistentVolumeSpec",
    "peloton.api.v1alpha.pod.PodSpec.volume",
    "peloton.api.v1alpha.pod.PodStatus.volume_id",
    "peloton.api.v1alpha.volume.PersistentVolumeInfo",
    "peloton.api.v1alpha.volume.svc.VolumeService",
}
# Spellings that a tidy mind would change, with the JSON names that clients send and expect.
ODD_JSON_NAMES = {
    "peloton.api.v1alpha.admin.svc.ComponentFailure.FailureMessage": "FailureMessage",
    "peloton.api.v1alpha.host.HostSummary.Offers": "Offers",
    "peloton.api.v1alpha.host.svc.ChangeHostPoolRequest.destinationPool": "destinationPool",
    "peloton.api.v1alpha.host.svc.ChangeHostPoolRequest.sourcePool": "sourcePool",
    "peloton.api.v1alpha.job.stateless.WorkflowInfo.instance_events": "instanceEvents",
    "peloton.api.v1alpha.peloton.Resources.diskMb": "diskMb",
    "peloton.api.v1alpha.peloton.Resources.memMb": "memMb",
    "peloton.api.v1alpha.pod.ContainerStatus.terminationStatus": "terminationStatus",
    "peloton.api.v1alpha.pod.InstanceIDRange.from": "from",
    "peloton.api.v1alpha.pod.PodStatus.desiredHost": "desiredHost",
    "peloton.api.v1alpha.respool.ControllerLimit.max_percent": "maxPercent",
    "peloton.api.v1alpha.respool.SlackLimit.maxPercent": "maxPercent",
    "peloton.api.v1alpha.respool.UpdateResourcePoolRequest.Force": "Force",
}


class Member(NamedTuple):
    """One row of the table. `label` is empty for enum values and empty messages."""

    kind: str
    owner: str
    name: str
    number: str
    type: str
    label: str


class Node(NamedTuple):
    """A descriptor with its full name and its path in the source information."""

    name: str
    path: tuple[int, ...]
    descriptor: Any


def read_table() -> dict[str, set[Member]]:
    """The rows by file. Mesos' `required` counts as single: proto3 has no such label."""
    rows: dict[str, set[Member]] = {}
    with TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            label = "single" if row["label"] == "required" else row["label"]
            member = Member(row["kind"], row["owner"], row["name"], row["number"], row["type"], label)
            rows.setdefault(row["file"], set()).add(member)
    return rows


ROWS = read_table()
SET = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
FILES: dict[str, FileDescriptorProto] = {file.name: file for file in SET.file}
OURS = sorted({*ROWS, SIMULATION, INSIGHT})


def messages(file: FileDescriptorProto) -> Iterator[Node]:
    """All messages, the nested ones too, without the entries that protoc makes for maps."""
    pending = [Node(f"{file.package}.{m.name}", (4, i), m) for i, m in enumerate(file.message_type)]
    while pending:
        node = pending.pop()
        if not node.descriptor.options.map_entry:
            yield node
            inner = enumerate(node.descriptor.nested_type)
            pending.extend(Node(f"{node.name}.{m.name}", (*node.path, 3, i), m) for i, m in inner)


def enums(file: FileDescriptorProto) -> Iterator[Node]:
    """All enums, the nested ones too."""
    yield from (Node(f"{file.package}.{e.name}", (5, i), e) for i, e in enumerate(file.enum_type))
    for node in messages(file):
        inner = enumerate(node.descriptor.enum_type)
        yield from (Node(f"{node.name}.{e.name}", (*node.path, 4, i), e) for i, e in inner)


def services(file: FileDescriptorProto) -> Iterator[Node]:
    """All services."""
    yield from (Node(f"{file.package}.{s.name}", (6, i), s) for i, s in enumerate(file.service))


def parts(owner: Node) -> Iterator[Node]:
    """The fields of a message, the values of an enum, or the methods of a service."""
    lists = {DescriptorProto: ("field", 2), EnumDescriptorProto: ("value", 2)}
    attribute, number = lists.get(type(owner.descriptor), ("method", 2))
    inner = enumerate(getattr(owner.descriptor, attribute))
    yield from (Node(f"{owner.name}.{d.name}", (*owner.path, number, i), d) for i, d in inner)


def everything(file: FileDescriptorProto) -> Iterator[Node]:
    """Every named thing of a file."""
    for owners in (messages(file), enums(file), services(file)):
        for owner in owners:
            yield owner
            yield from parts(owner)


def field_type(field: FieldDescriptorProto, message: DescriptorProto) -> tuple[str, str]:
    """The type and the label of a field, as the table writes them."""
    for entry in message.nested_type:
        if entry.options.map_entry and field.type_name.endswith(f".{entry.name}"):
            key, value = (field_type(part, entry)[0] for part in entry.field)
            return f"map<{key},{value}>", "map"
    name = SCALARS.get(field.type) or field.type_name.removeprefix(".")
    return name, "repeated" if field.label == FieldDescriptorProto.LABEL_REPEATED else "single"


def compiled_members(file: FileDescriptorProto) -> set[Member]:
    """What the table would say of a compiled file."""
    found = set()
    for owner in services(file):
        for method in owner.descriptor.method:
            types = f"{method.input_type.removeprefix('.')} -> {method.output_type.removeprefix('.')}"
            label = {(False, False): "unary", (False, True): "server_streaming"}[
                method.client_streaming, method.server_streaming
            ]
            found.add(Member("rpc", owner.name, method.name, "", types, label))
    for owner in messages(file):
        if not owner.descriptor.field and not owner.descriptor.nested_type:
            found.add(Member("message", owner.name, "(no fields)", "", "", ""))
        for field in owner.descriptor.field:
            kind, label = field_type(field, owner.descriptor)
            found.add(Member("field", owner.name, field.name, str(field.number), kind, label))
    for owner in enums(file):
        for value in owner.descriptor.value:
            if f"{owner.name}.{value.name}" not in ADDED_ZEROS:
                found.add(Member("enum", owner.name, value.name, str(value.number), "", ""))
    return found


def test_descriptors_are_complete_without_any_other_file() -> None:
    """Reflection serves them as they are: a pool takes them in order, each after its imports."""
    pool = DescriptorPool()
    for file in SET.file:
        pool.Add(file)
    assert {file.name for file in SET.file} == {*OURS, "google/protobuf/timestamp.proto"}
    assert all(pool.FindFileByName(name).package == FILES[name].package for name in OURS)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_file_has_exactly_the_members_of_the_table(name: str) -> None:
    """Same names, numbers, types and labels; nothing missing, nothing of our own."""
    compiled = compiled_members(FILES[name])
    assert sorted(ROWS[name] - compiled) == [], "in the table only"
    assert sorted(compiled - ROWS[name]) == [], "in the descriptors only"


def test_added_zero_values_are_the_first_of_enums_that_have_none_in_the_table() -> None:
    """Only such an enum may have a value that the table does not know."""
    from_one = {
        f"{owner.name}.{owner.descriptor.value[0].name}"
        for name in ROWS
        for owner in enums(FILES[name])
        if not any(row.owner == owner.name and row.number == "0" for row in ROWS[name])
    }
    assert from_one == ADDED_ZEROS


@pytest.mark.parametrize("name", sorted(ROWS))
def test_package_is_the_directory_but_for_two(name: str) -> None:
    """Full names are what clients call, so the two files that break the habit have to."""
    exceptions = {
        "peloton/api/v1alpha/peloton.proto": "peloton.api.v1alpha.peloton",
        "peloton/api/v1alpha/respool/svc/respool_svc.proto": "peloton.api.v1alpha.respool",
    }
    package = exceptions.get(name) or name.rpartition("/")[0].replace("/", ".")
    assert (FILES[name].syntax, FILES[name].package) == ("proto3", package)


def test_the_simulators_own_service_has_a_package_of_its_own() -> None:
    """The simulator's own methods get a package that cannot clash with the public API."""
    file = FILES[SIMULATION]
    assert file.package == "derny.simulation.v1"
    assert [service.name for service in file.service] == ["SimulationService"]


def test_mesos_values_have_presence_and_are_not_packed() -> None:
    """What a proto2 peer writes and reads: a zero that is set differs from none, and lists are one by one."""
    for owner in messages(FILES["mesos/v1/mesos.proto"]):
        for field in owner.descriptor.field:
            repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
            plain = field.type != FieldDescriptorProto.TYPE_MESSAGE
            assert field.proto3_optional == (plain and not repeated), f"{owner.name}.{field.name}"
            packable = field.type not in (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES)
            if repeated and plain and packable:
                assert field.options.HasField("packed") and not field.options.packed


def test_public_fields_of_peloton_have_no_presence_of_their_own() -> None:
    """The public files are plain proto3: a zero is not sent."""
    peloton = [FILES[name] for name in ROWS if name.startswith("peloton/")]
    optional = [
        f"{owner.name}.{field.name}"
        for file in peloton
        for owner in messages(file)
        for field in owner.descriptor.field
        if field.proto3_optional
    ]
    assert optional == []


def test_deprecations_are_those_of_the_list() -> None:
    """Clients see in `describe` what not to use in new code."""
    found = {
        node.name for name in OURS for node in everything(FILES[name]) if node.descriptor.options.deprecated
    }
    assert found == DEPRECATED


def test_odd_spellings_keep_their_json_names() -> None:
    """JSON is what people write by hand, and these names follow no rule."""
    names = {
        node.name: node.descriptor.json_name
        for name in ROWS
        for owner in messages(FILES[name])
        for node in parts(owner)
    }
    assert {name: names.get(name) for name in ODD_JSON_NAMES} == ODD_JSON_NAMES


@pytest.mark.parametrize("name", OURS)
def test_everything_has_a_comment(name: str) -> None:
    """`grpcurl describe` is the manual at hand: no package, method, field or value goes without a word."""
    file = FILES[name]
    comments = {tuple(p.path): p.leading_comments.strip() for p in file.source_code_info.location}
    named = [Node(file.package, (2,), file), *everything(file)]
    assert [node.name for node in named if len(comments.get(node.path, "")) < 4] == []


@pytest.mark.parametrize("name", OURS)
def test_every_message_has_its_generated_class(name: str) -> None:
    """It is registered under the message's full name, with the numbers of all fields and enum values."""
    file = FILES[name]
    importlib.import_module(f"derny.proto.{file.package}")
    numbers_of_enum = {
        f".{owner.name}": {value.number for value in owner.descriptor.value}
        for other in FILES.values()
        for owner in enums(other)
    }
    for owner in messages(file):
        generated = default_message_pool.url_to_type[f"type.googleapis.com/{owner.name}"]
        kept = [field.metadata["betterproto"].number for field in dataclasses.fields(generated)]
        assert sorted(kept) == sorted(field.number for field in owner.descriptor.field), owner.name
        for field, python in zip(owner.descriptor.field, dataclasses.fields(generated), strict=True):
            if field.type == FieldDescriptorProto.TYPE_ENUM:
                members = generated._betterproto.cls_by_field[python.name]
                assert {member.value for member in members} == numbers_of_enum[field.type_name], python.name


def test_awkward_members_mean_the_same_to_the_generated_classes() -> None:
    """A keyword, a nested lower-case type and a map of messages are where generators go wrong."""
    pods = importlib.import_module("derny.proto.peloton.api.v1alpha.pod")
    jobs = importlib.import_module("derny.proto.peloton.api.v1alpha.job.stateless")
    events = jobs.WorkflowInfoInstanceWorkflowEvents(
        instance_id=7, events=[jobs.WorkflowEvent(type=jobs.WorkflowType.UPDATE, timestamp="t")]
    )
    workflow = jobs.WorkflowInfo(
        instances_added=[pods.InstanceIdRange(from_=3, to=4)], instance_events=[events]
    )
    status = jobs.JobStatus(
        pod_stats_by_configuration_version={"1-0-0": jobs.JobStatusPodStateStats({"POD_STATE_RUNNING": 2})}
    )
    pool = DescriptorPool()
    for file in SET.file:
        pool.Add(file)
    package = FILES["peloton/api/v1alpha/job/stateless/stateless.proto"].package
    read_workflow, read_status = (
        GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in ("WorkflowInfo", "JobStatus")
    )
    seen = read_workflow.FromString(bytes(workflow))
    assert getattr(seen.instances_added[0], "from") == 3
    assert (seen.instance_events[0].instance_id, seen.instance_events[0].events[0].type) == (7, 1)
    stats = read_status.FromString(bytes(status)).pod_stats_by_configuration_version["1-0-0"].state_stats
    assert dict(stats) == {"POD_STATE_RUNNING": 2}
