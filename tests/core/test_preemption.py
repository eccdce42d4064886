"""Pools give back what they hold beyond their entitlements, with notice and never too much."""

import random
from collections import Counter

import msgspec
import pytest

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.capacity.preemption import owed
from derny.core import commands, events
from derny.core.audit import HELD, audit, fingerprint
from derny.core.machine import Machine
from derny.core.preemption import REASON
from derny.model.ids import HostName, PoolId, pod_id
from derny.model.periods import Limits, Periods
from derny.model.records import Queue
from derny.model.rules import Preempting
from derny.model.specs import PodTemplate, PoolResource, PoolSpec
from derny.model.states import POD_ON_HOST, Gate, PodState, TaskState, TerminationReason

S, T = PodState, TaskState
OTHER = pool_id(1)
PLAIN = a_template(preemptible=True)
FIXED = a_template()
PERIODS = Periods()
UNTIL_REVIEW_S = PERIODS.preemption_s * PERIODS.preemption_cycles


def a_half(bench: Bench, name: str) -> PoolSpec:
    """A pool that reserves half of the cluster and may have all of it."""
    spec = a_pool(bench.machine.state.tree.capacity, name=name)
    resources = tuple(PoolResource(r.kind, r.limit // 2, r.limit) for r in spec.resources)
    return msgspec.structs.replace(spec, resources=resources)


def two_halves(cpu: float = 12, **more: object) -> Bench:
    """A cluster of one host, and two pools that reserve half of it each."""
    bench = Bench(hosts=1, cpu=cpu, **more)  # type: ignore[arg-type]  # what a bench takes
    tree = bench.machine.state.tree
    bench.do(commands.UpdatePool(POOL, a_half(bench, "pool")))
    bench.do(commands.CreatePool(OTHER, a_half(bench, "other")))
    assert tree.pools[OTHER].spec.resources[0].reservation == cpu * 500
    return bench


def live(bench: Bench, seconds: float) -> list[events.Event]:
    """Let time pass, with agents that do at once as they are told."""
    end, done = bench.at + seconds, bench.obey()
    while (wake := bench.machine.next_wake) is not None and wake <= end:
        bench.at = max(bench.at, wake)
        done += bench.settle() + bench.obey()
    bench.at = end
    return done + bench.settle() + bench.obey()


def running(bench: Bench, number: int) -> int:
    return bench.states(job_id(number)).count(S.RUNNING)


def borrowed(**more: object) -> Bench:
    """Twelve pods have all twelve cpus when the other pool comes with as many."""
    bench = two_halves(**more)
    bench.create(a_job(12, template=PLAIN), job_id(1))
    live(bench, 1)
    bench.create(a_job(12, pool=OTHER, template=PLAIN), job_id(2))
    assert (running(bench, 1), bench.states(job_id(2))) == (12, [S.PENDING] * 12)
    return bench


def test_what_was_borrowed_is_given_back_after_some_looks_and_a_notice() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S - 1)
    assert running(bench, 1) == 12
    live(bench, 2)
    assert Counter(bench.states(job_id(1))) == {S.RUNNING: 6, S.PREEMPTING: 6}
    assert (bench.pod(11, job_id(1)).message, bench.pod(11, job_id(1)).reason) == (
        "To be evicted: /pool holds more than its entitlement",
        REASON,
    )
    live(bench, PERIODS.eviction_s)
    assert Counter(bench.states(job_id(1))) == {S.RUNNING: 6, S.PENDING: 6}
    assert Counter(bench.states(job_id(2))) == {S.RUNNING: 6, S.PENDING: 6}
    log = bench.log[:]
    live(bench, 300)
    assert bench.log == log, "and so it stays"


def test_an_evicted_pod_begins_a_new_run_without_a_back_off_or_a_failure() -> None:
    bench = borrowed()
    done = live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 1)
    evicted = [event for event in done if isinstance(event, events.RunsSuperseded)]
    assert [(event.job, event.reason, event.message, event.why) for event in evicted] == [
        (
            job_id(1),
            TerminationReason.PREEMPTED_RESOURCES,
            "Pod evicted: /pool holds more than its entitlement",
            REASON,
        )
    ]
    for instance in evicted[0].instances:
        pod = bench.pod(instance, job_id(1))
        assert (pod.run, pod.failures, pod.state, pod.unavailable) == (2, 0, S.PENDING, True)
    assert not [event for event in bench.log if isinstance(event, events.PodsThrottled)]


