"""What PatchJob lays over a configuration."""

import pytest

from derny.api.codec import decode, encode
from derny.api.patch import patched
from derny.proto.mesos.v1 import CommandInfo
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, SlaSpec
from derny.proto.peloton.api.v1alpha.peloton import Label, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec, ResourceSpec


def a_spec() -> JobSpec:
    return JobSpec(
        name="old",
        owner="me",
        labels=[Label("a", "1"), Label("b", "2")],
        instance_count=3,
        sla=SlaSpec(priority=1, preemptible=True),
        default_spec=PodSpec(
            containers=[ContainerSpec(name="main", resource=ResourceSpec(cpu_limit=1, mem_limit_mb=64))],
            kill_grace_period_seconds=10,
        ),
        instance_spec={1: PodSpec(kill_grace_period_seconds=20)},
        respool_id=ResourcePoolId("pool"),
    )


def over(given: JobSpec) -> JobSpec:
    """The spec with the given parts, which have been on the wire."""
    base = a_spec()
    found = patched(base, decode(JobSpec, encode(given)))
    assert base == a_spec()
    return found


def test_what_is_left_out_stays():
    assert over(JobSpec()) == a_spec()


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (JobSpec(name="new"), "name", "new"),
        (JobSpec(instance_count=5), "instance_count", 5),
        (JobSpec(sla=SlaSpec(priority=7)), "sla", SlaSpec(priority=7, preemptible=True)),
        (JobSpec(sla=SlaSpec()), "sla", SlaSpec(priority=1, preemptible=True)),
        (JobSpec(labels=[Label("c", "3")]), "labels", [Label("c", "3")]),
        (
            JobSpec(instance_spec={2: PodSpec(controller=True)}),
            "instance_spec",
            {2: PodSpec(controller=True)},
        ),
    ],
)
def test_values_maps_and_lists_are_replaced_and_messages_merged(given, name, value):
    found = over(given)
    assert getattr(found, name) == value
    setattr(found, name, getattr(a_spec(), name))
    assert found == a_spec()


def test_messages_are_merged_down_to_the_last():
    found = over(JobSpec(default_spec=PodSpec(labels=[Label("x", "y")])))
    assert found.default_spec.labels == [Label("x", "y")]
    assert found.default_spec.containers == a_spec().default_spec.containers
    assert found.default_spec.kill_grace_period_seconds == 10


def test_a_message_that_was_not_there_is_taken_whole():
    base = JobSpec(name="bare")
    assert patched(base, JobSpec(sla=SlaSpec(priority=2))) == JobSpec(name="bare", sla=SlaSpec(priority=2))


def test_a_zero_can_be_given_where_proto_says_optional():
    base = CommandInfo(value="run", shell=True)
    assert patched(base, CommandInfo(shell=False)) == CommandInfo(value="run", shell=False)


def test_unknown_fields_of_both_are_kept():
    base, given = decode(JobSpec, b"\xa0\x06\x01"), decode(JobSpec, b"\xa8\x06\x02")
    assert encode(patched(base, given)) == b"\xa0\x06\x01\xa8\x06\x02"
