"""A plan is what happens, if nothing else does; and it changes nothing."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, everything, job_id, pool_id
from derny.answers import job_plan
from derny.answers.job_plan import JobPlan
from derny.answers.obstacles import Kind
from derny.answers.pod_explanation import with_hosts
from derny.core import commands
from derny.core.audit import audit
from derny.core.commands import CreateJob, ReplaceJob
from derny.core.instances import Range
from derny.model.errors import Exists, Invalid, NotFound, WrongVersion
from derny.model.ids import HostName, JobId
from derny.model.periods import Limits, Periods
from derny.model.specs import Condition, Constraint, JobSpec, Labels, PodTemplate, VolumeRequest, WorkflowSpec
from derny.model.states import POD_ON_HOST, Gate, PodState, TaskState
from slow_constraints import either, every, on_host, on_pods

WEB: Labels = (("app", "web"),)
ALONE = on_pods(Condition.LESS_THAN, *WEB[0], 1)
R1 = on_host(Condition.EQUAL, "rack", "r1", 1)
NEW = job_id(9)


def planned(bench: Bench, command: CreateJob | ReplaceJob) -> JobPlan:
    """A plan, read to its end."""
    plan = JobPlan(bench.machine.terms, command, bench.at)
    for step in (lambda: plan.prepare(bench.machine.state), plan.play, plan.read):
        while step():
            pass
    return plan


def where(plan: JobPlan) -> dict[int, HostName]:
    return {n: host for host, ranges in plan.hosts.items() for n in numbers(ranges)}


def numbers(ranges: Sequence[Range]) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


def hosts_of(bench: Bench, job: JobId) -> dict[int, HostName]:
    return {
        pod.instance: pod.host
        for pod in bench.job(job).pods
        if pod.state in POD_ON_HOST and pod.host is not None
    }


def kinds_waiting(plan: JobPlan) -> list[tuple[list[Range], list[Kind]]]:
    found = []
    for number in range(plan.sorts_waiting):
        waiting = plan.waits(number)
        first = waiting.first
        if waiting.search is not None:
            first = with_hosts(first, waiting.search.made(3))
        found.append((waiting.instances, [each.kind for each in first.obstacles]))
    return found


def fingerprint(bench: Bench) -> object:
    """All that may not change."""
    state = bench.machine.state
    table = state.table
    return (
        everything(state),
        state.cursor,
        table.free_units.tolist(),
        table.version,
        [table.used_ports(row) for row in range(len(table))],
        [
            (pool, found.allocation, found.demand, found.entitlement)
            for pool, found in state.tree.pools.items()
        ],
        {pool: [list(queue) for queue in found.queues.values()] for pool, found in state.tree.pools.items()},
        list(state.groups),
        list(state.volumes),
        {name: list(host.pods) for name, host in state.hosts.items()},
        (state.tree.version, state.tree.changes, list(state.tree.waiting), state.pods_wanted),
        (list(state.names), list(state.jobs), list(state.dirty_pods), list(state.dirty_jobs)),
    )


def test_a_plan_of_a_creation_says_where_pods_go_and_which_wait() -> None:
    bench = Bench(hosts=2)
    spec = a_job(20, others={3: a_template(constraint=R1)})
    plan = planned(bench, CreateJob(NEW, spec))
    assert (plan.added, plan.updated, plan.unchanged, plan.removed) == ((0, 19), [], [], None)
    assert (plan.placed, plan.waiting, plan.complete, plan.repeats) == (15, 5, True, False)
    assert NEW not in bench.machine.state.jobs
    told = kinds_waiting(plan)
    assert (told[0][0], told[0][1]) == ([(3, 3)], [Kind.NO_HOST])
    assert [ranges for ranges, _kinds in told[1:]] == [[(16, 16)], [(17, 19)]]
    assert told[1][1][0] is Kind.POOL_RULE
    assert told[2][1][0] is Kind.BEHIND
    bench.create(spec, NEW)
    assert hosts_of(bench, NEW) == where(plan)
    assert bench.pod(3, NEW).state is PodState.PLACING


def test_a_plan_changes_nothing() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(5, template=a_template(ports=1, labels=WEB)))
    bench.create(a_job(2, name="stuck", template=a_template(cpu=30)), job_id(2))
    before = fingerprint(bench)
    new = a_job(4, template=a_template(ports=2, static_ports=[31001], labels=WEB, constraint=ALONE))
    planned(bench, CreateJob(NEW, new)).end()
    planned(bench, ReplaceJob(JOB, bench.version(JOB), a_job(7, template=a_template(cpu=2, ports=1)))).end()
    assert fingerprint(bench) == before
    assert not audit(bench.machine.state)
    assert bench.settle() == []


def test_what_would_be_refused_is_refused_alike() -> None:
    bench = Bench(limits=Limits(pods_per_job_max=10))
    bench.running(a_job(2))
    for command, refusal in (
        (CreateJob(JOB, a_job(1)), Exists),
        (CreateJob(NEW, a_job(1, pool=pool_id(7))), NotFound),
        (CreateJob(NEW, a_job(11)), Invalid),
        (ReplaceJob(JOB, "9-9-9", a_job(1)), WrongVersion),
        (ReplaceJob(NEW, "1-1-1", a_job(1)), NotFound),
        (ReplaceJob(JOB, bench.version(JOB), a_job(1, pool=pool_id(7))), Invalid),
    ):
        with pytest.raises(refusal) as planning:
            planned(bench, command)
        with pytest.raises(refusal) as doing:
            bench.do(command)
        assert str(planning.value) == str(doing.value)


def test_a_plan_of_an_update_tells_added_updated_removed_and_unchanged() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(6))
    changed = a_template(cpu=2)
    spec = a_job(8, others={1: changed, 7: changed})
    command = ReplaceJob(JOB, bench.version(JOB), spec)
    plan = planned(bench, command)
    assert (plan.added, plan.updated, plan.unchanged, plan.removed) == (
        (6, 7),
        [(1, 1)],
        [(0, 0), (2, 5)],
        None,
    )
    bench.do(command)
    bench.settle()
    bench.obey()
    happened = hosts_of(bench, JOB)
    assert where(plan) == {n: happened[n] for n in (1, 6, 7)}
    fewer = planned(bench, ReplaceJob(JOB, bench.version(JOB), a_job(2, others={1: changed})))
    assert (fewer.removed, fewer.updated, fewer.hosts) == ((2, 7), [], {})


def test_an_update_in_batches_is_played_through() -> None:
    bench = Bench(hosts=3, periods=Periods())
    bench.running(a_job(7))
    bench.live(5)
    command = ReplaceJob(
        JOB, bench.version(JOB), a_job(9, template=a_template(cpu=2)), WorkflowSpec(batch_size=2)
    )
    plan = planned(bench, command)
    assert (plan.placed, plan.waiting) == (9, 0)
    bench.do(command)
    for _ in range(30):
        bench.settle()
        bench.obey()
        bench.live(1)
    assert bench.workflow().finished
    assert hosts_of(bench, JOB) == where(plan)


def test_a_creation_in_batches_waits_for_nobody_s_health() -> None:
    bench = Bench(hosts=3)
    spec = a_job(9, template=a_template(health_checked=True))
    plan = planned(bench, CreateJob(NEW, spec, WorkflowSpec(batch_size=2)))
    assert (plan.placed, plan.complete) == (9, True)


def test_what_is_paused_says_so() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(3))
    paused = WorkflowSpec(start_paused=True)
    plan = planned(bench, CreateJob(NEW, a_job(4), paused))
    assert kinds_waiting(plan) == [([(0, 3)], [Kind.WORKFLOW])]
    plan = planned(bench, ReplaceJob(JOB, bench.version(JOB), a_job(3, template=a_template(cpu=2)), paused))
    assert (plan.updated, kinds_waiting(plan)) == ([(0, 2)], [([(0, 2)], [Kind.WORKFLOW])])


def test_closed_gates_are_in_the_way() -> None:
    bench = Bench(hosts=3)
    bench.do(commands.CloseGates([Gate.LAUNCH]))
    plan = planned(bench, CreateJob(NEW, a_job(2)))
    assert kinds_waiting(plan) == [([(0, 1)], [Kind.GATE])]
    bench.do(commands.CloseGates([Gate.GOAL_STATE_ENGINE]))
    plan = planned(bench, CreateJob(NEW, a_job(2)))
    assert kinds_waiting(plan) == [([(0, 1)], [Kind.GATE, Kind.GATE])]


def test_the_same_update_once_more_changes_nothing() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(3))
    spec = a_job(3, template=a_template(cpu=2))
    bench.do(ReplaceJob(JOB, bench.version(JOB), spec, WorkflowSpec(batch_size=1)))
    bench.settle()
    plan = planned(bench, ReplaceJob(JOB, bench.version(JOB), spec, WorkflowSpec(batch_size=1)))
    assert (plan.repeats, plan.hosts, plan.waiting) == (True, {}, 0)


def test_a_job_that_changes_while_it_is_copied_is_copied_anew() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(3))
    command = ReplaceJob(JOB, bench.version(JOB), a_job(3, template=a_template(cpu=2)))
    plan = JobPlan(bench.machine.terms, command, bench.at)
    job = bench.job()
    plan._copied(job, command.spec)
    bench.report(TaskState.FAILED, 1)
    assert not plan.prepare(bench.machine.state)
    while plan.play():
        pass
    plan.read()
    assert (plan.updated, plan.placed) == ([(0, 2)], 3)


def test_others_that_wait_keep_still_and_hold_up_those_behind() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(3, name="first", template=a_template(cpu=17)), job_id(2))
    plan = planned(bench, CreateJob(NEW, a_job(1)))
    assert kinds_waiting(plan) == [([(0, 0)], [Kind.BEHIND])]
    plan = planned(bench, CreateJob(NEW, a_job(1, priority=1)))
    assert plan.placed == 1
    # Admissible by now, but not admitted yet: it still goes first.
    bench.do(commands.SeeHosts([a_host(7, cpu=40)]))
    bench.do(commands.UpdatePool(POOL, a_pool(bench.machine.state.tree.capacity)))
    assert kinds_waiting(planned(bench, CreateJob(NEW, a_job(1)))) == [([(0, 0)], [Kind.BEHIND])]
    assert not audit(bench.machine.state)


def test_a_volume_s_host_is_kept_in_a_plan() -> None:
    bench = Bench(hosts=3)
    template = a_template(volume=VolumeRequest("/data", 1000))
    bench.running(a_job(2, template=template))
    before = hosts_of(bench, JOB)
    other = a_template(cpu=2, volume=VolumeRequest("/data", 1000))
    command = ReplaceJob(JOB, bench.version(JOB), a_job(3, template=other))
    plan = planned(bench, command)
    bench.do(command)
    bench.settle()
    bench.obey()
    assert where(plan) == hosts_of(bench, JOB)
    assert {n: host for n, host in where(plan).items() if n < 2} == before


def test_an_update_in_place_goes_back_in_a_plan() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(5))
    before = hosts_of(bench, JOB)
    plan = planned(
        bench,
        ReplaceJob(
            JOB, bench.version(JOB), a_job(5, template=a_template(cpu=1.5)), WorkflowSpec(in_place=True)
        ),
    )
    assert where(plan) == before


def test_an_end_lets_go_of_the_trial_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_plan, "PER_SLICE", 2)
    plan = planned(Bench(), CreateJob(NEW, a_job(9)))
    slices = 0
    while plan.let_go():
        slices += 1
    assert slices == 4
    plan.end()
    assert plan._trial is not None
    assert vars(plan._trial) == {}


constraint_kinds: st.SearchStrategy[Constraint | None] = st.sampled_from(
    [None, ALONE, R1, every(ALONE, R1), either(R1, on_pods(Condition.LESS_THAN, *WEB[0], 2))]
)
templates = st.builds(
    lambda cpu, memory, ports, static, constraint, labelled, revocable, preemptible, controller: a_template(
        cpu=cpu,
        memory=memory,
        ports=ports,
        static_ports=[31002] if static else [],
        constraint=constraint,
        labels=WEB if labelled else (),
        revocable=revocable,
        preemptible=preemptible or revocable,
        controller=controller,
    ),
    st.sampled_from([0.5, 1, 3]),
    st.sampled_from([100, 4000]),
    st.integers(0, 2),
    st.booleans(),
    constraint_kinds,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@st.composite
def specs(draw: st.DrawFn, name: str, most: int) -> JobSpec:
    count = draw(st.integers(0, most))
    others: dict[int, PodTemplate] = draw(
        st.dictionaries(st.integers(0, max(count - 1, 0)), templates, max_size=2)
    )
    return a_job(
        count,
        pool=draw(st.sampled_from([POOL, pool_id(2)])),
        name=name,
        priority=draw(st.integers(0, 2)),
        template=draw(templates),
        others=others if count else {},
    )


@st.composite
def clusters(draw: st.DrawFn) -> Bench:
    """Some hosts, two pools that share them, and some jobs at rest."""
    bench = Bench(hosts=0)
    hosts = draw(st.integers(1, 5))
    bench.do(
        commands.SeeHosts(
            [
                a_host(
                    n,
                    cpu=draw(st.sampled_from([2, 4, 8])),
                    revocable_cpu=draw(st.sampled_from([0, 4])),
                    ports=(31000, 31004),
                    labels=(("rack", f"r{n % 2}"),),
                )
                for n in range(hosts)
            ]
        )
    )
    capacity = bench.machine.state.tree.capacity
    bench.do(commands.UpdatePool(POOL, a_pool(capacity, part=draw(st.sampled_from([0.3, 0.5])))))
    bench.do(
        commands.CreatePool(pool_id(2), a_pool(capacity, name="two", part=draw(st.sampled_from([0.2, 0.5]))))
    )
    for number in range(draw(st.integers(0, 3))):
        bench.create(draw(specs(f"before{number}", 6)), job_id(number + 1))
        bench.obey()
    bench.after(6)
    bench.obey()
    return bench


@given(clusters(), specs("new", 14))
@settings(max_examples=120, deadline=None)
def test_a_creation_goes_as_planned(bench: Bench, spec: JobSpec) -> None:
    before = fingerprint(bench)
    plan = planned(bench, CreateJob(NEW, spec))
    assert fingerprint(bench) == before
    bench.do(CreateJob(NEW, spec))
    bench.settle(budget=500)
    bench.live(5)
    assert where(plan) == hosts_of(bench, NEW)
    assert plan.placed + plan.waiting == spec.instance_count
    waiting = [n for ranges, _kinds in kinds_waiting(plan) for n in numbers(ranges)]
    states = {n: bench.pod(n, NEW).state for n in waiting}
    assert set(states.values()) <= {PodState.PENDING, PodState.PLACING, PodState.READY}
    assert all(kinds for _ranges, kinds in kinds_waiting(plan))


@given(clusters(), specs("job", 8), specs("job", 8), st.integers(0, 3), st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_update_goes_as_planned(
    bench: Bench, old: JobSpec, new: JobSpec, batch: int, in_place: bool
) -> None:
    new = msgspec.structs.replace(new, pool=old.pool)
    bench.do(CreateJob(NEW, old))
    bench.settle(budget=500)
    bench.obey()
    bench.live(5)
    bench.obey()
    command = ReplaceJob(NEW, bench.version(NEW), new, WorkflowSpec(batch_size=batch, in_place=in_place))
    before = fingerprint(bench)
    plan = planned(bench, command)
    assert fingerprint(bench) == before
    removed = numbers([plan.removed] if plan.removed else [])
    added = numbers([plan.added] if plan.added else [])
    assert sorted([*removed, *numbers(plan.updated), *numbers(plan.unchanged)]) == list(
        range(old.instance_count)
    )
    assert added == list(range(old.instance_count, new.instance_count))
    assert plan.placed + plan.waiting == len(added) + len(numbers(plan.updated))
    others = {job: hosts_of(bench, job) for job in bench.machine.state.jobs if job != NEW}
    bench.do(command)
    bench.settle(budget=500)
    bench.obey()
    for _ in range(12):
        bench.live(1)
        bench.obey()
    if {job: hosts_of(bench, job) for job in others} != others:
        return  # Others have taken what has become free: something else has happened.
    happened = hosts_of(bench, NEW)
    assert where(plan) == {
        n: happened[n]
        for n in [*added, *numbers(plan.updated)]
        if n in happened and bench.pod(n, NEW).config == bench.job(NEW).config
    }
