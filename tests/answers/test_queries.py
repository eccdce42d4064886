"""What clients are told, as values."""

import pytest

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.answers import queries
from derny.core import commands
from derny.core.machine import Machine
from derny.model.errors import Invalid, NotFound
from derny.model.ids import ROOT_POOL, HostName, PoolId
from derny.model.states import HealthState, HostState, JobState, PodState, TaskState

S, T = PodState, TaskState


# Jobs


def test_a_new_job_counts_all_its_pods_as_initialized() -> None:
    bench = Bench()
    bench.do(commands.CreateJob(JOB, a_job(3)))
    view = queries.job_info(bench.machine.state, JOB)
    assert (view.state, view.goal, view.version, view.revision) == (
        JobState.PENDING,
        JobState.RUNNING,
        "1-1-1",
        1,
    )
    assert view.pod_stats == {**dict.fromkeys(PodState, 0), S.INITIALIZED: 3}
    assert view.pod_stats_by_version == {}
    assert (view.created_at, view.updated_at, view.spec) == (bench.at, bench.at, a_job(3))


def test_counts_follow_the_pods_with_every_state_as_a_key() -> None:
    bench = Bench()
    bench.running(a_job(3))
    bench.report(T.FAILED, 1)
    view = queries.job_info(bench.machine.state, JOB)
    assert view.pod_stats == {**dict.fromkeys(PodState, 0), S.RUNNING: 2, S.FAILED: 1}
    assert view.pod_stats_by_version == {"1-0-0": {S.RUNNING: 2, S.FAILED: 1}}


def test_a_view_is_kept_across_steps() -> None:
    bench = Bench()
    bench.running(a_job(2))
    view = queries.job_info(bench.machine.state, JOB)
    pods = queries.pods_of(bench.machine.state, JOB, 0, 2)
    bench.stop()
    bench.obey()
    assert view.pod_stats[S.RUNNING] == 2
    assert [pod.state for pod in pods] == [S.RUNNING] * 2


def test_configurations_are_found_by_version_and_version_0_is_the_empty_job_before_creation() -> None:
    bench = Bench()
    bench.create(a_job(3, name="mine"))
    state = bench.machine.state
    assert queries.job_spec(state, JOB, 1) == (a_job(3, name="mine"), 1000.0)
    assert queries.job_spec(state, JOB, 0)[0].instance_count == 0
    with pytest.raises(NotFound, match="version 2"):
        queries.job_spec(state, JOB, 2)


def test_jobs_are_listed_in_order_of_creation_and_found_by_name_newest_first() -> None:
    bench = Bench()
    for number in (5, 3, 4):
        bench.create(a_job(name="twin"), job_id(number))
    state = bench.machine.state
    ids = queries.job_ids(state)
    assert ids == [job_id(5), job_id(3), job_id(4)]
    assert queries.job_ids_named(state, "twin") == [job_id(4), job_id(3), job_id(5)]
    bench.delete(job_id(3), force=True)
    bench.obey()
    assert [view.id for view in queries.jobs_of(state, ids)] == [job_id(5), job_id(4)]
    with pytest.raises(NotFound, match="'twi'"):
        queries.job_ids_named(state, "twi")


@pytest.mark.parametrize(
    "ask",
    [
        lambda state: queries.job_info(state, job_id(9)),
        lambda state: queries.job_spec(state, job_id(9), 1),
        lambda state: queries.pods_of(state, job_id(9), 0, 1),
        lambda state: queries.pod_info(state, job_id(9), 0),
        lambda state: queries.pod_info(state, JOB, 2),
        lambda state: queries.pod_events(state, JOB, 2),
        lambda state: queries.pod_events(state, JOB, 0, 2),
        lambda state: queries.previous_runs(state, JOB, 2, None),
        lambda state: queries.pool_info(state, PoolId("nowhere")),
        lambda state: queries.job_ids_named(state, ""),
    ],
)
def test_what_does_not_exist_is_not_found(ask: object) -> None:
    bench = Bench()
    bench.create(a_job(2))
    with pytest.raises(NotFound):
        ask(bench.machine.state)  # type: ignore[operator]  # every parameter is callable


