"""The gRPC server: accepts connections, starts the calls that they bring, and ends them all.

One rule: every task belongs to the server's task group, which belongs to its starter's, so none is left when
`close` returns. How a call ends is `edge.call`'s business, what a connection may cost `edge.connection`'s.
`app` is the caller.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus
from grpclib._typing import IServable
from grpclib.const import Handler
from grpclib.encoding.base import CodecBase
from grpclib.protocol import AbstractHandler
from grpclib.protocol import Stream as H2Stream
from h2.errors import ErrorCodes

from derny.edge.call import Call, Headers, Services
from derny.edge.connection import GuardedProtocol, Limits
from derny.edge.reflection import HEALTH, REFLECTION, SHUTTING_DOWN, Health, Reflection

Member = TypeVar("Member")

PARTING_S = 0.05
"""Between the last answer and GOAWAY; a client that reads both at once may forget the answer over the
GOAWAY."""


class Crowd(set[Member]):
    """A set whose emptiness can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._emptied = anyio.Event()

    def discard(self, member: object) -> None:
        super().discard(cast(Member, member))
        if not self:
            self._emptied.set()

    async def emptied(self) -> None:
        while self:
            self._emptied = anyio.Event()
            await self._emptied.wait()


class Calls(AbstractHandler):
    """The calls of one connection, as grpclib's protocol wants to see them."""

    def __init__(self, server: "Server", tasks: asyncio.TaskGroup) -> None:
        self._server = server
        self._tasks = tasks
        self._calls: dict[H2Stream, Call] = {}

    def accept(self, stream: H2Stream, headers: Headers, release_stream: Callable[[], None]) -> None:
        # It is told the call rather than holding it: a cycle would keep every call until a collection.
        def release(call: Call) -> None:
            del self._calls[stream]
            self._server.ended(call)
            release_stream()

        call = Call(self._server.services, stream, headers, release)
        self._calls[stream] = call
        self._server.began(call)
        self._tasks.create_task(call.run())

    def cancel(self, stream: H2Stream) -> None:
        if call := self._calls.get(stream):
            call.abandon()

    def close(self) -> None:
        for call in self._calls.values():
            call.abandon()


class Server:
    """The contract's services, with health and reflection, on one TCP address."""

    def __init__(
        self, services: Sequence[IServable], codec: CodecBase, limits: Limits, descriptors: bytes
    ) -> None:
        """`descriptors` is the FileDescriptorSet that describes the services."""
        names = {path.split("/")[1] for service in services for path in service.__mapping__()}
        names |= {HEALTH, *REFLECTION}
        self.health = Health(sorted(names))
        methods: dict[str, Handler] = {}
        for service in (*services, self.health, Reflection(sorted(names), descriptors)):
            methods.update(service.__mapping__())
        self.services = Services(
            methods=methods, names=names, codec=codec, message_max_bytes=limits.message_max_bytes
        )
        self._limits = limits
        self._peers: Crowd[GuardedProtocol] = Crowd()
        self._calls: Crowd[Call] = Crowd()
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._grace_s = 0.0

    async def start(self, tasks: TaskGroup, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address bound; port 0 picks a free one. The server lives in `tasks`.

        Raises OSError if the address can't be had. Health says NOT_SERVING until `health.set_serving(True)`.
        """
        listener = await asyncio.get_running_loop().create_server(
            self._greet, host, port, backlog=self._limits.connections_max, start_serving=False
        )
        await tasks.start(self._live, listener, name="gRPC server")
        bound: tuple[str, int] = listener.sockets[0].getsockname()[:2]
        return bound

    async def close(self, grace_s: float) -> None:
        """Stop accepting, end server streams, let other calls finish for `grace_s` seconds, and hang up."""
        self._grace_s = grace_s
        self._closing.set()
        await self._closed.wait()

    def began(self, call: Call) -> None:
        self._calls.add(call)
        if self._closing.is_set() and not call.is_health:
            call.stop()

    def ended(self, call: Call) -> None:
        self._calls.discard(call)

    def _greet(self) -> GuardedProtocol:
        return GuardedProtocol(Calls(self, self._tasks), self._limits, self._peers)

    async def _live(self, listener: asyncio.Server, *, task_status: TaskStatus[None]) -> None:
        try:
            # asyncio's own: a call's task costs 2 µs in it, and 13 in anyio's.
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    await listener.start_serving()
                    task_status.started()
                    await self._closing.wait()
                    listener.close()
                    await self._wind_up()
                finally:
                    listener.close()
                    for peer in tuple(self._peers):
                        peer.outlet.abort()
        finally:
            self._closed.set()

    async def _wind_up(self) -> None:
        """Streams end at once, other calls within the grace, new ones are refused; then the connections end.

        GOAWAY comes last: many a client, grpclib's among them, drops the calls it has in flight when it reads
        one.
        """
        self.health.end()
        for call in self._calls:
            # Health's watchers end by themselves, once they have been told.
            if call.is_stream and not call.is_health:
                call.stop()
        if self._calls:
            with anyio.move_on_after(self._grace_s):
                await self._calls.emptied()
            for call in self._calls:
                call.stop()
            with anyio.move_on_after(self._limits.linger_s):
                await self._calls.emptied()
            await anyio.sleep(PARTING_S)
        for peer in tuple(self._peers):
            peer.give_up(ErrorCodes.NO_ERROR, SHUTTING_DOWN)
        with anyio.move_on_after(self._limits.linger_s):
            await self._peers.emptied()
