"""Hosts drained through the whole daemon, with agents that take their time (behaviour, jobs §10)."""

from pathlib import Path

import pytest

from builders import job_id
from cluster import JOB, a_cluster, a_service, name_of, the_same_again
from derny.core import commands
from derny.model.ids import DEFAULT_HOST_POOL, HostPoolName
from derny.model.specs import Condition, LabelConstraint, LabelKind, WorkflowSpec
from derny.model.states import HostState, PodState, WorkflowState

pytestmark = pytest.mark.asyncio

H, S = HostState, PodState
BLUE = HostPoolName("blue")


async def test_a_host_is_drained_goes_down_and_comes_back() -> None:
    """All four pods have room on one host alone; while it is down they wait."""
    async with a_cluster(hosts=1) as cluster:
        await cluster.run(a_service(4, cpu=2))
        await cluster.drain(0)
        await cluster.comes(lambda: cluster.host(0) is H.DOWN)
        assert cluster.daemon.state.jobs[JOB].counts[S.PENDING] == 4
        await cluster.passes(60)
        assert cluster.host(0) is H.DOWN
        await cluster.bring_back(0)
        await cluster.comes(lambda: cluster.host(0) is H.UP)
        await cluster.comes(lambda: cluster.running() == 4)
        assert [pod.run for pod in cluster.daemon.state.jobs[JOB].pods] == [2] * 4
        assert [pod.failures for pod in cluster.daemon.state.jobs[JOB].pods] == [0] * 4


def on_hosts_with(key: str, value: str) -> LabelConstraint:
    return LabelConstraint(LabelKind.HOST, Condition.EQUAL, key, value, 1)


async def test_pods_that_are_pinned_to_a_host_wait_for_it_and_come_back_with_it() -> None:
    async with a_cluster() as cluster:
        await cluster.run(a_service(4, constraint=on_hosts_with("hostname", name_of(1))))
        assert cluster.pods_on(1) == 4
        await cluster.drain(1)
        await cluster.comes(lambda: cluster.host(1) is H.DOWN)
        await cluster.passes(100)
        waiting = {pod.state for pod in cluster.daemon.state.jobs[JOB].pods}
        assert waiting <= {S.PENDING, S.READY, S.PLACING}
        await cluster.bring_back(1)
        await cluster.comes(lambda: cluster.running() == 4)
        assert cluster.pods_on(1) == 4


async def test_a_pod_that_finds_no_host_uses_up_the_limit(tmp_path: Path) -> None:
    """One pod a host, four pods, three hosts: none can be spared, so no host can be drained; also after a
    restart."""
    alone = LabelConstraint(LabelKind.POD, Condition.LESS_THAN, "app", "web", 1)
    async with a_cluster(tmp_path) as cluster:
        spec = a_service(4, limit=1, constraint=alone, labels=(("app", "web"),))
        await cluster.daemon.loop.submit(commands.CreateJob(JOB, spec))
        await cluster.comes(lambda: cluster.running() == 3)
        await cluster.drain(0)
        await cluster.passes(100)
        assert (cluster.host(0), cluster.running()) == (H.DRAINING, 3)
        clock = cluster.daemon.clock
    async with the_same_again(tmp_path, clock) as cluster:
        await cluster.passes(100)
        assert (cluster.host(0), cluster.running()) == (H.DRAINING, 3)


async def test_pods_follow_the_labels_that_a_host_is_given() -> None:
    """Its pool by HostService, its attributes by its agent."""
    async with a_cluster() as cluster:
        loop = cluster.daemon.loop
        await loop.submit(commands.CreateHostPool(BLUE))
        await loop.submit(commands.CreateJob(JOB, a_service(2, constraint=on_hosts_with("host_pool", BLUE))))
        other = a_service(2, constraint=on_hosts_with("rack", "r1"))
        await loop.submit(commands.CreateJob(job_id(2), other))
        await cluster.passes(30)
        assert cluster.running() == cluster.running(job_id(2)) == 0
        await loop.submit(commands.ChangeHostPool(name_of(1), DEFAULT_HOST_POOL, BLUE))
        labels = (("hostname", name_of(2)), ("rack", "r1"))
        await cluster.disturb(cluster.agents.set_labels(name_of(2), labels, cluster.now))
        await cluster.comes(lambda: cluster.running() == cluster.running(job_id(2)) == 2)
        assert (cluster.pods_on(1), cluster.pods_on(2)) == (2, 2)
        await loop.submit(commands.DeleteHostPool(BLUE))
        await cluster.passes(30)
        assert cluster.running() == 2, "what runs is left alone"


async def test_a_job_that_can_spare_one_pod_never_has_fewer_than_it_must() -> None:
    async with a_cluster() as cluster:
        await cluster.run(a_service(4, limit=1))
        drained = cluster.busiest()
        await cluster.drain(drained)
        await cluster.comes(lambda: cluster.host(drained) is H.DOWN)
        await cluster.comes(lambda: cluster.running() == 4)
        assert cluster.fewest[JOB] == 3


