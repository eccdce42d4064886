"""Spec files mean what their messages mean in the proto3 JSON mapping, with protobuf itself as the oracle."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

import derny.proto
from derny.client import specfile
from derny.client.specfile import JobDocument, PoolDocument, load
from derny.client.yaml_tree import SpecError
from derny.proto.peloton.api.v1alpha.job.stateless import CreateSpec, JobSpec
from derny.proto.peloton.api.v1alpha.respool import ResourcePoolSpec

EXAMPLES = Path(__file__).parents[2] / "examples"
NESTING_SHOWN = 7  # of the constraints, which nest without end

WriteFile = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def job_of(path: Path) -> JobDocument:
    [document] = load(path)
    assert isinstance(document, JobDocument)
    return document


def refusal_of(path: Path) -> str:
    with pytest.raises(SpecError) as error:
        load(path)
    return str(error.value).removeprefix(f"{path.parent}/")


# Against protobuf.


@pytest.fixture(scope="module")
def pool() -> descriptor_pool.DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((Path(derny.proto.__path__[0]) / "descriptors.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def filled(message: Message, depth: int = 0) -> Message:
    """The message with a value that is not the default in every field, down to NESTING_SHOWN."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth > NESTING_SHOWN:
            continue
        value = getattr(message, field.name)
        if field.message_type is None:
            fill_scalar(message, field)
        elif field.message_type.GetOptions().map_entry:
            filled(value[4294967295], depth + 1)
        elif field.is_repeated:
            filled(value.add(), depth + 1)
            filled(value.add(), depth + 1)
        else:
            value.SetInParent()
            filled(value, depth + 1)
    return message


def fill_scalar(message: Message, field: FieldDescriptor) -> None:
    samples: dict[int, Any] = {
        FieldDescriptor.CPPTYPE_STRING: b"\x00\xff\xfe~"
        if field.type == field.TYPE_BYTES
        else 'né: "\t"\n😀',
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: 1.0e-7,
        FieldDescriptor.CPPTYPE_INT32: -(2**31),
        FieldDescriptor.CPPTYPE_UINT32: 2**32 - 1,
        FieldDescriptor.CPPTYPE_INT64: -(2**63),
        FieldDescriptor.CPPTYPE_UINT64: 2**64 - 1,
    }
    if field.enum_type is not None:
        value: Any = field.enum_type.values[-1].number
    else:
        value = samples[field.cpp_type]
    if field.is_repeated:
        getattr(message, field.name).extend([value, value])
    else:
        setattr(message, field.name, value)


