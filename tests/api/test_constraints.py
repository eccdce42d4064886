"""A constraint is read as it was meant, or refused by the path of its first fault."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derny.api.codec import decode, encode
from derny.api.constraints import LEVELS_MAX, constraint_of
from derny.client.specfile import load
from derny.core.commands import HostSeen, SeeHosts
from derny.model.errors import Invalid
from derny.model.ids import HostName
from derny.model.periods import Limits
from derny.model.specs import AndConstraint, Condition, LabelConstraint, LabelKind, OrConstraint
from derny.proto.peloton.api.v1alpha import pod
from derny.proto.peloton.api.v1alpha.job.stateless import JobInfo, JobSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import GetJobRequest, GetJobResponse
from derny.proto.peloton.api.v1alpha.peloton import JobId, Label, PodName, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import Constraint, ConstraintType, PodSpec
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest

LABEL, AND, OR = (
    ConstraintType.CONSTRAINT_TYPE_LABEL,
    ConstraintType.CONSTRAINT_TYPE_AND,
    ConstraintType.CONSTRAINT_TYPE_OR,
)
LIMITS = Limits()
EXAMPLE = Path(__file__).parents[2] / "examples" / "constraints.yaml"
POOL = "11111111-1111-4111-8111-111111111111"
WEB, CACHE = (f"aaaaaaaa-0000-4000-8000-{number:012d}" for number in (1, 2))


def label(kind: int = 2, condition: int = 2, key: str = "rack", value: str = "r1", requirement: int = 1):
    told = pod.LabelConstraint(
        pod.LabelConstraintKind(kind), pod.LabelConstraintCondition(condition), Label(key, value), requirement
    )
    return Constraint(LABEL, told)


def both(*parts: Constraint) -> Constraint:
    return Constraint(AND, and_constraint=pod.AndConstraint(list(parts)))


def either(*parts: Constraint) -> Constraint:
    return Constraint(OR, or_constraint=pod.OrConstraint(list(parts)))


def read(message: Constraint | None):
    return constraint_of(message, "spec.constraint", LIMITS)


def nested(levels: int) -> Constraint:
    message = label()
    for _ in range(levels - 1):
        message = both(message)
    return message


def test_every_member_is_read():
    assert read(None) is None
    message = both(label(1, 1, "app", "web", 3), either(label(2, 3), both()), label(2, 2, "k", "", 0))
    assert read(message) == AndConstraint(
        (
            LabelConstraint(LabelKind.POD, Condition.LESS_THAN, "app", "web", 3),
            OrConstraint(
                (
                    LabelConstraint(LabelKind.HOST, Condition.GREATER_THAN, "rack", "r1", 1),
                    AndConstraint(()),
                )
            ),
            LabelConstraint(LabelKind.HOST, Condition.EQUAL, "k", "", 0),
        )
    )


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            Constraint(),
            "spec.constraint.type is CONSTRAINT_TYPE_INVALID; expected one of CONSTRAINT_TYPE_LABEL",
        ),
        (Constraint(ConstraintType(9)), "spec.constraint.type is 9; expected"),
        (Constraint(LABEL), "spec.constraint.label_constraint is unset and type is CONSTRAINT_TYPE_LABEL"),
        (Constraint(AND), "spec.constraint.and_constraint is unset"),
        (Constraint(OR), "spec.constraint.or_constraint is unset"),
        (
            Constraint(LABEL, and_constraint=pod.AndConstraint()),
            "spec.constraint.and_constraint is set and type is CONSTRAINT_TYPE_LABEL; expected",
        ),
        (
            Constraint(AND, label_constraint=label().label_constraint),
            "spec.constraint.label_constraint is set",
        ),
        (label(0), "spec.constraint.label_constraint.kind is LABEL_CONSTRAINT_KIND_INVALID; expected one of"),
        (label(7), "spec.constraint.label_constraint.kind is 7"),
        (label(1, 0), "label_constraint.condition is LABEL_CONSTRAINT_CONDITION_INVALID"),
        (label(1, 4), "label_constraint.condition is 4"),
        (label(key=""), "spec.constraint.label_constraint.label is unset or its key is empty"),
        (label(value="v" * 1001), "label_constraint.label.value has 1001 characters; expected at most 1000"),
        (label(key="k" * 1001), "label_constraint.label.key has 1001 characters"),
        (Constraint(LABEL, pod.LabelConstraint(2, 2)), "label_constraint.label is unset"),
        (
            both(label(), either(label(), label(0))),
            "spec.constraint.and_constraint.constraints[1].or_constraint.constraints[1].label_constraint.kind",
        ),
        (both(*[label()] * 200), "more than 200 constraints inside (limit constraint_parts_max)"),
        (both(*[either(*[label()] * 20)] * 20), "more than 200 constraints"),
        (nested(LEVELS_MAX + 1), f"nests more than {LEVELS_MAX} constraints"),
    ],
)
def test_the_first_fault_is_refused_by_its_path(message, words):
    with pytest.raises(Invalid) as refusal:
        read(message)
    assert words in str(refusal.value)


def test_what_is_at_the_limits_is_taken_and_can_be_read_back():
    assert read(both(*[label()] * 199)) is not None
    deepest = nested(LEVELS_MAX)
    assert read(deepest) is not None
    answer = GetJobResponse(JobInfo(spec=JobSpec(instance_spec={0: PodSpec(constraint=deepest)})))
    assert decode(GetJobResponse, encode(answer)) == answer


parts = st.recursive(
    st.builds(label, st.integers(0, 3), st.integers(0, 4), st.sampled_from(["", "k"])),
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from([both(*parts), either(*parts), Constraint(AND), Constraint()])
    ),
    max_leaves=8,
)


@given(parts)
def test_whatever_is_sent_is_read_or_refused(message):
    try:
        assert read(message) is not None
    except Invalid as refusal:
        assert str(refusal).startswith("spec.constraint")


@pytest.mark.asyncio
async def test_the_example_goes_where_it_says(counter):
    """Over gRPC: a web server to a host in two racks, and a cache beside each; the others say why not."""
    for number, rack in enumerate(("r1", "r1", "r2", "r3")):
        host = counter.machine.state.hosts[HostName(f"host-{number}")]
        seen = HostSeen(host.name, host.agent_id, host.ip, host.capacity, labels=(("rack", rack),))
        await counter.loop.submit(SeeHosts([seen]))
    web, cache = load(EXAMPLE)
    jobs = []
    for document, name in ((web, WEB), (cache, CACHE)):
        document.spec.respool_id = ResourcePoolId(POOL)
        jobs.append(await counter.create(document.spec, name))
    await counter.after(2)
    for job in jobs:
        pods = counter.machine.state.jobs[job].pods
        assert {pod.host for pod in pods} == {"host-0", "host-1", "host-2", None}
        assert sorted(pod.state.name for pod in pods) == ["PLACING"] * 2 + ["RUNNING"] * 3
        waiting = next(pod.instance for pod in pods if pod.state.name == "PLACING")
        status = (await counter.pods.get_pod(GetPodRequest(PodName(f"{job}-{waiting}")))).current.status
        assert "mismatch_constraints" in status.message
    answer = await counter.jobs.get_job(GetJobRequest(JobId(WEB)))
    assert answer.job_info.spec.default_spec.constraint == web.spec.default_spec.constraint