def test_the_most_recently_started_go_first() -> None:
    bench = two_halves()
    for number in (1, 2, 3):
        bench.create(a_job(4, template=PLAIN), job_id(number))
        live(bench, 1)
    bench.create(a_job(12, pool=OTHER, template=PLAIN), job_id(4))
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 1)
    assert [running(bench, number) for number in (1, 2, 3, 4)] == [4, 2, 0, 6]


def test_a_low_priority_goes_before_a_high_one_and_who_can_not_be_preempted_never() -> None:
    bench = two_halves()
    bench.create(a_job(4, template=PLAIN, priority=5), job_id(1))
    bench.create(a_job(5, template=FIXED), job_id(2))
    bench.create(a_job(3, template=PLAIN), job_id(3))
    live(bench, 1)
    bench.create(a_job(12, pool=OTHER, template=PLAIN), job_id(4))
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 1)
    assert [running(bench, number) for number in (1, 2, 3, 4)] == [1, 5, 0, 6]


def test_a_pool_that_owes_no_longer_is_let_off() -> None:
    """Before the review its looks are forgotten; after the notice its pods are spared."""
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S - 1)
    bench.stop(job_id(2))
    live(bench, UNTIL_REVIEW_S * 2)
    assert running(bench, 1) == 12
    bench.start(job_id(2))
    live(bench, UNTIL_REVIEW_S - PERIODS.preemption_s)
    assert running(bench, 1) == 12, "it is counted from the beginning"
    live(bench, PERIODS.preemption_s + 1)
    assert running(bench, 1) == 6
    bench.stop(job_id(2))
    done = live(bench, PERIODS.eviction_s + 1)
    assert [
        type(event) for event in done if isinstance(event, events.PodsSpared | events.RunsSuperseded)
    ] == [events.PodsSpared]
    assert {(pod.state, pod.run, pod.message) for pod in bench.job(job_id(1)).pods} == {(S.RUNNING, 1, "")}


def test_after_a_restart_the_looks_are_counted_anew_and_who_had_notice_is_spared_in_time() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S + 1)
    before = fingerprint(bench.machine.state)
    bench.machine = bench.replayed()
    assert fingerprint(bench.machine.state) == before and not audit(bench.machine.state)
    live(bench, PERIODS.eviction_s + PERIODS.preempting_timeout_s - 2)
    assert running(bench, 1) == 6
    live(bench, 2)
    assert [type(event) for event in bench.log[-1:]] == [events.PodsPreempted], "spared, and chosen once more"
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s)
    assert (running(bench, 1), running(bench, 2)) == (6, 6)


def test_waiting_pods_go_back_to_the_queue_at_once_and_running_ones_are_left_alone() -> None:
    """Six run and six found no host: the six that wait are what the pool owes."""
    bench = two_halves(memory=600, periods=Periods(placing_timeout_s=1000))
    bench.create(a_job(6, template=PLAIN), job_id(1))
    live(bench, 1)
    bench.do(commands.SeeHosts([]))
    bench.create(a_job(6, template=a_template(memory=0, ports=2000, preemptible=True)), job_id(2))
    assert bench.states(job_id(2)) == [S.PLACING] * 6
    bench.create(a_job(6, pool=OTHER, template=a_template(memory=0, preemptible=True)), job_id(3))
    done = live(bench, UNTIL_REVIEW_S + 1)
    requeued = [event for event in done if isinstance(event, events.PodsRequeued)]
    assert [(event.job, len(event.instances), event.message) for event in requeued] == [
        (job_id(2), 6, "Queued again: /pool holds more than its entitlement")
    ]
    assert (bench.states(job_id(2)), running(bench, 1), running(bench, 3)) == ([S.PENDING] * 6, 6, 6)


@pytest.mark.parametrize("report", [None, T.STARTING])
def test_who_has_not_begun_to_run_is_evicted_without_notice(report: TaskState | None) -> None:
    bench = two_halves(periods=Periods(launch_timeout_s=1000, start_timeout_s=1000))
    bench.create(a_job(12, template=PLAIN), job_id(1))
    if report is not None:
        bench.report(report, *range(12), job=job_id(1))
    bench.create(a_job(12, pool=OTHER, template=PLAIN), job_id(2))
    bench.live(UNTIL_REVIEW_S + 1)
    assert bench.states(job_id(1)).count(S.KILLING) == 6
    assert not [event for event in bench.log if isinstance(event, events.PodsPreempted)]


