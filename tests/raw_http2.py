"""The edge under raw HTTP/2: a client that sends what frames it is told to, lawful or not, and what it calls.

For the tests of `edge.connection`, `edge.call` and `edge.outlet`.
"""

import asyncio
import struct
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.events
from grpclib.const import Cardinality, Handler, Status
from hyperframe.frame import Frame

from derny.edge.call import RAW
from derny.edge.connection import Limits
from derny.edge.server import Server


class Raw:
    """A service of bytes: says them back, waits until it is cancelled, pours out a MiB at a time, or drips
    without end."""

    def __init__(self):
        self.entered = 0
        self.left = 0
        self.sent = 0

    def __mapping__(self):
        return {
            "/test.Raw/Say": Handler(self.say, Cardinality.UNARY_UNARY, bytes, bytes),
            "/test.Raw/Wait": Handler(self.wait, Cardinality.UNARY_UNARY, bytes, bytes),
            "/test.Raw/Pour": Handler(self.pour, Cardinality.UNARY_STREAM, bytes, bytes),
            "/test.Raw/Drip": Handler(self.drip, Cardinality.UNARY_STREAM, bytes, bytes),
        }

    async def say(self, stream):
        await stream.send_message(await stream.recv_message())

    async def wait(self, stream):
        self.entered += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.left += 1

    async def pour(self, stream):
        await stream.recv_message()
        try:
            while True:
                await stream.send_message(bytes(1 << 20))
                self.sent += 1
        finally:
            self.left += 1

    async def drip(self, stream):
        """What it waits for has always just come when anything else happens."""
        await stream.recv_message()
        loop = asyncio.get_running_loop()
        self.entered += 1
        try:
            while True:
                came = loop.create_future()
                loop.call_soon(came.set_result, None)
                await came
                await stream.send_message(b"")
                self.sent += 1
        finally:
            self.left += 1


class Peer:
    """A client that sends what it is told to, lawful or not, and keeps what it is answered."""

    def __init__(self, stream):
        self.stream = stream
        self.address = stream.extra(anyio.abc.SocketAttribute.remote_address)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.initiate_connection()
        self.events = []
        self.sending = anyio.Lock()

    def open(self, path="/test.Raw/Say", *, end_stream=False, without=(), **headers):
        wanted = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, [(k, v) for k, v in wanted.items() if k not in without], end_stream)
        return stream_id

    def call(self, path="/test.Raw/Say", message=b"", **headers):
        stream_id = self.open(path, **headers)
        self.h2.send_data(stream_id, b"\0" + struct.pack(">I", len(message)) + message, end_stream=True)
        return stream_id

    async def flush(self):
        await self.send(self.h2.data_to_send())

    async def send(self, data: bytes | Frame):
        """False if the server has hung up."""
        try:
            async with self.sending:
                await self.stream.send(data.serialize() if isinstance(data, Frame) else data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def until(self, kind, stream_id=None):
        """The first event of a kind, now or later."""
        seen = 0
        with anyio.fail_after(30):
            while True:
                for event in self.events[seen:]:
                    if isinstance(event, kind) and (stream_id is None or stream_id == event.stream_id):
                        return event
                seen = len(self.events)
                await self.receive()

    async def receive(self):
        self.events += self.h2.receive_data(await self.stream.receive())
        await self.flush()

    async def goaway(self):
        event = await self.until(h2.events.ConnectionTerminated)
        return event.error_code, event.additional_data

    async def status(self, stream_id):
        """The gRPC status, its sentence and all headers and trailers."""
        await self.until(h2.events.StreamEnded, stream_id)
        headers = {}
        for event in self.events:
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                headers |= dict(event.headers) if event.stream_id == stream_id else {}
        number = headers.get("grpc-status")
        return Status(int(number)) if number else None, headers.get("grpc-message", ""), headers


@asynccontextmanager
async def connecting(host, port):
    """A way to connect, which closes all connections made."""
    peers = []

    async def connect():
        peer = Peer(await anyio.connect_tcp(host, port))
        peers.append(peer)
        await peer.flush()
        return peer

    try:
        yield connect
    finally:
        for peer in peers:
            await peer.stream.aclose()


@asynccontextmanager
async def serving_raw(service=None, codec=RAW, **limits):
    """A server and a way to connect to it; closes both."""
    async with anyio.create_task_group() as tasks:
        server = Server([service or Raw()], codec, Limits(**limits), b"")
        async with connecting(*await server.start(tasks, "127.0.0.1", 0)) as connect:
            yield connect
        with anyio.fail_after(30):
            await server.close(0)


async def still_serves(connect):
    peer = await connect()
    stream_id = peer.call(message=b"alive")
    await peer.flush()
    assert (await peer.status(stream_id))[0] is Status.OK
