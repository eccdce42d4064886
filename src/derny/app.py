"""The whole daemon: builds every room from the settings, and closes them in reverse order.

    journal → machine (replayed, audited) → agents (reconciled) → loop → gRPC server

One rule: the port opens last and closes first. What goes wrong in the loop ends the daemon; restarting it,
which replays the journal, is the recovery. Used by the command line and by tests that want the real thing
in their own process.
"""

import gc
import logging
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import NamedTuple

import anyio
import msgspec
from grpclib._typing import IServable

from derny.agents.operated import OperatedAgents
from derny.agents.task import Latencies
from derny.answers.queries import all_hosts, all_pools
from derny.api import admin, gates, hosts, insight, jobs, pods, pools, simulation, volumes, watch
from derny.api.codec import GrpcCodec
from derny.config import Settings
from derny.core import commands
from derny.core.audit import audit
from derny.core.machine import Machine
from derny.edge.server import Server
from derny.journal.store import Journal
from derny.model.errors import Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.model.resources import KINDS
from derny.model.specs import PoolResource, PoolSpec
from derny.model.states import Gate
from derny.runtime.clock import Clock, RealClock
from derny.runtime.loop import Loop

logger = logging.getLogger("derny")

DEFAULT_POOL = "DefaultResPool"
DEFAULT_POOL_ID = PoolId(str(uuid.uuid5(uuid.NAMESPACE_URL, f"derny:/{DEFAULT_POOL}")))
GRACE_S = 5.0
"""How long calls in flight may take to finish at shutdown."""
COLLECT_EVERY_S = 1.0
"""A round costs what has been made since the last: at ten seconds it was seen to hold the loop for 50 ms."""


class Daemon(NamedTuple):
    """A daemon that serves."""

    loop: Loop
    host: str
    port: int
    seed: int
    turns_replayed: int
    damage: str | None
    """What of the journal was lost, in a sentence; None when it was whole."""


@asynccontextmanager
async def serving(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Daemon]:
    """A daemon that serves for the length of the block.

    Raises JournalError or JournalLocked when its state can't be had, Invalid for another seed than the one
    that the state was begun with; OSError when its address can't be had, and JournalError when a turn can't
    be kept later on, both in an exception group.
    """
    clock = clock or RealClock()
    journal = await Journal.open(settings.data_dir)
    collecting = gc.isenabled()
    # Collections that start by themselves would double the time of a replay, and stop a full heap for
    # seconds.
    gc.disable()
    try:
        seed = await _seed(journal, settings.seed)
        machine = Machine(settings.periods, settings.limits, settings.rules, seed, settings.preempting)
        agents = OperatedAgents(settings.fleet.hosts(), seed, _latencies(settings), clock.now())
        loop = Loop(machine, journal, agents, clock, settings.limits)
        turns = await loop.recover()
        _check(machine, turns, journal.recovered.damage)
        _settle_heap()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.run, name="loop")
            tasks.start_soon(_collect_garbage, name="garbage collector")
            await _forget_missing_hosts(loop, agents)
            await _make_default_pool(loop, agents)
            server = Server(_services(loop, settings, agents), GrpcCodec(), settings.edge, _descriptors())
            host, port = await server.start(tasks, settings.host, settings.port)
            server.health.set_serving(True)
            try:
                yield Daemon(loop, host, port, seed, turns, journal.recovered.damage)
            finally:
                with anyio.CancelScope(shield=True):
                    await server.close(GRACE_S)
                    await loop.close()
                tasks.cancel_scope.cancel()
    finally:
        _unsettle_heap(collecting)
        with anyio.CancelScope(shield=True):
            await journal.close()


def _services(loop: Loop, settings: Settings, agents: OperatedAgents) -> Sequence[IServable]:
    kinds: Sequence[Callable[[Loop, Limits], IServable]] = (
        jobs.JobService,
        pods.PodService,
        pools.ResourcePoolService,
        hosts.HostService,
        volumes.VolumeService,
        watch.WatchService,
        admin.AdminService,
        insight.InsightService,
    )
    services = [kind(loop, settings.limits) for kind in kinds]
    services.append(simulation.SimulationService(loop, settings.limits, agents))
    return [gates.Guarded(service, loop) for service in services]


def _descriptors() -> bytes:
    return files("derny.proto").joinpath("descriptors.binpb").read_bytes()


async def _seed(journal: Journal, wanted: int | None) -> int:
    """The seed that the journal was begun with, or else the wanted one, or else a fresh one."""
    kept = await journal.meta("seed")
    if kept is None or not kept.isdecimal():
        seed = wanted if wanted is not None else secrets.randbelow(2**32)
        await journal.set_meta("seed", str(seed))
        return seed
    if wanted is not None and wanted != int(kept):
        raise Invalid(f"--seed is {wanted}, but this data directory was begun with {kept}; leave --seed out")
    return int(kept)


def _latencies(settings: Settings) -> Latencies:
    silence = Latencies(
        heartbeat_s=settings.periods.heartbeat_s, lost_after_s=settings.periods.lost_agent_timeout_s
    )
    return msgspec.structs.replace(silence, **settings.latencies)


def _check(machine: Machine, turns: int, damage: str | None) -> None:
    if damage is not None:
        logger.error("the journal was damaged: %s", damage)
    wrong = audit(machine.state)
    assert not wrong, f"the replayed state breaks its invariants: {wrong[:3]}"
    if turns:
        logger.info("replayed %d turns: %d jobs; the audit is clean", turns, len(machine.state.jobs))


def _settle_heap() -> None:
    """What was loaded is here to stay, and holds no cycles: let the collector never look at it again."""
    gc.collect()
    gc.freeze()


def _unsettle_heap(collecting: bool) -> None:
    """A program that has had a daemon for a while goes on with a collector as it was used to."""
    gc.unfreeze()
    if collecting:
        gc.enable()


async def _collect_garbage() -> None:
    """The few cycles that calls and connections leave behind."""
    while True:
        await anyio.sleep(COLLECT_EVERY_S)
        gc.collect(1)


async def _forget_missing_hosts(loop: Loop, agents: OperatedAgents) -> None:
    """Hosts of the journal that the fleet no longer has are as good as silent."""
    fleet = set(agents.names())
    known = await loop.read(all_hosts)
    missing = [host.name for host in known if host.name not in fleet]
    if missing:
        await loop.submit(commands.LoseHosts(missing))


async def _make_default_pool(loop: Loop, agents: OperatedAgents) -> None:
    """A pool that may have all there is, so that a job needs nothing but a spec; not where there are pools
    already, nor while an operator lets nothing be changed. It follows the fleet, and leaves to pools beside
    it what they reserve, until a client configures it."""
    if Gate.WRITE in loop.state.closed:
        return
    spec = PoolSpec(DEFAULT_POOL, ROOT_POOL, b"", tuple(map(PoolResource, KINDS)), residual=True)
    pools = await loop.read(all_pools)
    if len(pools) == 1:
        awaited = agents.heard()
        await loop.until(lambda state: all(name in state.hosts for name in awaited))
        await loop.submit(commands.CreatePool(DEFAULT_POOL_ID, spec))
    elif any(pool.id == DEFAULT_POOL_ID and pool.spec != spec and not pool.spec.wire for pool in pools):
        # It was made before there were residual pools.
        await loop.submit(commands.UpdatePool(DEFAULT_POOL_ID, spec, force=True))
