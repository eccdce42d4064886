"""The whole daemon in one's own process: it comes up whole, and leaves nothing behind."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from grpclib.client import Channel
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from builders import a_job, a_pool, amounts
from derny.answers.queries import all_hosts, all_pools, job_info
from derny.app import DEFAULT_POOL, DEFAULT_POOL_ID, serving
from derny.config import Settings
from derny.core.commands import CloseGates, CreateJob, CreatePool, DeletePool, StartMaintenance, UpdatePool
from derny.core.state import State
from derny.journal.errors import JournalError, JournalLocked
from derny.journal.store import DATABASE, Journal
from derny.model.errors import Invalid, Unavailable
from derny.model.ids import HostName, JobId, PoolId
from derny.model.states import Gate, HostState, JobState
from derny.proto.derny.simulation.v1 import (
    AddAgentsRequest,
    AgentState,
    CutLinkRequest,
    ListAgentsRequest,
    RemoveAgentRequest,
    SimulationServiceStub,
    StopAgentRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.runtime.clock import ManualClock
from derny.topology import DEFAULT_LATENCIES, fleet_of_shape

JOB = JobId("aaaaaaaa-0000-4000-8000-000000000001")


def settings(hosts: int = 2, data_dir: Path | None = None, seed: int | None = 1, port: int = 0) -> Settings:
    return Settings(
        fleet=fleet_of_shape(hosts), latencies=DEFAULT_LATENCIES, data_dir=data_dir, seed=seed, port=port
    )


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No thread of the journal's, and a garbage collector that works as before, whatever happened."""
    threads = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - threads:
        if "AnyIO" not in thread.name:  # those are anyio's own pool
            thread.join(60)  # SQLite's thread has been told, and may need a moment
            assert not thread.is_alive()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def tasks_of_others() -> set["asyncio.Task[object]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def health(host: str, port: int) -> int:
    async with Channel(host, port) as channel:
        answer = await HealthStub(channel).Check(HealthCheckRequest())
    return int(answer.status)


@pytest.mark.asyncio
async def test_it_serves_for_the_length_of_the_block_and_then_nothing_of_it_is_left(tmp_path: Path) -> None:
    before = tasks_of_others()
    async with serving(settings(data_dir=tmp_path)) as daemon:
        assert await health(daemon.host, daemon.port) == HealthCheckResponse.SERVING
        assert (daemon.host, daemon.seed, daemon.turns_replayed, daemon.damage) == ("127.0.0.1", 1, 0, None)
    assert tasks_of_others() == before
    with pytest.raises(OSError):
        await health(daemon.host, daemon.port)
    assert not (tmp_path / "derny.db-wal").exists()


@pytest.mark.asyncio
async def test_an_error_in_the_block_gets_out_and_everything_is_closed(tmp_path: Path) -> None:
    before = tasks_of_others()
    with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError)):
        async with serving(settings(data_dir=tmp_path)):
            raise ZeroDivisionError
    assert tasks_of_others() == before
    async with serving(settings(data_dir=tmp_path)) as daemon:
        assert daemon.turns_replayed > 0


@pytest.mark.asyncio
async def test_a_cancelled_block_is_closed_in_order(tmp_path: Path) -> None:
    before = tasks_of_others()
    up = asyncio.Event()

    async def serve() -> None:
        async with serving(settings(data_dir=tmp_path)):
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tasks_of_others() == before
    assert not (tmp_path / "derny.db-wal").exists()


@pytest.mark.asyncio
async def test_one_directory_has_one_daemon(tmp_path: Path) -> None:
    async with serving(settings(data_dir=tmp_path)) as daemon:
        with pytest.raises(JournalLocked, match="in use by another derny daemon"):
            async with serving(settings(data_dir=tmp_path)):
                pytest.fail("two daemons on one directory")
        assert await health(daemon.host, daemon.port) == HealthCheckResponse.SERVING


@pytest.mark.asyncio
async def test_an_address_that_is_taken_is_an_os_error_and_leaves_the_directory_free(tmp_path: Path) -> None:
    async with serving(settings()) as daemon:
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            async with serving(settings(data_dir=tmp_path, port=daemon.port)):
                pytest.fail("two daemons on one port")
    async with serving(settings(data_dir=tmp_path)) as daemon:
        assert daemon.turns_replayed > 0