# Pods


def test_pods_come_ascending_and_a_range_is_half_open() -> None:
    bench = Bench()
    bench.create(a_job(7))
    state = bench.machine.state
    assert [pod.instance for pod in queries.pods_of(state, JOB, 0, 100)] == list(range(7))
    assert [pod.instance for pod in queries.pods_of(state, JOB, 2, 5)] == [2, 3, 4]
    assert queries.pods_of(state, JOB, 0, 0) == queries.pods_of(state, JOB, 7, 9) == []


def test_a_pod_tells_where_it_is_and_since_when() -> None:
    bench = Bench()
    bench.create(a_job(template=a_template(ports=1)))
    bench.at += 3
    bench.report(T.RUNNING, 0)
    view = queries.pod_info(bench.machine.state, JOB, 0)
    assert (view.state, view.goal, view.run, view.previous) == (S.RUNNING, S.RUNNING, 1, None)
    assert (view.host, view.agent_id, view.ports) == ("host-0", "agent-0", (31000,))
    assert (view.created_at, view.started_at, view.completed_at) == (1000.0, 1003.0, 0.0)
    assert (view.health, view.config, view.desired_config) == (HealthState.DISABLED, 1, 1)


def test_events_are_those_of_one_run_newest_first() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(T.LOST, 0)
    state = bench.machine.state
    now = queries.pod_events(state, JOB, 0)
    before = queries.pod_events(state, JOB, 0, 1)
    assert [event.entry.state for event in now] == [S.LAUNCHED, S.READY, S.PENDING, S.INITIALIZED]
    assert [event.entry.state for event in before] == [
        S.LOST,
        S.RUNNING,
        S.LAUNCHED,
        S.READY,
        S.PENDING,
        S.INITIALIZED,
    ]
    assert {(event.pod, event.previous) for event in now} == {(f"{JOB}-0-2", f"{JOB}-0-1")}
    assert {(event.pod, event.previous) for event in before} == {(f"{JOB}-0-1", f"{JOB}-0-0")}
    assert [(event.host, event.agent_id) for event in now[:2]] == [("host-1", "agent-1"), (None, "")]


def test_every_event_has_the_moment_at_which_it_was_written() -> None:
    """One event per write: a new goal and a new message are written without a change of state."""
    bench = Bench()
    bench.running(a_job())
    bench.at += 60
    bench.report(T.FAILED, 0)
    bench.at += 5
    bench.stop()
    written = [event.entry for event in queries.pod_events(bench.machine.state, JOB, 0)]
    assert [(entry.at, entry.goal) for entry in written][:2] == [(1065.0, S.KILLED), (1060.0, S.RUNNING)]


def test_previous_runs_are_told_by_their_ends_newest_first() -> None:
    bench = Bench()
    bench.running(a_job())
    for _ in range(3):
        bench.report(T.LOST, 0)
        bench.after(1)
    state = bench.machine.state
    runs = queries.previous_runs(state, JOB, 0, None)
    assert [(run.entry.run, run.entry.state) for run in runs] == [(3, S.LOST), (2, S.LOST), (1, S.LOST)]
    assert [run.entry.run for run in queries.previous_runs(state, JOB, 0, 2)] == [3, 2]
    assert queries.previous_runs(state, JOB, 0, 0) == []
    bench.create(a_job(), job_id(2))
    assert queries.previous_runs(state, job_id(2), 0, None) == []


# Why a pod waits


def test_a_waiting_pod_says_which_limit_it_waits_for_and_those_behind_it_whom() -> None:
    bench = Bench(hosts=1, cpu=2, part=1.0)
    bench.create(a_job(4))
    state = bench.machine.state
    reasons = [queries.waiting_reason(state, pod) for pod in queries.pods_of(state, JOB, 0, 4)]
    assert reasons[:2] == ["", ""]
    assert "/pool has 0 of 2 cpu left, 1 needed" in reasons[2]
    assert reasons[3].startswith(f"waits behind {JOB}-2 in /pool")


