"""HostService as clients see it."""

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.core.commands import HostSeen, LoseHosts, SeeHosts
from derny.model.ids import HostName
from derny.model.resources import Resources
from derny.proto.peloton.api.v1alpha.host import HostState
from derny.proto.peloton.api.v1alpha.host.svc import (
    ChangeHostPoolRequest,
    CompleteMaintenanceRequest,
    CreateHostPoolRequest,
    DeleteHostPoolRequest,
    ListHostPoolsRequest,
    QueryHostsRequest,
    StartMaintenanceRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import Label, PodName
from derny.proto.peloton.api.v1alpha.pod import PodState
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"


async def query(counter, *states):
    answer = await counter.hosts.query_hosts(QueryHostsRequest(list(states)))
    return answer.host_infos


async def test_all_hosts_are_told_in_order_of_registration(counter):
    hosts = await query(counter)
    assert [host.hostname for host in hosts] == [f"host-{n}" for n in range(4)]
    assert [host.ip for host in hosts] == [f"10.0.0.{n}" for n in range(4)]
    assert {(host.state, host.goal_state) for host in hosts} == {(HostState.UP, HostState.UP)}


async def test_attributes_are_labels_and_the_name_is_one(counter):
    seen = HostSeen(HostName("h"), "a", "10.1.1.1", Resources(1000), labels=(("rack", "r1"), ("rack", "r2")))
    await counter.loop.submit(SeeHosts([seen]))
    host = (await query(counter))[-1]
    assert host.labels == [
        Label("hostname", "h"),
        Label("host_pool", "default"),
        Label("rack", "r1"),
        Label("rack", "r2"),
    ]


async def test_a_lost_host_is_unknown_to_those_who_ask_for_all(counter):
    await counter.loop.submit(LoseHosts([HostName("host-1")]))
    assert [host.state for host in await query(counter)] == [
        HostState.UP,
        HostState.UNKNOWN,
        HostState.UP,
        HostState.UP,
    ]
    assert [host.hostname for host in await query(counter, HostState.UP)] == ["host-0", "host-2", "host-3"]


@pytest.mark.parametrize(
    ("states", "count"),
    [
        ([HostState.UP], 3),
        ([HostState.UP, HostState.UP, HostState.DOWN], 3),
        ([HostState.DOWN], 0),
        ([HostState.DRAINING, HostState.DRAINED], 0),
        ([HostState.UNKNOWN], 0),
        ([HostState.INVALID], 0),
        ([HostState(77)], 0),
    ],
)
async def test_only_hosts_in_the_states_asked_for_are_told(counter, states, count):
    await counter.loop.submit(LoseHosts([HostName("host-1")]))
    assert len(await query(counter, *states)) == count


async def states(counter):
    return [(HostState(host.state).name, HostState(host.goal_state).name) for host in await query(counter)]


async def drain(counter, *names, released=""):
    answer = await counter.hosts.start_maintenance(StartMaintenanceRequest(list(names), released))
    await counter.rest()
    return answer.hostname


async def bring_back(counter, *names, released=""):
    answer = await counter.hosts.complete_maintenance(CompleteMaintenanceRequest(list(names), released))
    await counter.rest()
    return answer.hostname


@pytest.mark.parametrize("released", [False, True])
async def test_a_host_goes_into_maintenance_and_comes_back(counter, released):
    named = {"released": "host-1"} if released else {}
    names = [] if released else ["host-1"]
    assert await drain(counter, *names, **named) == ("host-1" if released else "")
    assert (await states(counter))[1] == ("DOWN", "DOWN")
    assert [host.hostname for host in await query(counter, HostState.DOWN)] == ["host-1"]
    assert await bring_back(counter, *names, **named) == ("host-1" if released else "")
    assert (await states(counter))[1] == ("DOWN", "UP")
    shape = counter.machine.state.hosts[HostName("host-1")].capacity
    await counter.loop.submit(SeeHosts([HostSeen(HostName("host-1"), "agent-1", "10.0.0.1", shape)]))
    await counter.rest()
    assert await states(counter) == [("UP", "UP")] * 4


async def test_pods_tell_that_their_host_went_into_maintenance(counter, job_message):
    await counter.create(job_message(4))
    counter.agents.silent = True
    pod = (await counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-0")))).current.status
    await drain(counter, pod.host)
    assert ("DRAINING", "DOWN") in await states(counter)
    pod = (await counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-0")))).current.status
    assert pod.state is PodState.KILLING
    assert pod.message == "Pod evicted: its host goes into maintenance"
    assert pod.reason == "REASON_HOST_MAINTENANCE"
    await bring_back(counter, pod.host)
    assert await states(counter) == [("UP", "UP")] * 4


async def test_a_lost_host_in_maintenance_is_told_as_what_it_is(counter):
    await drain(counter, "host-1")
    await counter.loop.submit(LoseHosts([HostName("host-1"), HostName("host-2")]))
    assert await states(counter) == [("UP", "UP"), ("DOWN", "DOWN"), ("UNKNOWN", "UP"), ("UP", "UP")]


async def test_unknown_hosts_are_named_and_nothing_changes(counter):
    for call in (drain, bring_back):
        with pytest.raises(GRPCError) as refused:
            await call(counter, "host-1", "ghost")
        assert refused.value.status is Status.NOT_FOUND
        assert "'ghost'" in refused.value.message
        with pytest.raises(GRPCError) as refused:
            await call(counter)
        assert refused.value.status is Status.INVALID_ARGUMENT
    assert await states(counter) == [("UP", "UP")] * 4


async def test_no_more_hosts_are_named_in_one_call_than_the_limit(counter):
    for call in (drain, bring_back):
        with pytest.raises(GRPCError) as refused:
            await call(counter, *["host-1"] * 10_001)
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        assert "hosts_per_call_max" in refused.value.message


async def test_host_pools_are_made_changed_listed_and_deleted(counter):
    async def pools():
        answer = await counter.hosts.list_host_pools(ListHostPoolsRequest())
        return {pool.name: pool.hosts for pool in answer.pools}

    all_hosts = [f"host-{n}" for n in range(4)]
    assert await pools() == {"default": all_hosts}
    await counter.hosts.create_host_pool(CreateHostPoolRequest("stateless"))
    await counter.hosts.change_host_pool(ChangeHostPoolRequest("host-2", "default", "stateless"))
    assert await pools() == {"default": ["host-0", "host-1", "host-3"], "stateless": ["host-2"]}
    assert (await query(counter))[2].labels == [Label("hostname", "host-2"), Label("host_pool", "stateless")]
    await counter.hosts.delete_host_pool(DeleteHostPoolRequest("stateless"))
    assert await pools() == {"default": ["host-0", "host-1", "host-3", "host-2"]}


@pytest.mark.parametrize(
    ("method", "request_", "status"),
    [
        ("create_host_pool", CreateHostPoolRequest(""), Status.INVALID_ARGUMENT),
        ("create_host_pool", CreateHostPoolRequest("default"), Status.ALREADY_EXISTS),
        ("delete_host_pool", DeleteHostPoolRequest("default"), Status.INVALID_ARGUMENT),
        ("delete_host_pool", DeleteHostPoolRequest("ghost"), Status.NOT_FOUND),
        ("change_host_pool", ChangeHostPoolRequest("ghost", "default", "default"), Status.NOT_FOUND),
        ("change_host_pool", ChangeHostPoolRequest("host-0", "ghost", "default"), Status.INVALID_ARGUMENT),
        ("change_host_pool", ChangeHostPoolRequest("host-0", "default", "ghost"), Status.INVALID_ARGUMENT),
    ],
)
async def test_host_pools_are_refused_with_the_statuses_of_the_spec(counter, method, request_, status):
    with pytest.raises(GRPCError) as refused:
        await getattr(counter.hosts, method)(request_)
    assert refused.value.status is status
