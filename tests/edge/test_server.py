"""The server's beginning and end as clients see them, and that no task is left. Over a real socket."""

import asyncio

import anyio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from derny.edge.connection import Limits
from derny.edge.server import Server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class Waiter:
    """Answers when it may, or never."""

    def __init__(self):
        self.cancelled = anyio.Event()
        self.entered = anyio.Event()
        self.may_answer = anyio.Event()

    def __mapping__(self):
        wait = Handler(self.wait, Cardinality.UNARY_UNARY, StringValue, StringValue)
        watch = Handler(self.watch, Cardinality.UNARY_STREAM, StringValue, StringValue)
        return {"/test.Waiter/Wait": wait, "/test.Waiter/Watch": watch}

    async def wait(self, stream):
        self.entered.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await stream.send_message(StringValue(value="waited"))

    async def watch(self, stream):
        await stream.send_message(await stream.recv_message())
        self.entered.set()
        await anyio.sleep_forever()


async def wait_for(channel):
    stub = UnaryUnaryMethod(channel, "/test.Waiter/Wait", StringValue, StringValue)
    return (await stub(StringValue())).value


async def test_calls_in_flight_finish_and_streams_are_told_when_the_server_closes():
    waiter = Waiter()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as tasks:
        server = Server([waiter], ProtoCodec(), Limits(), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        server.health.set_serving(True)
        streams_end, answers, health = [], [], []

        async def watch():
            stub = UnaryStreamMethod(channel, "/test.Waiter/Watch", StringValue, StringValue)
            with pytest.raises(GRPCError) as caught:
                await stub(StringValue(value="first"))
            streams_end.append((caught.value.status, caught.value.message))

        async def wait():
            answers.append(await wait_for(channel))

        async def watch_health():
            with pytest.raises(GRPCError) as caught:
                async with HealthStub(channel).Watch.open() as stream:
                    await stream.send_message(HealthCheckRequest(), end=True)
                    async for response in stream:
                        health.append(response.status)
            health.append(caught.value.status)

        async with anyio.create_task_group() as clients:
            for client in (watch_health, watch):
                clients.start_soon(client)
            await waiter.entered.wait()
            waiter.entered = anyio.Event()
            clients.start_soon(wait)
            await waiter.entered.wait()
            clients.start_soon(server.close, 30.0)
            while len(health) < 3 or not streams_end:  # noqa: ASYNC110 the client has no event for it
                await anyio.sleep(0.01)
            assert not answers
            waiter.may_answer.set()
        with pytest.raises(OSError):
            await anyio.connect_tcp(channel._host, channel._port)
        channel.close()
    assert streams_end == [(Status.UNAVAILABLE, "the daemon is shutting down")]
    assert answers == ["waited"]
    assert health == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING, Status.UNAVAILABLE]
    assert asyncio.all_tasks() == before


async def test_a_call_that_outlasts_the_grace_is_told_so():
    waiter = Waiter()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as tasks:
        server = Server([waiter], ProtoCodec(), Limits(), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        errors_seen = []

        async def wait():
            with pytest.raises(GRPCError) as caught:
                await wait_for(channel)
            errors_seen.append(caught.value)

        async with anyio.create_task_group() as clients:
            clients.start_soon(wait)
            await waiter.entered.wait()
            await server.close(0.01)
        channel.close()
    assert errors_seen[0].status is Status.UNAVAILABLE
    assert waiter.cancelled.is_set()
    assert asyncio.all_tasks() == before


async def test_cancelling_the_owner_ends_everything_and_is_nobodys_failure(caplog):
    waiter = Waiter()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as clients:
        async with anyio.create_task_group() as tasks:
            server = Server([waiter], ProtoCodec(), Limits(), b"")
            channel = Channel(*await server.start(tasks, "127.0.0.1", 0))

            async def wait():
                with pytest.raises(StreamTerminatedError):
                    await wait_for(channel)

            clients.start_soon(wait)
            await waiter.entered.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await server.close(5.0)
    channel.close()
    assert waiter.cancelled.is_set()
    assert asyncio.all_tasks() == before
    assert not [record for record in caplog.records if record.name == "derny.edge"]


async def test_the_port_that_is_taken_is_the_starters_error():
    async with anyio.create_task_group() as tasks:
        server, other = (Server([Waiter()], ProtoCodec(), Limits(), b"") for _ in range(2))
        _, port = await server.start(tasks, "127.0.0.1", 0)
        with pytest.raises(OSError):
            await other.start(tasks, "127.0.0.1", port)
        await server.close(0)