async def test_a_drain_waits_where_evicted_pods_find_no_room() -> None:
    """Three hosts for three large pods: the first that is evicted has nowhere to go, so the others stay."""
    async with a_cluster() as cluster:
        await cluster.run(a_service(4, limit=1, cpu=3))
        await cluster.run(a_service(3, cpu=2), job_id(2))
        full = [number for number in range(3) if cluster.pods_on(number)]
        await cluster.drain(*full)
        await cluster.passes(300)
        assert cluster.running() == 3
        assert cluster.fewest[JOB] == 3
        assert H.DRAINING in {cluster.host(number) for number in full}


async def test_a_dead_agent_uses_up_the_limit(tmp_path: Path) -> None:
    """Three hosts are full; one dies, and its pod finds no room: the others can't be drained."""
    async with a_cluster(tmp_path) as cluster:
        await cluster.run(a_service(3, limit=1, cpu=8))
        clock = cluster.daemon.clock
        await cluster.disturb(cluster.agents.stop(name_of(0), cluster.now))
        await cluster.comes(lambda: cluster.running() == 2)
        await cluster.drain(1)
        await cluster.passes(300)
        assert (cluster.host(1), cluster.running()) == (H.DRAINING, 2)
    async with the_same_again(tmp_path, clock) as cluster:
        await cluster.passes(300)
        assert (cluster.host(1), cluster.running()) == (H.DRAINING, 2)
        await cluster.bring_back(1)
        await cluster.disturb(cluster.agents.start(name_of(0), cluster.now))
        await cluster.comes(lambda: cluster.running() == 3)


async def test_a_failed_update_uses_up_the_limit() -> None:
    """It left two pods that fail again and again, where the job can spare one."""
    async with a_cluster() as cluster:
        await cluster.run(a_service(4, limit=1))
        job = cluster.daemon.state.jobs[JOB]
        update = WorkflowSpec(batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=2)
        spec = a_service(4, limit=1, run="exit 1")
        await cluster.daemon.loop.submit(commands.ReplaceJob(JOB, cluster.version(), spec, update))
        await cluster.comes(lambda: job.workflows[-1].state is WorkflowState.FAILED)
        well = [pod for pod in job.pods if pod.desired_config == 1]
        assert len(well) == 2
        drained = int(str(well[0].host).removeprefix("host-"))
        await cluster.drain(drained)
        await cluster.passes(300)
        assert cluster.host(drained) is H.DRAINING
        assert all(pod.state is S.RUNNING and pod.run == 1 for pod in well)
        assert job.unavailable == 2


async def test_without_a_limit_all_hosts_go_down_at_once() -> None:
    async with a_cluster() as cluster:
        await cluster.run(a_service(4))
        await cluster.drain(0, 1, 2)
        await cluster.comes(lambda: all(cluster.host(number) is H.DOWN for number in range(3)))
        assert cluster.running() == 0
        await cluster.bring_back(0, 1, 2)
        await cluster.comes(lambda: cluster.running() == 4)


async def test_a_blocked_drain_does_not_hold_up_a_stop_or_a_delete() -> None:
    async with a_cluster(hosts=1) as cluster:
        await cluster.run(a_service(2, limit=1))
        await cluster.run(a_service(2, limit=1), job_id(2))
        await cluster.drain(0)
        await cluster.passes(60)
        assert cluster.host(0) is H.DRAINING
        await cluster.daemon.loop.submit(commands.StopJob(JOB, cluster.version()))
        await cluster.daemon.loop.submit(commands.DeleteJob(job_id(2), cluster.version(job_id(2)), True))
        await cluster.comes(lambda: cluster.host(0) is H.DOWN)


async def test_maintenance_survives_restarts_of_the_daemon(tmp_path: Path) -> None:
    """Two of five hosts, each with pods of a job that can spare one."""
    async with a_cluster(tmp_path, hosts=5) as cluster:
        await cluster.run(a_service(6, limit=1, cpu=2))
        drained = [number for number in range(5) if cluster.pods_on(number)][:2]
        await cluster.drain(*drained)
        await cluster.passes(0.05)
        assert [cluster.host(number) for number in drained] == [H.DRAINING] * 2
        clock = cluster.daemon.clock
    async with the_same_again(tmp_path, clock, hosts=5) as cluster:
        assert [cluster.host(number) for number in drained] == [H.DRAINING] * 2
        cluster.fewest[JOB] = 6
        await cluster.comes(lambda: all(cluster.host(number) is H.DOWN for number in drained))
        await cluster.comes(lambda: cluster.running() == 6)
        assert cluster.fewest[JOB] == 5
    async with the_same_again(tmp_path, clock, hosts=5) as cluster:
        await cluster.passes(60)
        assert [cluster.host(number) for number in drained] == [H.DOWN] * 2
        assert [cluster.pods_on(number) for number in drained] == [0, 0]
        await cluster.bring_back(drained[0])
        await cluster.comes(lambda: cluster.host(drained[0]) is H.UP)


async def test_a_host_that_is_wanted_back_in_the_middle_of_a_drain_is_up_at_once() -> None:
    async with a_cluster() as cluster:
        await cluster.run(a_service(6, limit=1))
        drained = cluster.busiest()
        await cluster.drain(drained)
        await cluster.passes(1)
        assert cluster.host(drained) is H.DRAINING
        await cluster.bring_back(drained)
        assert cluster.host(drained) is H.UP
        await cluster.comes(lambda: cluster.running() == 6)
        await cluster.passes(60)
        assert cluster.running() == 6