def test_no_more_than_the_limit_are_evicted_in_a_period_until_all_is_paid() -> None:
    bench = borrowed(limits=Limits(evictions_max=2))
    live(bench, UNTIL_REVIEW_S + 1)
    paid = []
    for _ in range(4):
        paid.append((bench.states(job_id(1)).count(S.PREEMPTING), running(bench, 2)))
        live(bench, PERIODS.eviction_s)
    assert paid == [(2, 0), (2, 2), (2, 4), (0, 6)]


def test_a_review_of_a_large_pool_is_sliced() -> None:
    bench = borrowed()
    bench.live(UNTIL_REVIEW_S - 1)
    bench.at += 1
    looks = 0
    while not [event for event in bench.log if isinstance(event, events.PodsPreempted)]:
        bench.advance(budget=1)
        looks += 1
    assert looks >= 12


def test_who_goes_its_own_way_during_a_review_is_let_go() -> None:
    bench = borrowed()
    bench.create(a_job(1, pool=OTHER), job_id(3))
    bench.live(UNTIL_REVIEW_S - 1)
    bench.at += 1
    bench.advance(budget=10)
    assert bench.states(job_id(1)) == [S.RUNNING] * 12, "it has not been decided yet"
    for instance in range(8):
        bench.do(commands.StopPod(job_id(1), instance))
    bench.report(T.FAILED, 8, 9, job=job_id(1))
    gone = [S.KILLING] * 8 + [S.FAILED] * 2
    assert bench.states(job_id(1)) == [*gone, S.PREEMPTING, S.PREEMPTING], "what has gone was not seen to go"
    bench.live(PERIODS.eviction_s)
    assert bench.states(job_id(1)) == [*gone, S.RUNNING, S.RUNNING]


def test_a_job_that_is_gone_during_a_review_is_passed_over() -> None:
    bench = borrowed()
    bench.live(UNTIL_REVIEW_S - 1)
    bench.at += 1
    bench.advance(budget=10)
    bench.delete(job_id(1), force=True)
    live(bench, 100)
    assert running(bench, 2) == 12


def test_a_pod_that_is_leaving_counts_as_paid() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S - 1)
    for instance in range(4):
        bench.do(commands.StopPod(job_id(1), instance))
    bench.settle()
    bench.at += 2
    bench.settle()
    assert Counter(bench.states(job_id(1))) == {S.KILLING: 4, S.PREEMPTING: 2, S.RUNNING: 6}


def test_revocable_pods_are_the_first_to_leave_when_their_memory_is_wanted() -> None:
    """Behaviour, scheduler §5, integration: what can't be preempted has half of the memory, revocable pods a
    little of the rest, when a hard job wants the other half."""
    bench = Bench(hosts=1, cpu=100, memory=2000, revocable_cpu=10)
    bench.do(commands.UpdatePool(POOL, a_half(bench, "pool")))
    for number, template in ((1, a_template(0, 1000, 0)), (2, a_template(1, 50, 0, revocable=True))):
        bench.create(a_job(1, template=template), job_id(number))
        live(bench, 1)
    bench.create(a_job(1, template=a_template(0, 1000, 0, preemptible=True)), job_id(3))
    assert [running(bench, number) for number in (1, 2, 3)] == [1, 1, 0]
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 1)
    assert [running(bench, number) for number in (1, 2, 3)] == [1, 0, 1]
    bench.stop(job_id(3))
    live(bench, 10)
    assert [running(bench, number) for number in (1, 2, 3)] == [1, 1, 0], "it is back once there is room"


def test_without_preemption_nothing_is_taken_back() -> None:
    bench = borrowed(preempting=Preempting(enabled=False))
    live(bench, 1000)
    assert (running(bench, 1), running(bench, 2)) == (12, 0)


def test_nothing_is_taken_back_while_no_step_may_be_taken() -> None:
    bench = borrowed()
    bench.do(commands.CloseGates([Gate.GOAL_STATE_ENGINE]))
    live(bench, UNTIL_REVIEW_S * 2)
    assert running(bench, 1) == 12
    bench.do(commands.OpenGates([Gate.GOAL_STATE_ENGINE]))
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 1)
    assert (running(bench, 1), running(bench, 2)) == (6, 6)