def test_a_shortfall_names_only_kinds_that_are_asked_for() -> None:
    """After the loss of a host a pool may hold more than there is, of a kind that the pod has no need of."""
    bench = Bench(hosts=2, cpu=2, disk=100)
    bench.running(a_job(2, template=a_template(cpu=1, disk=90)))
    bench.do(commands.LoseHosts([HostName("host-1")]))
    bench.create(a_job(1, template=a_template(cpu=1, disk=0)), job_id(2))
    state = bench.machine.state
    reason = queries.waiting_reason(state, queries.pod_info(state, job_id(2), 0))
    assert "cpu" in reason
    assert "disk" not in reason


# Pools and hosts


def test_pools_are_listed_depth_first_with_their_paths_and_sums() -> None:
    bench = Bench(hosts=1)
    capacity = bench.machine.state.tree.capacity
    for number, parent, part in (
        (1, ROOT_POOL, 0.0),
        (2, pool_id(1), 0.0),
        (3, POOL, 1.0),
        (4, pool_id(1), 0.0),
    ):
        spec = a_pool(capacity, parent=parent, name=f"p{number}", part=part)
        bench.do(commands.CreatePool(pool_id(number), spec))
    bench.running(a_job(2, pool=pool_id(3)))
    pools = queries.all_pools(bench.machine.state)
    assert [pool.path for pool in pools] == ["/", "/pool", "/pool/p3", "/p1", "/p1/p2", "/p1/p4"]
    assert [pool.allocation.cpu for pool in pools] == [2000, 2000, 2000, 0, 0, 0]
    assert pools[0].children == (POOL, pool_id(1))
    assert [r.limit for r in pools[0].resources] == [capacity.of_kind(r.kind) for r in pools[0].resources]
    assert queries.pool_id_at(bench.machine.state, "/p1/p4") == pool_id(4)
    with pytest.raises(Invalid):
        queries.pool_id_at(bench.machine.state, "")


def test_hosts_are_unknown_while_their_agent_is_lost_and_carry_their_name_as_a_label() -> None:
    bench = Bench(hosts=2)
    bench.do(commands.LoseHosts([a_host(1).name]))
    hosts = queries.all_hosts(bench.machine.state)
    assert [(host.name, host.state) for host in hosts] == [
        ("host-0", HostState.UP),
        ("host-1", HostState.UNKNOWN),
    ]
    assert hosts[0].labels == (("hostname", "host-0"), ("host_pool", "default"))
    assert hosts[0].capacity == amounts(8, 32768, 102400)


def changes_of(machine: Machine) -> queries.Changes:
    return queries.changes(machine.state, *machine.take_changed())


def test_changes_are_told_once_and_each_object_once() -> None:
    bench = Bench()
    changes_of(bench.machine)
    bench.create(a_job(2))
    told = changes_of(bench.machine)
    assert [(view.id, view.state) for view in told.jobs] == [(JOB, JobState.PENDING)]
    assert [(view.instance, view.state) for view in told.pods] == [(0, S.LAUNCHED), (1, S.LAUNCHED)]
    assert changes_of(bench.machine) == queries.Changes([], [])


def test_what_is_removed_is_told_as_deleted_with_a_higher_revision() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.delete(force=True)
    last = changes_of(bench.machine)
    bench.report(T.KILLED, 0, 1)
    gone = changes_of(bench.machine)
    assert [(view.instance, view.state) for view in gone.pods] == [(0, S.DELETED), (1, S.DELETED)]
    assert [view.state for view in gone.jobs] == [JobState.DELETED]
    assert sum(gone.jobs[0].pod_stats.values()) == 0
    assert gone.jobs[0].revision > last.jobs[0].revision
    assert gone.pods[0].revision > last.pods[0].revision
    assert not bench.machine.state.jobs


def test_replay_tells_the_changes_that_were_told_live() -> None:
    bench = Bench()
    bench.running(a_job(3))
    live = changes_of(bench.machine)
    assert len(live.pods) == 3
    assert changes_of(bench.replayed()) == live
