"""Each obstacle of a pod is told, all of them at once, and each remedy clears its own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, amounts, job_id
from derny.answers import queries
from derny.answers.obstacles import Action, Kind, Obstacle
from derny.answers.pod_explanation import (
    HostSearch,
    PodExplanation,
    counts_labels,
    explain_pod,
    needs_host,
    template_of,
    with_hosts,
)
from derny.core import commands
from derny.model.errors import NotFound
from derny.model.ids import HostName, JobId
from derny.model.rules import DEFAULT_RULES
from derny.model.specs import Condition, Labels, VolumeRequest, WorkflowSpec
from derny.model.states import Gate, PodState, TaskState
from derny.placement.filters import Reason
from slow_constraints import every, on_host, on_pods

WEB: Labels = (("app", "web"),)
R2 = on_host(Condition.EQUAL, "rack", "r2", 1)
LARGE = a_template(cpu=100)


def explained(bench: Bench, instance: int = 0, job: JobId = JOB, names: int = 9) -> PodExplanation:
    """All of it, as a client is told."""
    state = bench.machine.state
    template = template_of(state, job, instance)
    while counts_labels(state, [template], 100):
        pass
    found = explain_pod(state, job, instance, bench.at, bench.periods, DEFAULT_RULES)
    if needs_host(found):
        found = with_hosts(found, HostSearch(state, template, DEFAULT_RULES).made(names))
    return found


def kinds(found: PodExplanation) -> list[Kind]:
    return [each.kind for each in found.obstacles]


def the(found: PodExplanation, kind: Kind) -> Obstacle:
    (obstacle,) = [each for each in found.obstacles if each.kind is kind]
    return obstacle


def actions(obstacle: Obstacle) -> list[Action]:
    return [remedy.action for remedy in obstacle.remedies]


def test_a_pod_that_runs_says_where() -> None:
    bench = Bench()
    bench.running(a_job(1))
    found = explained(bench)
    assert (found.state, found.host, found.obstacles) == (PodState.RUNNING, bench.pod().host, ())


def test_who_is_not_there_is_not_found() -> None:
    bench = Bench()
    bench.create(a_job(1))
    for job, instance in ((JOB, 1), (job_id(2), 0)):
        with pytest.raises(NotFound):
            explained(bench, instance, job)
        with pytest.raises(NotFound):
            explain_pod(bench.machine.state, job, instance, bench.at, bench.periods, DEFAULT_RULES)


def test_a_pod_that_is_launched_names_its_host() -> None:
    bench = Bench()
    bench.create(a_job(1))
    launching = the(explained(bench), Kind.LAUNCHING)
    assert launching.host == bench.pod().host
    assert launching.sentence.endswith("has been asked to launch it")
    bench.report(TaskState.STARTING, 0)
    assert the(explained(bench), Kind.LAUNCHING).sentence.endswith("is starting it")


def test_every_rule_of_every_pool_is_told_and_the_hosts_as_well() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(1, template=LARGE))
    found = explained(bench)
    assert kinds(found) == [Kind.POOL_RULE] * (len(found.obstacles) - 1) + [Kind.NO_HOST]
    told = [(each.pool.path, str(each.pool.rule).partition(",")[0]) for each in found.obstacles if each.pool]
    assert told == [("/pool", "entitlement"), ("/pool", "reservation"), ("/pool", "limit"), ("/", "limit")]
    assert all(
        each.pool.resource == "cpu" and each.pool.need == 100_000 for each in found.obstacles if each.pool
    )
    hosts = the(found, Kind.NO_HOST)
    assert [(each.reason, each.hosts, each.kind, each.shortfall) for each in hosts.refusals] == [
        (Reason.RESOURCES, 2, "cpu", 92_000)
    ]
    assert hosts.sentence == "none of 2 hosts takes it: 2 INSUFFICIENT_RESOURCES (92 cpu short)"
    assert actions(hosts) == [Action.ASK_LESS]
    assert hosts.remedies[0].amount == 8_000
    # The one-line form is the one of its status, and names the same rules.
    assert found.message == queries.waiting_reason(bench.machine.state, bench.pod())
    assert all(each.sentence in found.message for each in found.obstacles if each.pool)


def test_a_limit_is_to_be_raised_by_what_is_short() -> None:
    bench = Bench(hosts=2)
    bench.do(commands.UpdatePool(POOL, a_pool(amounts(3, 1000, 1000))))
    bench.create(a_job(2, template=a_template(cpu=2)))
    waits = bench.states().index(PodState.PENDING)
    limit = explained(bench, waits).obstacles[-1]
    assert limit.pool is not None
    assert (limit.pool.rule, limit.pool.left, limit.pool.most) == ("limit", 1_000, 3_000)
    assert [(each.action, each.amount) for each in limit.remedies] == [
        (Action.ASK_LESS, 1_000),
        (Action.RAISE_LIMIT, 4_000),
    ]
    bench.do(commands.UpdatePool(POOL, a_pool(amounts(limit.remedies[1].amount / 1000, 1000, 1000))))
    bench.after(6)
    assert bench.states() == [PodState.LAUNCHED] * 2


def test_who_goes_first_is_named_and_may_be_overtaken() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(1, template=LARGE, priority=3))
    bench.create(a_job(1, name="small"), job_id(2))
    found = explained(bench, job=job_id(2))
    behind = the(found, Kind.BEHIND)
    assert behind.behind == (JOB, 0)
    assert [(each.action, each.amount) for each in behind.remedies] == [(Action.RAISE_PRIORITY, 4)]
    assert kinds(found) == [Kind.BEHIND]
    assert found.message.startswith(behind.sentence)
    bench.create(a_job(1, name="urgent", priority=4), job_id(3))
    assert bench.states(job_id(3)) == [PodState.LAUNCHED]


def test_pods_of_one_job_do_not_overtake_each_other() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(12))
    behind = the(explained(bench, 11), Kind.BEHIND)
    assert (behind.behind, behind.remedies) == ((JOB, 8), ())


def test_hosts_are_counted_in_all_and_named_as_far_as_asked() -> None:
    bench = Bench(hosts=5)
    bench.create(a_job(1, template=a_template(constraint=R2)))
    hosts = the(explained(bench, names=2), Kind.NO_HOST)
    assert [(each.hosts, each.names, each.clause) for each in hosts.refusals] == [
        (5, ("host-0", "host-1"), "host label rack=r2 = 1")
    ]
    assert [(each.action, each.subject) for each in hosts.remedies] == [
        (Action.LEAVE_OUT, "host label rack=r2 = 1")
    ]
    assert "MISMATCH_CONSTRAINTS (host label rack=r2 = 1)" in hosts.sentence
    assert "mismatch_constraints" in explained(bench).message


def test_without_hosts_that_is_the_reason() -> None:
    bench = Bench(hosts=0)
    bench.create(a_job(1))
    assert the(explained(bench), Kind.NO_HOST).sentence == "there are no hosts"


def test_a_stopped_pod_and_a_stopped_job_are_to_be_started() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.do(commands.StopPod(JOB, 0))
    bench.settle()
    assert kinds(explained(bench)) == [Kind.ENDING]
    bench.obey()
    stopped = the(explained(bench), Kind.STOPPED)
    assert (stopped.sentence, actions(stopped)) == ("the pod is stopped", [Action.START])
    assert stopped.remedies[0].subject == f"{JOB}-0"
    bench.stop()
    bench.obey()
    stopped = the(explained(bench, 1), Kind.STOPPED)
    assert (stopped.sentence, stopped.remedies[0].subject) == ("the job is stopped", JOB)


def test_a_failed_pod_waits_for_its_back_off() -> None:
    bench = Bench()
    bench.running(a_job(1))
    bench.report(TaskState.FAILED, 0, code=1)
    found = explained(bench)
    assert kinds(found) == [Kind.BACK_OFF]
    assert found.obstacles[0].until == bench.at + bench.periods.restart_backoff_first_s
    bench.live(bench.periods.restart_backoff_first_s)
    assert bench.states() == [PodState.LAUNCHED]


def test_a_closed_gate_is_named() -> None:
    bench = Bench()
    bench.do(commands.CloseGates([Gate.LAUNCH]))
    bench.create(a_job(1))
    found = explained(bench)
    assert kinds(found) == [Kind.GATE]
    assert [(each.action, each.subject) for each in found.obstacles[0].remedies] == [
        (Action.OPEN_GATE, "Launch")
    ]
    bench.do(commands.CloseGates([Gate.GOAL_STATE_ENGINE]))
    bench.do(commands.CreateJob(job_id(2), a_job(1, name="other")))
    bench.settle()
    assert [each.remedies[0].subject for each in explained(bench, 0, job_id(2)).obstacles] == [
        "GoalStateEngine",
        "Launch",
    ]


def test_what_a_workflow_has_not_begun_says_so() -> None:
    bench = Bench()
    bench.do(commands.CreateJob(JOB, a_job(5), WorkflowSpec(batch_size=2)))
    bench.settle()
    found = explained(bench, 4)
    assert (found.state, found.run) == (PodState.INITIALIZED, 0)
    assert the(found, Kind.WORKFLOW).sentence == (
        "its creation brings up 2 instances at a time, and 2 are under way"
    )
    bench.do(commands.PauseWorkflow(JOB, bench.version(JOB)))
    paused = the(explained(bench, 4), Kind.WORKFLOW)
    assert actions(paused) == [Action.RESUME_WORKFLOW]
    bench.do(commands.AbortWorkflow(JOB, bench.version(JOB)))
    assert "ABORTED" in the(explained(bench, 4), Kind.WORKFLOW).sentence


def test_a_pod_with_a_volume_waits_for_its_host() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1, template=a_template(volume=VolumeRequest("/data", 1000))))
    host = bench.pod().host
    assert host is not None
    bench.do(commands.LoseHosts([host]))
    bench.report(TaskState.LOST, 0)
    bench.live(40)
    own = the(explained(bench), Kind.OWN_HOST)
    assert own.host == host
    assert [each.reason for each in own.refusals] == [Reason.STATUS]
    assert actions(own) == [Action.RETURN_HOST, Action.DELETE_VOLUME]
    assert host in bench.pod().message
    (volume,) = bench.job().volumes.values()
    assert own.remedies[1].subject == volume
    bench.do(commands.DeleteVolume(volume))
    bench.live(3)
    assert bench.pod().host not in (None, host)


def test_a_restart_in_place_waits_for_the_host_that_is_kept() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1, template=a_template(cpu=8)))
    host = bench.pod().host
    assert host is not None
    bench.restart(in_place=True)
    # Its host has shrunk by the time that the run has ended.
    number = int(host.rpartition("-")[2])
    bench.do(commands.SeeHosts([a_host(number, cpu=4), a_host(8)]))
    bench.report(TaskState.KILLED, 0)
    found = explained(bench)
    own = the(found, Kind.OWN_HOST)
    assert (own.host, own.refusals[0].shortfall) == (host, 4_000)
    assert own.until > bench.at
    bench.live(own.until - bench.at + 1)
    assert bench.pod().host not in (None, host)


def test_what_is_being_ended_says_so() -> None:
    bench = Bench()
    bench.running(a_job(1))
    bench.do(commands.RestartPod(JOB, 0))
    assert kinds(explained(bench)) == [Kind.ENDING]
    bench.do(commands.CloseGates([Gate.KILL]))
    bench.settle()
    assert kinds(explained(bench)) == [Kind.ENDING, Kind.GATE]
    bench.delete(force=True)
    assert kinds(explained(bench))[0] is Kind.ENDING


def test_of_what_is_to_be_looked_at_next_that_is_said() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(1, template=a_template(constraint=R2)))
    bench.do(commands.SeeHosts([a_host(5, labels=(("rack", "r2"),))]))
    assert the(explained(bench), Kind.TURN).sentence.startswith("1 hosts would take it")


def test_several_obstacles_are_told_at_once() -> None:
    bench = Bench(hosts=3)
    bench.do(commands.UpdatePool(POOL, a_pool(amounts(3, 1000, 1000))))
    bench.create(
        a_job(
            1, template=a_template(cpu=100, constraint=every(R2, on_pods(Condition.GREATER_THAN, *WEB[0], 0)))
        )
    )
    bench.do(commands.CloseGates([Gate.LAUNCH]))
    found = explained(bench)
    assert set(kinds(found)) == {Kind.POOL_RULE, Kind.GATE, Kind.NO_HOST}
    hosts = the(found, Kind.NO_HOST)
    assert [str(each.reason) for each in hosts.refusals] == [
        "INSUFFICIENT_RESOURCES",
        "MISMATCH_CONSTRAINTS",
        "MISMATCH_CONSTRAINTS",
    ]
    assert hosts.remedies == (), "no single change would do"


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 15), st.booleans())
@settings(max_examples=40, deadline=None)
def test_asking_for_no_more_than_is_said_places_the_pod(
    cpu: int, used: int, limit: int, racked: bool
) -> None:
    """§3.3, §6.3: one job runs, another waits; all that is said of it is done, and it runs."""
    bench = Bench(hosts=2)
    bench.create(a_job(used, template=a_template(cpu=1, preemptible=True)))
    bench.do(commands.UpdatePool(POOL, a_pool(amounts(limit + 1, 5000, 5000))))
    template = a_template(cpu=cpu + 4, constraint=R2 if racked else None, preemptible=True)
    bench.create(a_job(1, template=template, priority=1), job_id(2))
    bench.after(6)
    found = explained(bench, job=job_id(2))
    if found.host is not None:
        assert kinds(found) == [Kind.LAUNCHING]
        return
    least, dropped = cpu + 4, False
    for each in found.obstacles:
        assert each.kind in (Kind.POOL_RULE, Kind.NO_HOST)
        if each.kind is Kind.NO_HOST and not each.remedies:
            return
        for remedy in each.remedies[:1]:
            if remedy.action is Action.ASK_LESS:
                least = min(least, remedy.amount / 1000)
            elif remedy.action is Action.LEAVE_OUT:
                dropped = True
            elif remedy.action is not Action.ADD_HOST:
                return
    smaller = a_template(cpu=least, constraint=None if dropped or not racked else R2, preemptible=True)
    bench.delete(job_id(2), force=True)
    bench.create(a_job(1, template=smaller, priority=1), job_id(3))
    bench.after(6)
    assert bench.states(job_id(3)) == [PodState.LAUNCHED], found.obstacles


def test_names_of_hosts_are_names() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(1, template=a_template(cpu=9)))
    assert the(explained(bench), Kind.NO_HOST).refusals[0].names == (HostName("host-0"),)