def test_a_daemon_that_comes_back_without_preemption_queues_pods_otherwise() -> None:
    """Which queue a pod stands in follows from the configuration of today, not from the journal."""
    bench = two_halves()
    bench.create(a_job(9, template=FIXED))
    assert bench.states() == [S.LAUNCHED] * 6 + [S.PENDING] * 3
    machine = Machine(bench.periods, bench.limits, preempting=Preempting(enabled=False))
    for at, journaled in bench.turns:
        machine.replay(at, journaled)
    assert list(machine.state.tree.pools[POOL].queues) == [Queue.PENDING]
    assert not audit(machine.state)
    machine.advance(bench.at, 100)
    assert machine.state.jobs[JOB].counts[S.LAUNCHED] == 9


def test_a_report_does_not_take_back_the_notice_and_an_end_is_an_end() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S + 1)
    bench.report(T.RUNNING, 11, job=job_id(1))
    assert bench.pod(11, job_id(1)).state is S.PREEMPTING
    bench.report(T.FAILED, 11, job=job_id(1))
    assert (bench.pod(11, job_id(1)).state, bench.pod(11, job_id(1)).failures) == (S.FAILED, 1)


def test_a_pod_with_notice_can_be_stopped_and_restarted() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S + 1)
    bench.do(commands.StopPod(job_id(1), 11))
    bench.do(commands.RestartPod(job_id(1), 10))
    bench.settle()
    assert [bench.pod(instance, job_id(1)).state for instance in (10, 11)] == [S.KILLING, S.KILLING]


def test_a_pool_that_is_deleted_meanwhile_is_forgotten() -> None:
    bench = borrowed()
    live(bench, UNTIL_REVIEW_S + 1)
    bench.stop(job_id(1))
    bench.delete(job_id(1), force=True)
    live(bench, 1)
    bench.do(commands.DeletePool(POOL))
    live(bench, 100)
    assert running(bench, 2) == 12


# Inside a pool


def crowded(preempting: Preempting, priority: int = 5, template: PodTemplate = PLAIN) -> Bench:
    """A pool full of pods without priority, and a job that has some."""
    bench = Bench(hosts=1, cpu=8, preempting=preempting)
    bench.create(a_job(8, template=PLAIN), job_id(1))
    live(bench, 1)
    bench.create(a_job(3, template=template, priority=priority), job_id(2))
    return bench


def test_a_gang_of_higher_priority_takes_the_place_of_the_fewest_others() -> None:
    bench = crowded(Preempting(by_priority=True))
    live(bench, PERIODS.preemption_s + 1)
    assert Counter(bench.states(job_id(1))) == {S.RUNNING: 5, S.PREEMPTING: 3}
    assert bench.pod(7, job_id(1)).message == "To be evicted: a pod of higher priority waits in /pool"
    live(bench, PERIODS.eviction_s)
    assert (running(bench, 1), running(bench, 2)) == (5, 3)
    log = bench.log[:]
    live(bench, 500)
    assert bench.log == log, "nobody is displaced by whom it displaced"


def test_pods_that_can_not_be_preempted_displace_within_the_reservation() -> None:
    bench = crowded(Preempting(by_priority=True), template=FIXED)
    live(bench, PERIODS.preemption_s + PERIODS.eviction_s + 1)
    assert (running(bench, 1), running(bench, 2)) == (5, 3)


@pytest.mark.parametrize(
    ("preempting", "priority"),
    [
        (Preempting(), 5),
        (Preempting(by_priority=True), 0),
        (Preempting(by_priority=True), -1),
        (Preempting(enabled=False, by_priority=True), 5),
    ],
)
def test_otherwise_nobody_is_displaced(preempting: Preempting, priority: int) -> None:
    bench = crowded(preempting, priority)
    live(bench, 500)
    assert (running(bench, 1), running(bench, 2)) == (8, 0)


def test_a_claim_that_is_withdrawn_spares_whoever_had_notice() -> None:
    bench = crowded(Preempting(by_priority=True))
    live(bench, PERIODS.preemption_s + 1)
    bench.stop(job_id(2))
    live(bench, PERIODS.eviction_s + 1)
    assert {(pod.state, pod.run) for pod in bench.job(job_id(1)).pods} == {(S.RUNNING, 1)}