def keys_changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {change(key): keys_changed(one, change) for key, one in value.items()}
    return [keys_changed(one, change) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("style", ["json", "proto", "lower", "numbers"])
@pytest.mark.parametrize(
    "name", ["job.stateless.JobSpec", "respool.ResourcePoolSpec", "job.stateless.CreateSpec"]
)
def test_every_field_means_what_protobuf_reads(
    write: WriteFile, pool: descriptor_pool.DescriptorPool, name: str, style: str
) -> None:
    """A message with all fields set, as JSON written by protobuf in each spelling, loads as an equal one."""
    descriptor: Descriptor = pool.FindMessageTypeByName(f"peloton.api.v1alpha.{name}")
    message_class = message_factory.GetMessageClass(descriptor)
    original = filled(message_class())
    fields = json_format.MessageToDict(
        original, preserving_proto_field_name=style == "proto", use_integers_for_enums=style == "numbers"
    )
    if style == "lower":
        fields = keys_changed(fields, str.lower)
    assert message_class.FromString(bytes(loaded(write, name, fields))) == original


def loaded(write: WriteFile, name: str, fields: dict[str, Any]) -> betterproto2.Message:
    document: dict[str, Any] = {"kind": "Job", "spec": fields}
    if name == "respool.ResourcePoolSpec":
        document["kind"] = "ResourcePool"
    elif name == "job.stateless.CreateSpec":
        document = {"kind": "Job", "spec": {}, "create": fields}
    [job_or_pool] = load(write(json.dumps(document, indent="\t")))
    if name == "job.stateless.CreateSpec":
        assert isinstance(job_or_pool, JobDocument) and job_or_pool.create is not None
        return job_or_pool.create
    return job_or_pool.spec


def test_the_reader_knows_every_type_in_specs() -> None:
    """Files can't hold a oneof, wrapper, Timestamp or Duration: the reader leaves them out on purpose."""
    todo: list[type[betterproto2.Message]] = [JobSpec, CreateSpec, ResourcePoolSpec]
    seen: set[type[betterproto2.Message]] = set()
    known = {*specfile._SCALARS, "message", "enum", "map"}
    while todo:
        message = todo.pop()
        if message in seen:
            continue
        seen.add(message)
        meta = message._betterproto
        for name, field in meta.meta_by_field_name.items():
            assert field.proto_type in known and field.group is None and field.unwrap is None, (message, name)
            if field.proto_type == "message":
                todo.append(meta.cls_by_field[name])
            elif field.map_meta is not None and field.map_meta[1].proto_type == "message":
                todo.append(meta.cls_by_field[f"{name}.value"])
    assert len(seen) > 50


# Documents.


def test_the_examples_load_without_warnings() -> None:
    files = sorted(set(EXAMPLES.glob("*.yaml")) - {EXAMPLES / "topology.yaml"})
    documents = {file.stem: load(file) for file in files}
    assert {"hello", "failing", "pool"} <= set(documents)
    assert not [document.warnings for file in documents.values() for document in file if document.warnings]
    [hello] = documents["hello"]
    assert isinstance(hello, JobDocument)
    assert (hello.pool, hello.spec.name, hello.spec.instance_count) == ("/DefaultResPool", "hello", 3)
    analytics, report = documents["pool"]
    assert isinstance(analytics, PoolDocument) and isinstance(report, JobDocument)
    assert (analytics.parent, analytics.spec.name, report.pool) == ("/", "analytics", "/analytics")
    assert [(kind.kind, kind.limit) for kind in analytics.spec.resources][:2] == [
        ("cpu", 8),
        ("memory", 8192),
    ]


def test_a_bare_spec_in_pelotons_own_style(write: WriteFile) -> None:
    """Lower-case keys without underscores, as in the specs that Peloton's users have."""
    document = job_of(
        write("""
name: web
owningteam: team6
ldapgroups: [team6, otto]
changelog: null
labels:
  - key: team
    value: no
instancecount: 3
sla:
  priority: 22
  preemptible: false
  maximumunavailableinstances: 1
defaultspec:
  revocable: false
  constraint:
    type: CONSTRAINT_TYPE_AND
    andconstraint:
      constraints:
      - type: CONSTRAINT_TYPE_LABEL
        labelconstraint:
          kind: LABEL_CONSTRAINT_KIND_HOST
          condition: EQUAL
          requirement: 1
          label: {key: rack, value: 010}
      - type: LABEL
        labelconstraint: {kind: POD, condition: 1, requirement: 2, label: {key: app, value: 1.10}}
  containers:
    - resource:
        cpulimit: 0.1
        memlimitmb: 2
        fdlimit: 10
      ports:
        - {name: http, envname: HTTP_PORT}
      entrypoint:
        value: /bin/sh
        arguments: ["-c", "sleep 10"]
  mesosspec:
    type: CONTAINER_TYPE_MESOS
    shell: no
instancespec:
  0: {controller: on}
  "2":
    killgraceperiodseconds: "60"
""")
    )
    spec = document.spec
    assert (spec.name, spec.owning_team, spec.ldap_groups, spec.instance_count) == (
        "web",
        "team6",
        ["team6", "otto"],
        3,
    )
    assert spec.labels[0].value == "no"
    assert spec.sla is not None and spec.sla.maximum_unavailable_instances == 1
    pod = spec.default_spec
    assert pod is not None and pod.mesos_spec is not None and pod.constraint is not None
    assert (pod.mesos_spec.type, pod.mesos_spec.shell) == (2, False)
    assert pod.constraint.type == 2 and pod.constraint.and_constraint is not None
    host, other = (one.label_constraint for one in pod.constraint.and_constraint.constraints)
    assert host is not None and host.label is not None and other is not None and other.label is not None
    assert (host.kind, host.condition) == (2, 2)
    assert (other.kind, other.condition) == (1, 1)
    assert (host.label.value, other.label.value) == ("010", "1.10")
    assert spec.instance_spec[0].controller and spec.instance_spec[2].kill_grace_period_seconds == 60
    assert (document.pool, document.id, document.create) == ("", "", None)
    assert len(document.warnings) == 1 and "changelog is not known" in document.warnings[0]


def test_keys_beside_the_spec(write: WriteFile) -> None:
    job, pool = load(
        write("""
kind: job
respool: /web/prod
id: 11111111-2222-3333-4444-555555555555
create: {batchSize: 2, start_paused: true}
spec: {name: a}
---
kind: ResourcePool
parent: /web
id: 66666666-7777-8888-9999-000000000000
spec: {name: prod, resources: [{kind: cpu, type: STATIC}]}
""")
    )
    assert isinstance(job, JobDocument) and isinstance(pool, PoolDocument)
    assert (job.pool, job.id) == ("/web/prod", "11111111-2222-3333-4444-555555555555")
    assert job.create == CreateSpec(batch_size=2, start_paused=True)
    assert job.place.endswith("spec.yaml:2:1") and pool.place.endswith("spec.yaml:8:1")
    assert (pool.parent, pool.id) == ("/web", "66666666-7777-8888-9999-000000000000")
    assert pool.spec.resources[0].type == 2  # RESERVATION_TYPE_STATIC


def test_nulls_are_unset_and_an_empty_message_is_set(write: WriteFile) -> None:
    spec = job_of(write("kind: Job\nspec: {name: null, sla: {}, defaultSpec: null}")).spec
    assert spec.name == "" and spec.sla is not None and spec.default_spec is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: a\nintanceCount: 2",
            'spec.yaml:2:1: intanceCount is not known; did you mean "instanceCount"?',
        ),
        (
            "kind: Job\nspec:\n  default_spec:\n    containers:\n    - resource: {cpuLimits: 1}",
            "spec.yaml:5:18: spec.default_spec.containers[0].resource.cpuLimits is not known; "
            'did you mean "cpuLimit"?',
        ),
        (
            "instanceCount: -1",
            "spec.yaml:1:16: instanceCount is '-1'; expected a whole number from 0 to 4294967295",
        ),
        ("instanceCount: 4294967296", "expected a whole number from 0 to 4294967295"),
        ("instanceCount: [1]", "spec.yaml:1:16: instanceCount is a list; expected a whole number"),
        ("name: {a: b}", "spec.yaml:1:7: name is a mapping; expected text"),
        ("labels: {key: a}", "spec.yaml:1:9: labels is a mapping; expected a list"),
        ("labels: [null]", "labels[0] is empty; expected a mapping"),
        ("sla: high", "spec.yaml:1:6: sla is 'high'; expected a mapping"),
        ("sla: {preemptible: 1}", "sla.preemptible is '1'; expected true or false, without quotes"),
        (
            "defaultSpec: {containers: [{resource: {cpuLimit: .nan}}]}",
            "spec.yaml:1:50: defaultSpec.containers[0].resource.cpuLimit is '.nan'; expected a finite number",
        ),
        ("defaultSpec: {containers: [{resource: {cpuLimit: 1e400}}]}", "expected a finite number"),
        (
            "defaultSpec: {mesosSpec: {type: docker}}",
            "spec.yaml:1:33: defaultSpec.mesosSpec.type is 'docker'; did you mean \"DOCKER\"?",
        ),
        (
            "defaultSpec: {mesosSpec: {type: 9}}",
            "type is '9'; expected one of DOCKER, INVALID, MESOS",
        ),
        (
            "defaultSpec: {mesosSpec: {type: CONTAINER_TYPE_DOKKER}}",
            "type is 'CONTAINER_TYPE_DOKKER'; did you mean \"CONTAINER_TYPE_DOCKER\"?",
        ),
        ("defaultSpec: {mesosSpec: {executorSpec: {data: '*'}}}", "data is '*'; expected base64"),
        ("instanceSpec: {one: {}}", "spec.yaml:1:16: instanceSpec.one is 'one'; expected a whole number"),
        ("instanceSpec: {1: {}, '1': {}}", "instanceSpec.1 is given twice"),
        ("instanceSpec: {1: {}, 1.0: {}}", "instanceSpec.1.0 is given twice"),
        ("- name: a", "spec.yaml:1:1: the document is a list; expected a mapping"),
        ("hello", "spec.yaml:1:1: the document is 'hello'; expected a mapping"),
        ("spec: {name: a}", "spec.yaml:1:1: kind is missing beside spec; expected Job or ResourcePool"),
        ("kind: Job", "spec.yaml:1:1: spec is missing; expected a mapping beside kind"),
        ("kind: Pod\nspec: {}", "spec.yaml:1:7: kind is 'Pod'; expected Job or ResourcePool"),
        ("kind: Job\nkind: Job\nspec: {}", "spec.yaml:2:1: kind is given twice"),
        ("kind: Job\nname: a\nspec: {}", "spec.yaml:2:1: name is not known"),
        ("kind: Job\nrespool: web\nspec: {}", "respool is 'web'; expected the path of a pool"),
        (
            "kind: Job\nrespool: /a\nspec: {respoolId: {value: x}}",
            "the pool here or as spec.respoolId, not both",
        ),
        (
            "kind: ResourcePool\nparent: /a\nspec: {parent: {value: x}}",
            "expected the parent here or as spec.parent",
        ),
        ("kind: ResourcePool\ncreate: {}\nspec: {}", "spec.yaml:2:1: create is not known"),
        ("name: a\n---\nname: b\nowner: [x]", "spec.yaml:4:8: owner is a list; expected text"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write: WriteFile, text: str, message: str) -> None:
    assert message in refusal_of(write(text))


@pytest.mark.parametrize("spelling", [base64.b64encode, base64.urlsafe_b64encode])
def test_bytes_in_either_alphabet_without_padding(
    write: WriteFile, spelling: Callable[[bytes], bytes]
) -> None:
    data = b"\xfb\xff\xfe?"
    text = spelling(data).decode().rstrip("=")
    spec = job_of(write(f"defaultSpec: {{mesosSpec: {{executorSpec: {{data: {text}}}}}}}")).spec
    assert spec.default_spec is not None and spec.default_spec.mesos_spec is not None
    executor = spec.default_spec.mesos_spec.executor_spec
    assert executor is not None and executor.data == data