@pytest.mark.asyncio
async def test_the_seed_stays_with_the_directory(tmp_path: Path) -> None:
    async with serving(settings(data_dir=tmp_path, seed=None)) as first:
        pass
    async with serving(settings(data_dir=tmp_path, seed=None)) as second:
        assert second.seed == first.seed
    async with serving(settings(data_dir=tmp_path, seed=first.seed)) as third:
        assert third.seed == first.seed
    with pytest.raises(Invalid, match=f"begun with {first.seed}"):
        async with serving(settings(data_dir=tmp_path, seed=first.seed + 1)):
            pytest.fail("another seed")


@pytest.mark.asyncio
async def test_a_seed_that_is_lost_with_its_page_is_taken_anew(tmp_path: Path) -> None:
    async with serving(settings(data_dir=tmp_path, seed=3)) as daemon:
        pools = await daemon.loop.read(all_pools)
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(2 * 4096)
        file.write(bytes(4096))
    async with serving(settings(data_dir=tmp_path, seed=4)) as daemon:
        assert daemon.seed == 4
        assert daemon.damage is not None
        assert "so the seed is the one given now or a new one" in daemon.damage
        assert await daemon.loop.read(all_pools) == pools
    async with serving(settings(data_dir=tmp_path, seed=None)) as daemon:
        assert (daemon.seed, daemon.damage) == (4, None)


@pytest.mark.asyncio
async def test_a_fresh_daemon_draws_its_seed_by_lot() -> None:
    seeds = set()
    for _ in range(2):
        async with serving(settings(seed=None)) as daemon:
            seeds.add(daemon.seed)
    assert len(seeds) == 2


@pytest.mark.asyncio
async def test_the_default_pool_is_made_once_and_has_the_capacity_of_all_hosts(tmp_path: Path) -> None:
    for hosts in (3, 5, 2):
        async with serving(settings(hosts=hosts, data_dir=tmp_path)) as daemon:
            root, pool = await daemon.loop.read(all_pools)
            assert (pool.id, pool.path) == (DEFAULT_POOL_ID, f"/{DEFAULT_POOL}")
            amounts = {resource.kind: resource.limit for resource in pool.resources}
            assert amounts == {resource.kind: resource.limit for resource in root.resources}
            assert amounts["cpu"] == hosts * 8_000


@pytest.mark.asyncio
async def test_pools_beside_the_default_pool_can_reserve(tmp_path: Path) -> None:
    async with serving(settings(hosts=3, data_dir=tmp_path)) as daemon:
        await daemon.loop.submit(CreatePool(PoolId("beside"), a_pool(amounts(10), name="beside")))
        _root, default, beside = await daemon.loop.read(all_pools)
        assert beside.resources[0].reservation == 10_000
        assert (default.resources[0].reservation, default.resources[0].limit) == (14_000, 24_000)


@pytest.mark.asyncio
async def test_a_default_pool_that_a_client_has_configured_stays_so(tmp_path: Path) -> None:
    mine = a_pool(amounts(1, 2, 3), name=DEFAULT_POOL)
    mine = msgspec.structs.replace(mine, wire=b"as sent")
    async with serving(settings(hosts=3, data_dir=tmp_path)) as daemon:
        await daemon.loop.submit(UpdatePool(DEFAULT_POOL_ID, mine))
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        _root, pool = await daemon.loop.read(all_pools)
        assert (pool.spec, pool.version) == (mine, 2)


@pytest.mark.asyncio
async def test_a_default_pool_is_made_of_a_fleet_that_is_not_there(tmp_path: Path) -> None:
    """Its pool was deleted, one host is in maintenance, and the link is down: the daemon starts all the
    same."""
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        await daemon.loop.submit(DeletePool(DEFAULT_POOL_ID))
        await daemon.loop.submit(StartMaintenance([HostName("host-0")]))
        async with Channel(daemon.host, daemon.port) as channel:
            simulation = SimulationServiceStub(channel)
            await simulation.cut_link(CutLinkRequest())
            await simulation.add_agents(AddAgentsRequest("late"))
        assert len(await daemon.loop.read(all_pools)) == 1, "growing makes no pool"
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        _root, pool = await daemon.loop.read(all_pools)
        assert (pool.id, pool.resources[0].limit) == (DEFAULT_POOL_ID, 8_000)


