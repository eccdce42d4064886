"""SimulationService as clients see it, over real agents on time that stands still."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import pytest_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from builders import drive
from derny.agents.operated import OperatedAgents
from derny.agents.task import Latencies
from derny.api.codec import GrpcCodec
from derny.api.hosts import HostService
from derny.api.simulation import AGENTS_PER_CALL, ATTRIBUTES_MAX, SimulationService
from derny.core.commands import HostSeen
from derny.core.machine import Machine
from derny.journal.store import Journal
from derny.model.ids import HostName
from derny.model.periods import Limits, Periods
from derny.model.resources import Resources
from derny.proto.derny.simulation import v1
from derny.proto.peloton.api.v1alpha.host import HostState
from derny.proto.peloton.api.v1alpha.host.svc import HostServiceStub, QueryHostsRequest
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Loop

pytestmark = pytest.mark.asyncio

LIMITS = Limits(hosts_max=1010)
CAPACITY = Resources(4_000, 1_000_000, 2_000_000)
S = v1.AgentState


@asynccontextmanager
async def serving(with_statuses):
    clock = ManualClock()
    machine, journal = Machine(Periods(), LIMITS), await Journal.open(None)
    seen = [HostSeen(HostName(f"host-{n}"), f"agent-{n}", f"10.0.0.{n}", CAPACITY) for n in range(3)]
    agents = OperatedAgents(seen, 7, Latencies(), clock.now())
    loop = Loop(machine, journal, agents, clock, LIMITS)
    running = asyncio.create_task(loop.run())
    services = [SimulationService(loop, LIMITS, agents), HostService(loop, LIMITS)]
    async with ChannelFor([with_statuses(service) for service in services], codec=GrpcCodec()) as channel:

        async def after(seconds):
            end = clock.now() + seconds
            await drive(clock, lambda: clock.next is None or clock.next > end)
            clock.advance(end)
            await clock.idle.wait()

        await after(0)
        yield SimpleNamespace(
            simulation=v1.SimulationServiceStub(channel),
            hosts=HostServiceStub(channel),
            state=machine.state,
            after=after,
        )
    await loop.close()
    await running
    await journal.close()


@pytest_asyncio.fixture
async def served(with_statuses):
    async with serving(with_statuses) as bench:
        yield bench


async def agents(served, *names):
    slices = [slice_ async for slice_ in served.simulation.list_agents(v1.ListAgentsRequest(list(names)))]
    return {agent.hostname: agent for slice_ in slices for agent in slice_.agents}


async def states(served):
    return [S(agent.state) for agent in (await agents(served)).values()]


async def host_states(served):
    answer = await served.hosts.query_hosts(QueryHostsRequest())
    return [HostState(host.state) for host in answer.host_infos]


async def refused(call):
    with pytest.raises(GRPCError) as error:
        await call
    return error.value.status, error.value.message


async def test_agents_are_listed_with_what_they_offer(served):
    listed = await agents(served)
    assert list(listed) == ["host-0", "host-1", "host-2"]
    assert listed["host-1"] == v1.Agent(
        "host-1", S.REGISTERED, v1.Shape(4, 1000, 2000, first_port=31000, last_port=32000)
    )
    assert list(await agents(served, "host-2", "ghost")) == ["host-2"]
    slices = [one async for one in served.simulation.list_agents(v1.ListAgentsRequest(["ghost"]))]
    assert slices == [v1.ListAgentsResponse([], link_up=True)]


async def test_one_agent_is_added_by_name_with_a_shape_and_attributes(served):
    request = v1.AddAgentsRequest(
        "gpu-1",
        0,
        v1.Shape(2.5, gpu=4, first_port=40000, last_port=40010),
        [Label("rack", "r"), Label("rack", "s")],
    )
    answer = await served.simulation.add_agents(request)
    assert answer.hostnames == ["gpu-1"]
    await served.after(1)
    added = (await agents(served))["gpu-1"]
    assert added.shape == v1.Shape(2.5, 32768, 102400, 4, 0, 40000, 40010)
    assert added.attributes == [Label("rack", "r"), Label("rack", "s")]
    host = (await served.hosts.query_hosts(QueryHostsRequest())).host_infos[-1]
    assert (host.hostname, host.ip, host.state) == ("gpu-1", "10.0.0.3", HostState.UP)
    assert host.labels[2:] == [Label("rack", "r"), Label("rack", "s")]


@pytest.mark.parametrize(
    ("name", "count", "names"),
    [
        ("", 0, ["host-3"]),
        ("", 2, ["host-3", "host-4"]),
        ("new", 2, ["new-0", "new-1"]),
        ("new", 1, ["new-0"]),
    ],
)
async def test_names_are_given_by_number(served, name, count, names):
    answer = await served.simulation.add_agents(v1.AddAgentsRequest(name, count))
    assert answer.hostnames == names


async def test_who_adds_agents_side_by_side_is_given_different_names(served):
    """While one of them is noted in the journal, others wait to read."""
    names = []

    async def add(pause):
        for _ in range(10):
            for _ in range(pause):
                await asyncio.sleep(0)
            names.extend((await served.simulation.add_agents(v1.AddAgentsRequest())).hostnames)

    await asyncio.gather(*map(add, range(20)))
    assert sorted(names) == sorted(f"host-{number}" for number in range(3, 203))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (v1.AddAgentsRequest("a b"), "name is 'a b'"),
        (v1.AddAgentsRequest("x" * 300), "name is "),
        (v1.AddAgentsRequest(count=AGENTS_PER_CALL + 1), "count is 1001"),
        (v1.AddAgentsRequest(shape=v1.Shape(cpu=-1)), "shape.cpu is -1"),
        (v1.AddAgentsRequest(shape=v1.Shape(memory_mb=float("nan"))), "shape.memory_mb is nan"),
        (v1.AddAgentsRequest(shape=v1.Shape(disk_mb=1e12)), "shape.disk_mb is 1e+12"),
        (v1.AddAgentsRequest(shape=v1.Shape(first_port=5, last_port=4)), "shape.first_port is 5"),
        (v1.AddAgentsRequest(shape=v1.Shape(last_port=70000)), "last_port 70000"),
        (v1.AddAgentsRequest(attributes=[Label("host_pool", "x")]), "attributes[0].key 'host_pool'"),
        (v1.AddAgentsRequest(attributes=[Label("k", "v"), Label("", "x")]), "attributes[1].key ''"),
        (v1.AddAgentsRequest(attributes=[Label("k", "v" * 256)]), "attributes[0] is too long"),
        (v1.AddAgentsRequest(attributes=[Label("k", "v")] * (ATTRIBUTES_MAX + 1)), "65 entries"),
    ],
)
async def test_agents_that_can_not_be_are_refused(served, request_, words):
    status, message = await refused(served.simulation.add_agents(request_))
    assert status is Status.INVALID_ARGUMENT
    assert words in message
    assert len(await agents(served)) == 3


async def test_no_more_hosts_are_added_than_there_may_be(served):
    await served.simulation.add_agents(v1.AddAgentsRequest(count=1000))
    await served.after(1)
    status, message = await refused(served.simulation.add_agents(v1.AddAgentsRequest(count=8)))
    assert status is Status.RESOURCE_EXHAUSTED
    assert "hosts_max is 1010" in message
    status, _ = await refused(served.simulation.add_agents(v1.AddAgentsRequest("host-5")))
    assert status is Status.ALREADY_EXISTS
    assert len(await agents(served)) == 1003


async def test_an_agent_is_stopped_lost_and_started(served):
    await served.simulation.stop_agent(v1.StopAgentRequest("host-1"))
    assert (await states(served))[1] is S.SILENT
    assert (await host_states(served))[1] is HostState.UP
    await served.after(80)
    assert (await states(served))[1] is S.LOST
    assert (await host_states(served))[1] is HostState.UNKNOWN
    await served.simulation.start_agent(v1.StartAgentRequest("host-1"))
    await served.after(0)
    assert await states(served) == [S.REGISTERED] * 3
    assert await host_states(served) == [HostState.UP] * 3


async def test_a_removed_agent_is_gone_and_its_host_unknown(served):
    await served.simulation.remove_agent(v1.RemoveAgentRequest("host-1"))
    await served.after(0)
    assert list(await agents(served)) == ["host-0", "host-2"]
    assert await host_states(served) == [HostState.UP, HostState.UNKNOWN, HostState.UP]
    await served.simulation.add_agents(v1.AddAgentsRequest("host-1"))
    await served.after(0)
    assert await host_states(served) == [HostState.UP] * 3


async def test_attributes_become_labels_of_the_host(served):
    request = v1.SetAgentAttributesRequest("host-1", [Label("rack", "r1")])
    await served.simulation.set_agent_attributes(request)
    await served.after(0)
    host = (await served.hosts.query_hosts(QueryHostsRequest())).host_infos[1]
    assert host.labels == [Label("hostname", "host-1"), Label("host_pool", "default"), Label("rack", "r1")]
    bad = v1.SetAgentAttributesRequest("host-1", [Label("hostname", "r1")])
    assert (await refused(served.simulation.set_agent_attributes(bad)))[0] is Status.INVALID_ARGUMENT


async def test_calls_are_served_while_the_link_is_down(served):
    await served.simulation.cut_link(v1.CutLinkRequest())
    await served.simulation.cut_link(v1.CutLinkRequest())
    await served.simulation.add_agents(v1.AddAgentsRequest("late"))
    await served.after(100)
    assert len(await host_states(served)) == 3
    slices = [one async for one in served.simulation.list_agents(v1.ListAgentsRequest())]
    assert not slices[0].link_up
    await served.simulation.restore_link(v1.RestoreLinkRequest())
    await served.after(0)
    assert len(await host_states(served)) == 4


async def test_unknown_agents_are_not_found(served):
    calls = (
        served.simulation.remove_agent(v1.RemoveAgentRequest("ghost")),
        served.simulation.stop_agent(v1.StopAgentRequest("ghost")),
        served.simulation.start_agent(v1.StartAgentRequest("")),
        served.simulation.restart_agent(v1.RestartAgentRequest("ghost")),
        served.simulation.set_agent_attributes(v1.SetAgentAttributesRequest("ghost")),
    )
    for call in calls:
        assert (await refused(call))[0] is Status.NOT_FOUND
    assert served.state.notes == {}


async def test_what_was_done_is_noted(served):
    await served.simulation.restart_agent(v1.RestartAgentRequest("host-1"))
    await served.simulation.stop_agent(v1.StopAgentRequest("host-2"))
    await served.simulation.cut_link(v1.CutLinkRequest())
    assert set(served.state.notes) == {"agent/host-1", "agent/host-2", "link"}
