"""HostService as clients see it."""

import pytest

from derny.core.commands import HostSeen, LoseHosts, SeeHosts
from derny.model.ids import HostName
from derny.model.resources import Resources
from derny.proto.peloton.api.v1alpha.host import HostState
from derny.proto.peloton.api.v1alpha.host.svc import QueryHostsRequest
from derny.proto.peloton.api.v1alpha.peloton import Label

pytestmark = pytest.mark.asyncio


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
    assert host.labels == [Label("hostname", "h"), Label("rack", "r1"), Label("rack", "r2")]


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