def test_lost_hosts_make_pools_give_back_what_is_no_longer_theirs() -> None:
    bench = Bench(hosts=2, cpu=6)
    bench.do(commands.UpdatePool(POOL, a_half(bench, "pool")))
    bench.do(commands.CreatePool(OTHER, a_half(bench, "other")))
    bench.create(a_job(6, template=PLAIN), job_id(1))
    bench.create(a_job(6, pool=OTHER, template=PLAIN), job_id(2))
    live(bench, 1)
    bench.do(commands.LoseHosts([HostName("host-0")]))
    gone = [pod for number in (1, 2) for pod in bench.job(job_id(number)).pods if pod.host == "host-0"]
    for pod in gone:
        bench.report(T.LOST, pod.instance, job=pod.job)
    live(bench, UNTIL_REVIEW_S + PERIODS.eviction_s + 10)
    assert running(bench, 1) + running(bench, 2) == 6
    tree = bench.machine.state.tree
    for pool in (PoolId(POOL), OTHER):
        assert tree.pools[pool].allocation.fits(tree.pools[pool].entitlement)
    for number in (1, 2):
        bench.stop(job_id(number))
    live(bench, 1)
    assert tree.root.allocation == amounts()


TEMPLATES = [
    *(PLAIN, PLAIN, FIXED, a_template(revocable=True)),
    *(a_template(3, preemptible=True), a_template(0, 9_000, preemptible=True)),
]


def happens(bench: Bench, chance: random.Random, jobs: int) -> int:
    """Something does: a job comes or goes, a host does, time passes. Returns how many jobs there were."""
    what = chance.choice([*["create"] * 4, *["wait"] * 4, "stop", "stop", "see", "lose"])
    if what == "create" or not jobs:
        pool, template = chance.choice([POOL, OTHER]), chance.choice(TEMPLATES)
        spec = a_job(chance.randint(1, 9), pool, template=template, priority=chance.randint(0, 2))
        bench.do(commands.CreateJob(job_id(jobs + 1), spec))
        return jobs + 1
    if what == "wait":
        live(bench, chance.choice([1, 15, 45]))
    elif what == "stop":
        bench.stop(job_id(max(chance.randint(1, jobs), jobs - 6)))
    elif what == "see":
        bench.do(commands.SeeHosts([a_host(1, cpu=4)]))
    elif "host-1" in bench.machine.state.hosts:
        lose(bench, "host-1")
    return jobs


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_and_goes_all_debts_are_paid_and_then_nobody_is_disturbed(seed: int) -> None:
    """A bench audits after each step: conservation in every dimension, and nobody forgotten."""
    chance = random.Random(seed)
    bench = two_halves(8, revocable_cpu=3, preempting=Preempting(by_priority=seed % 2 == 1))
    tree, jobs = bench.machine.state.tree, 0
    for _ in range(40):
        jobs = happens(bench, chance, jobs)
        for pool in (tree.pools[POOL], tree.pools[OTHER]):
            assert pool.allocation.fits(tree.limit(pool))
    live(bench, 400)
    disturbed = (events.PodsPreempted, events.PodsSpared, events.RunsSuperseded)
    assert not [event for event in live(bench, 400) if isinstance(event, disturbed)]
    for pool in (tree.pools[POOL], tree.pools[OTHER]):
        slack, hard = owed(pool)
        fixed = [
            least - most for least, most in zip(pool.non_preemptible, pool.non_slack_entitlement, strict=True)
        ]
        assert not any(slack)
        assert all(debt <= max(owed_by_fixed, 0) for debt, owed_by_fixed in zip(hard, fixed, strict=True))
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)
    for number in range(1, jobs + 1):
        bench.stop(job_id(number))
    live(bench, 1)
    assert {getattr(pool, held) for pool in tree.pools.values() for held in HELD} == {amounts()}


def lose(bench: Bench, name: str) -> None:
    """The host falls silent, and its pods are reported lost."""
    bench.do(commands.LoseHosts([HostName(name)]))
    lost = [
        commands.PodReport(pod_id(pod.job, pod.instance, pod.run), T.LOST)
        for job in bench.machine.state.jobs.values()
        for pod in job.pods
        if pod.host == name and pod.state in POD_ON_HOST
    ]
    bench.do(commands.ReportPods(lost))
