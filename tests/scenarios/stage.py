"""The daemon of a transcript: all of its rooms but the port, on virtual time, with a seed and a journal that
can be read again after a restart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from grpclib.client import ServiceMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Handler
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from builders import Daemon, a_daemon, drive
from derny.api.admin import AdminService
from derny.api.codec import GrpcCodec
from derny.api.gates import Guarded
from derny.api.hosts import HostService
from derny.api.insight import InsightService
from derny.api.jobs import JobService
from derny.api.pods import PodService
from derny.api.pools import ResourcePoolService
from derny.api.simulation import SimulationService
from derny.api.volumes import VolumeService
from derny.api.watch import WatchService
from derny.edge.call import status_of
from derny.journal.store import Journal
from derny.model.errors import Refusal
from derny.model.periods import Limits, Periods
from derny.runtime.clock import ManualClock

SERVICES = (
    JobService,
    PodService,
    ResourcePoolService,
    HostService,
    VolumeService,
    WatchService,
    AdminService,
    InsightService,
)
LIMITS = Limits()


class Answering:
    """A service whose refusals become statuses, as the server's one table says."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __mapping__(self) -> dict[str, Handler]:
        async def answer(serve: Any, stream: Any) -> None:
            try:
                await serve(stream)
            except Refusal as refusal:
                raise GRPCError(status_of(refusal), str(refusal)) from None

        methods = self._service.__mapping__()
        return {
            path: handler._replace(func=partial(answer, handler.func)) for path, handler in methods.items()
        }


class Stage:
    """A daemon that a transcript plays on."""

    def __init__(self, folder: Path, hosts: int, seed: int, periods: Periods | None = None) -> None:
        self._folder, self._hosts, self._seed, self._periods = folder, hosts, seed, periods
        self._clock = ManualClock()
        self._open = AsyncExitStack()
        self._daemon: Daemon
        self._channel: Any
        self._methods: dict[str, tuple[str, Handler]] = {}
        self._calls: dict[str, tuple[asyncio.Task[None], list[Any]]] = {}

    async def begin(self) -> None:
        """A daemon that has seen its hosts and has a pool."""
        await self._start()
        await self._daemon.begin()
        await self._clock.idle.wait()

    async def restart(self) -> None:
        """Close everything and start again from the journal, at the same moment."""
        await self.close()
        await self._start()
        await self._clock.idle.wait()

    async def close(self) -> None:
        for name in list(self._calls):
            await self.end(name)
        await self._open.aclose()

    @property
    def daemon(self) -> Daemon:
        return self._daemon

    def request_type(self, method: str) -> type:
        """Of a method by its name, or by `Service.Method`; KeyError says that there is none."""
        return self._methods[method][1].request_type

    async def call(self, method: str, request: Any) -> Any:
        """The answer, once all that follows at this moment has happened; a stream is a list. GRPCError."""
        path, handler = self._methods[method]
        streams = handler.cardinality.server_streaming
        kind: type[ServiceMethod] = UnaryStreamMethod if streams else UnaryUnaryMethod
        answer = await kind(self._channel, path, handler.request_type, handler.reply_type)(request)
        await self._clock.idle.wait()
        return answer

    async def open(self, name: str, method: str, request: Any) -> None:
        """Begin a call that goes on, and keep what it is answered until it is read."""
        path, handler = self._methods[method]
        kept: list[Any] = []

        async def keep() -> None:
            call = UnaryStreamMethod(self._channel, path, handler.request_type, handler.reply_type)
            try:
                async with call.open() as stream:
                    await stream.send_message(request, end=True)
                    async for message in stream:
                        kept.append(message)
            except GRPCError as error:
                kept.append(error)

        self._calls[name] = (asyncio.create_task(keep()), kept)
        await self._breathe()

    async def read(self, name: str) -> list[Any]:
        """What has come of an open call since it was read last. GRPCError: how it ended, once that is all."""
        await self._breathe()
        _task, kept = self._calls[name]
        if kept and isinstance(kept[0], GRPCError):
            raise kept[0]
        read = [message for message in kept if not isinstance(message, GRPCError)]
        del kept[: len(read)]
        return read

    async def end(self, name: str) -> None:
        """The caller of an open call goes away."""
        task, _kept = self._calls.pop(name)
        task.cancel()
        await asyncio.wait([task])
        await self._breathe()

    async def _breathe(self) -> None:
        """Let what is on its way arrive."""
        for _ in range(100):
            await asyncio.sleep(0)
        await self._clock.idle.wait()

    async def wait(self, seconds: float) -> None:
        """Let time pass, from each moment at which something happens to the next."""
        clock, end = self._clock, self._clock.now() + seconds
        await drive(clock, lambda: clock.idle.is_set() and (clock.next is None or clock.next > end))
        clock.advance(end)
        await clock.idle.wait()

    async def _start(self) -> None:
        journal = await Journal.open(self._folder)
        daemon = a_daemon(journal, self._clock, self._hosts, self._seed, LIMITS, self._periods)
        await daemon.loop.recover()
        served: list[Any] = [kind(daemon.loop, LIMITS) for kind in SERVICES]
        served.append(SimulationService(daemon.loop, LIMITS, daemon.agents))
        services = [Answering(Guarded(service, daemon.loop)) for service in served]
        self._methods = _methods(services)
        self._daemon = daemon
        await self._open.enter_async_context(_running(daemon))
        self._channel = await self._open.enter_async_context(ChannelFor(services, codec=GrpcCodec()))


@asynccontextmanager
async def _running(daemon: Daemon) -> AsyncIterator[None]:
    task = asyncio.create_task(daemon.loop.run())
    try:
        yield
    finally:
        await daemon.loop.close()
        await task
        await daemon.journal.close()


def _methods(services: list[Answering]) -> dict[str, tuple[str, Handler]]:
    found: dict[str, tuple[str, Handler]] = {}
    for service in services:
        for path, handler in service.__mapping__().items():
            name, _, method = path.removeprefix("/").partition("/")
            for spelling in (method, f"{name.rpartition('.')[2]}.{method}"):
                found[spelling] = (path, handler)
    return found