@pytest.mark.asyncio
async def test_a_daemon_whose_gates_are_closed_starts_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(settings(hosts=3, data_dir=tmp_path)) as daemon:
        await daemon.loop.submit(CloseGates(list(Gate)))
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        _root, pool = await daemon.loop.read(all_pools)
        assert pool.version == 1
        assert daemon.loop.state.closed == set(Gate)


@pytest.mark.asyncio
async def test_hosts_that_the_fleet_no_longer_has_are_lost(tmp_path: Path) -> None:
    async with serving(settings(hosts=3, data_dir=tmp_path)):
        pass
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        hosts = {host.name: host.state for host in await daemon.loop.read(all_hosts)}
    assert hosts == {"host-0": HostState.UP, "host-1": HostState.UP, "host-2": HostState.UNKNOWN}


@pytest.mark.asyncio
async def test_what_was_done_to_the_fleet_survives_a_restart(tmp_path: Path) -> None:
    """The default pool follows it at once."""

    def default_cpus(state: State) -> float:
        return next(p.resources[0].limit for p in all_pools(state) if p.id == DEFAULT_POOL_ID) / 8000

    async with (
        serving(settings(hosts=2, data_dir=tmp_path)) as daemon,
        Channel(daemon.host, daemon.port) as channel,
    ):
        simulation = SimulationServiceStub(channel)
        await simulation.add_agents(AddAgentsRequest("added", attributes=[Label("rack", "r1")]))
        await simulation.add_agents(AddAgentsRequest())
        await simulation.remove_agent(RemoveAgentRequest("host-0"))
        await simulation.stop_agent(StopAgentRequest("host-1"))
        await simulation.cut_link(CutLinkRequest())
        assert await daemon.loop.read(default_cpus) == 3
    async with serving(settings(hosts=2, data_dir=tmp_path)) as daemon:
        assert await daemon.loop.read(default_cpus) == 3
        async with Channel(daemon.host, daemon.port) as channel:
            simulation = SimulationServiceStub(channel)
            (listed,) = [part async for part in simulation.list_agents(ListAgentsRequest())]
            assert not listed.link_up
            assert {agent.hostname: AgentState(agent.state) for agent in listed.agents} == {
                "host-1": AgentState.SILENT,
                "added": AgentState.REGISTERED,
                "host-2": AgentState.REGISTERED,
            }
            assert listed.agents[1].attributes == [Label("rack", "r1")]
        hosts = {host.name: host.state for host in await daemon.loop.read(all_hosts)}
    assert hosts == {
        "host-0": HostState.UNKNOWN,
        "host-1": HostState.UP,
        "added": HostState.UP,
        "host-2": HostState.UP,
    }


@pytest.mark.asyncio
async def test_on_a_manual_clock_nothing_moves_until_time_does() -> None:
    clock = ManualClock(1000.0)
    async with serving(settings(), clock) as daemon:
        await daemon.loop.submit(CreateJob(JOB, a_job(pool=DEFAULT_POOL_ID)))

        def is_running(state: State) -> bool:
            return job_info(state, JOB).state is JobState.RUNNING

        for _ in range(100):
            await asyncio.sleep(0)
        assert not await daemon.loop.read(is_running)
        clock.advance(1002.0)
        async with asyncio.timeout(60):
            await daemon.loop.until(is_running)


@pytest.mark.asyncio
async def test_a_turn_that_cannot_be_kept_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tasks_of_others()

    async def full(journal: Journal, at: float, events: bytes) -> int:
        raise JournalError("The disk is full.")

    with pytest.RaisesGroup(pytest.RaisesExc(JournalError, match="disk is full"), flatten_subgroups=True):
        async with serving(settings()) as daemon:
            monkeypatch.setattr(Journal, "append", full)
            with pytest.raises(Unavailable, match="whether this was kept is not known"):
                await daemon.loop.submit(CreateJob(JOB, a_job(pool=DEFAULT_POOL_ID)))
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
    assert tasks_of_others() == before
