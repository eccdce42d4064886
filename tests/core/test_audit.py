"""The audit finds each kind of damage; a sound state passes."""

from collections import OrderedDict
from collections.abc import Callable

import msgspec
import pytest

from builders import JOB, POOL, Bench, a_job, a_template, amounts, job_id
from derny.core import commands
from derny.core.audit import audit, fingerprint
from derny.core.holds import Hold
from derny.core.state import State
from derny.model.ids import HostName
from derny.model.records import ContainerRun
from derny.model.secrets import SecretRef
from derny.model.specs import Condition, LabelConstraint, LabelKind
from derny.model.states import HealthState, HostState, PodState, TaskState
from derny.model.timers import TimingWheel


@pytest.fixture
def bench() -> Bench:
    """Pods in many states: running, failed and throttled, waiting for a host, waiting for admission."""
    bench = Bench(hosts=2, cpu=8)
    bench.running(a_job(2, template=a_template(ports=1)))
    bench.report(TaskState.FAILED, 1)
    near = LabelConstraint(LabelKind.POD, Condition.LESS_THAN, "app", "web", 2)
    for number in (4, 5):
        apart = a_template(0, labels=(("app", "web"),), constraint=near)
        bench.create(a_job(1, template=apart, name="apart"), job_id(number))
    bench.create(a_job(1, template=a_template(cpu=12), name="wide"), job_id(2))
    bench.create(a_job(9, name="many"), job_id(3))
    return bench


def test_a_sound_state_passes(bench: Bench) -> None:
    assert set(bench.states() + bench.states(job_id(2)) + bench.states(job_id(3))) == {
        PodState.RUNNING,
        PodState.FAILED,
        PodState.PLACING,
        PodState.PENDING,
        PodState.LAUNCHED,
    }
    assert audit(bench.machine.state) == []


def _set(path: str, value: object) -> Callable[[State], None]:
    """Set an attribute of the first pod, its job or its pool, or of the first host."""

    def damage(state: State) -> None:
        owner, name = path.split(".")
        job = state.jobs[JOB]
        host = state.hosts[HostName("host-0")]
        owners = {"job": job, "pod": job.pods[0], "pool": state.tree.pools[POOL], "host": host}
        setattr(owners[owner], name, value)

    return damage


def _forget_the_first_pod(state: State) -> None:
    """It owes a kill, and nothing will ever look at it."""
    _set("pod.goal", PodState.KILLED)(state)
    state.timers = TimingWheel()


def _refer_to_a_secret(state: State) -> None:
    job = state.jobs[JOB]
    job.specs[1] = msgspec.structs.replace(job.specs[1], secrets=(SecretRef("s", "/s"),))


def _let_a_container_run_on(state: State) -> None:
    state.jobs[JOB].pods[1].containers = (ContainerRun(PodState.RUNNING),)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_set("pod.containers", (ContainerRun(),)), "1 containers, 1 are remembered"),
        (_set("pod.health", HealthState.UNKNOWN), "against what its template says"),
        (_let_a_container_run_on, "while a container runs"),
        (_refer_to_a_secret, "which it does not have"),
        (_set("pod.state", PodState.LAUNCHED), "counts"),
        (_set("pod.instance", 5), "stands at instance"),
        (_set("pod.host", None), "on no host"),
        (_set("pod.ports", ()), "disagree about its ports"),
        (_set("pod.template", a_template(cpu=2, ports=1)), "as allocation"),
        (_forget_the_first_pod, "is forgotten"),
        (_set("pod.goal", PodState.LOST), "must be either"),
        (_set("pool.jobs", 7), "counts 7 jobs"),
        (_set("pool.allocation", amounts(1)), "as allocation"),
        (_set("pool.slack", amounts(99)), "slack"),
        (_set("pool.demand", amounts(99)), "demands"),
        (_set("pool.slack_demand", amounts(99)), "demands"),
        (lambda state: state.names.clear(), "by its name"),
        (lambda state: state.names.update(ghost=[job_id(9)]), "a name leads to a job"),
        (lambda state: setattr(state, "pods_wanted", 1), "counted as wanted"),
        (lambda state: state.groups.clear(), "tried and PLACING differ"),
        (lambda state: state.tree.pools[POOL].queues.clear(), "queued and PENDING differ"),
        (lambda state: setattr(state.tree, "preemption", False), "pods of another"),
        (_set("pool.non_preemptible", amounts(99)), "as non_preemptible"),
        (_set("pool.controller", amounts(99)), "as controller"),
        (lambda state: setattr(state.tree, "waiting", OrderedDict()), "pools with a queue"),
        (lambda state: state.table.credit(0, amounts(1)), "free of"),
        (lambda state: state.table.debit(0, amounts(), fds=1), "file descriptors"),
        (lambda state: state.table.pod_labels.add(JOB, (("app", "web"),), [0], [0]), "jobs whose pods carry"),
        (lambda state: state.table.pod_labels.add(JOB, (("app", "web"),), [0], [0]), "is counted as"),
        (lambda state: state.table.hold(0), "other holds"),
        (lambda state: state.holds.of.update({state.jobs[JOB].pods[0]: Hold(0, 0.0)}), "come back"),
        (lambda state: setattr(state.tree, "capacity", amounts()), "root's capacity"),
        (_set("host.pods", {}), "remembers other pods"),
        (_set("host.pool", "blue"), "is not in its pool"),
        (_set("host.labels", (("rack", "r"),)), "other labels"),
        (_set("host.lost", True), "takes pods or not"),
        (_set("host.state", HostState.DRAINING), "is drained or not"),
        (_set("host.state", HostState.DOWN), "is DOWN and has"),
        (_set("host.goal", HostState.DOWN), "UP on its way to DOWN, is forgotten"),
        (lambda state: state.host_pools.update(blue=dict.fromkeys(state.hosts)), "or in several"),
    ],
)
def test_damage_is_found(bench: Bench, damage: Callable[[State], None], words: str) -> None:
    damage(bench.machine.state)
    found = audit(bench.machine.state)
    assert any(words in sentence for sentence in found), found


@pytest.mark.parametrize(
    "damage",
    [_set("pod.message", "x"), _set("pod.failures", 9), _set("job.revision", 99), _set("pod.run", 4)],
)
def test_fingerprints_tell_states_apart(bench: Bench, damage: Callable[[State], None]) -> None:
    before = fingerprint(bench.machine.state)
    assert before == fingerprint(bench.replayed().state)
    damage(bench.machine.state)
    assert before != fingerprint(bench.machine.state)


def test_a_look_that_finds_nothing_leaves_the_fingerprint_alone(bench: Bench) -> None:
    before = fingerprint(bench.machine.state)
    bench.do(commands.ReportPods([]))
    bench.settle()
    assert fingerprint(bench.machine.state) == before
