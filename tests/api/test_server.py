"""The edge as its clients see it: statuses, deadlines, limits on messages, shutdown. Over a real socket."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from derny.api.connection import Limits
from derny.api.server import SENTENCE_MAX_BYTES, STATUS_OF, Server, shortened, status_of
from derny.model import errors

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class Echo:
    """Says back what it hears, or does what it is told."""

    def __init__(self):
        self.cancelled = anyio.Event()
        self.entered = anyio.Event()
        self.may_answer = anyio.Event()

    def __mapping__(self):
        methods = {
            "Say": (self.say, Cardinality.UNARY_UNARY),
            "Fail": (self.fail, Cardinality.UNARY_UNARY),
            "Wait": (self.wait, Cardinality.UNARY_UNARY),
            "Forget": (self.forget, Cardinality.UNARY_UNARY),
            "Later": (self.later, Cardinality.UNARY_UNARY),
            "Orphan": (self.orphan, Cardinality.UNARY_UNARY),
            "Watch": (self.watch, Cardinality.UNARY_STREAM),
        }
        return {
            f"/test.Echo/{name}": Handler(func, cardinality, StringValue, StringValue)
            for name, (func, cardinality) in methods.items()
        }

    raises: Exception

    async def say(self, stream):
        await stream.send_message(await stream.recv_message())

    async def fail(self, stream):
        await stream.recv_message()
        raise self.raises

    async def wait(self, stream):
        self.entered.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await stream.send_message(StringValue(value="waited"))

    async def forget(self, stream):
        await stream.recv_message()

    async def later(self, stream):
        raise GRPCError(Status.UNIMPLEMENTED)

    async def orphan(self, stream):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def watch(self, stream):
        await stream.send_message(await stream.recv_message())
        self.entered.set()
        await anyio.sleep_forever()


@asynccontextmanager
async def serving(*services, grace_s=0.0, **limits) -> AsyncIterator[tuple[Server, Channel]]:
    async with anyio.create_task_group() as tasks:
        server = Server(services, ProtoCodec(), Limits(**limits), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        try:
            yield server, channel
        finally:
            channel.close()
            await server.close(grace_s)


async def call(channel, method, value="", *, service="test.Echo", **options):
    stub = UnaryUnaryMethod(channel, f"/{service}/{method}", StringValue, StringValue)
    return (await stub(StringValue(value=value), **options)).value


async def refused(*args, **options) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await call(*args, **options)
    return caught.value


async def test_a_call_is_answered_whatever_metadata_it_carries():
    metadata = {"rpc-caller": "x", "rpc-service": "y", "rpc-encoding": "proto", "trace-bin": b"\x00\xff"}
    async with serving(Echo()) as (_, channel):
        assert await call(channel, "Say", "été ✓", metadata=metadata) == "été ✓"


@pytest.mark.parametrize("kind", STATUS_OF, ids=lambda kind: kind.__name__)
async def test_each_refusal_becomes_its_status_with_its_sentence(kind):
    echo = Echo()
    echo.raises = kind('name "é\n%☃": 100% wrong')
    async with serving(echo) as (_, channel):
        error = await refused(channel, "Fail")
    assert (error.status, error.message) == (STATUS_OF[kind], 'name "é\n%☃": 100% wrong')


def test_every_refusal_has_a_status_and_a_subclass_has_its_parents():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {errors.Refusal}
    assert kinds == set(STATUS_OF)
    assert status_of(type("Narrower", (errors.NotFound,), {})()) is Status.NOT_FOUND


async def test_any_other_error_is_internal_with_a_reference_into_the_log(caplog):
    echo = Echo()
    echo.raises = ValueError("the secret")
    async with serving(echo) as (_, channel):
        error = await refused(channel, "Fail")
        assert await call(channel, "Say", "still alive") == "still alive"
    assert error.status is Status.INTERNAL
    assert "secret" not in error.message
    (record,) = (r for r in caplog.records if r.name == "derny.api")
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is echo.raises
    assert record.args[-1] in error.message


@pytest.mark.parametrize("method", ["Forget", "Orphan"])
async def test_a_handler_that_breaks_its_promise_is_an_internal_error(method):
    """It returns without a message, or awaits what somebody else has cancelled."""
    async with serving(Echo()) as (_, channel):
        assert (await refused(channel, method)).status is Status.INTERNAL
        assert await call(channel, "Say", "still alive") == "still alive"


@pytest.mark.parametrize("length", [0, 1, 338, 339, 340, 341, 342, 1024, 1025, 100_000])
def test_sentences_are_cut_between_characters(length):
    sentence = shortened("☃" * length)
    assert len(sentence.encode()) <= SENTENCE_MAX_BYTES
    assert sentence == "☃" * length or (
        sentence.endswith("☃…") and len(sentence.encode()) > SENTENCE_MAX_BYTES - 3
    )


async def test_a_sentence_of_broken_unicode_arrives():
    echo = Echo()
    echo.raises = errors.Invalid("lone \ud800 surrogate" + "\U0001f600" * 10_000)
    async with serving(echo) as (_, channel):
        error = await refused(channel, "Fail")
    assert error.status is Status.INVALID_ARGUMENT
    assert error.message.startswith("lone ? surrogate\U0001f600")
    assert error.message.endswith("…")


async def test_what_there_is_not_is_unimplemented_and_named():
    async with serving(Echo()) as (_, channel):
        method = await refused(channel, "Shout")
        service = await refused(channel, "Say", service="test.Nothing")
        later = await refused(channel, "Later")
    assert {error.status for error in (method, service, later)} == {Status.UNIMPLEMENTED}
    assert "'Shout'" in method.message
    assert "'test.Nothing'" in service.message
    assert "/test.Echo/Later is in the contract" in later.message


async def test_the_deadline_cancels_the_handler():
    echo = Echo()
    async with serving(echo) as (_, channel):
        # The client gives up at the same moment, by its own clock; whichever is first, the handler must end.
        with pytest.raises((GRPCError, asyncio.TimeoutError)):
            await call(channel, "Wait", timeout=0.05)
        with anyio.fail_after(10):
            await echo.cancelled.wait()


async def test_a_client_that_hangs_up_cancels_the_handler():
    echo = Echo()
    async with serving(echo) as (_, channel), anyio.create_task_group() as tasks:
        tasks.start_soon(call, channel, "Wait")
        await echo.entered.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(10):
            await echo.cancelled.wait()


async def test_a_message_of_the_largest_size_passes_and_one_byte_more_does_not():
    async with serving(Echo(), message_max_bytes=100_000) as (_, channel):
        largest = "x" * (100_000 - 4)  # a tag and three bytes of length
        assert await call(channel, "Say", largest) == largest
        error = await refused(channel, "Say", largest + "x")
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert "100001 bytes" in error.message
        assert "at most 100000" in error.message
        assert await call(channel, "Say", "next") == "next"


async def test_a_connection_may_not_have_too_many_bytes_of_half_received_messages():
    async with serving(Echo(), messages_max_bytes=1000) as (_, channel):
        error = await refused(channel, "Say", "x" * 1000)
        assert (error.status, "at most 1000" in error.message) == (Status.RESOURCE_EXHAUSTED, True)
        for _ in range(3):
            assert len(await call(channel, "Say", "x" * 900)) == 900


async def test_calls_in_flight_finish_and_streams_are_told_when_the_server_closes():
    echo = Echo()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as tasks:
        server = Server([echo], ProtoCodec(), Limits(), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        server.health.set_serving(True)
        streams_end, answers, health = [], [], []

        async def watch():
            stub = UnaryStream(channel)
            with pytest.raises(GRPCError) as caught:
                await stub.drain()
            streams_end.append((caught.value.status, caught.value.message))

        async def wait():
            answers.append(await call(channel, "Wait"))

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
            await echo.entered.wait()
            echo.entered = anyio.Event()
            clients.start_soon(wait)
            await echo.entered.wait()
            clients.start_soon(server.close, 30.0)
            while len(health) < 3 or not streams_end:  # noqa: ASYNC110 the client has no event for it
                await anyio.sleep(0.01)
            assert not answers
            echo.may_answer.set()
        with pytest.raises(OSError):
            await anyio.connect_tcp(channel._host, channel._port)
        channel.close()
    assert streams_end == [(Status.UNAVAILABLE, "the daemon is shutting down")]
    assert answers == ["waited"]
    assert health == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING, Status.UNAVAILABLE]
    assert asyncio.all_tasks() == before


class UnaryStream:
    def __init__(self, channel):
        from grpclib.client import UnaryStreamMethod

        self.stub = UnaryStreamMethod(channel, "/test.Echo/Watch", StringValue, StringValue)

    async def drain(self):
        return await self.stub(StringValue(value="first"))


async def test_a_call_that_outlasts_the_grace_is_told_so():
    echo = Echo()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as tasks:
        server = Server([echo], ProtoCodec(), Limits(), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        errors_seen = []

        async def wait():
            errors_seen.append(await refused(channel, "Wait"))

        async with anyio.create_task_group() as clients:
            clients.start_soon(wait)
            await echo.entered.wait()
            await server.close(0.01)
        channel.close()
    assert errors_seen[0].status is Status.UNAVAILABLE
    assert echo.cancelled.is_set()
    assert asyncio.all_tasks() == before


async def test_cancelling_the_owner_ends_everything():
    echo = Echo()
    before = asyncio.all_tasks()
    async with anyio.create_task_group() as clients:
        async with anyio.create_task_group() as tasks:
            server = Server([echo], ProtoCodec(), Limits(), b"")
            channel = Channel(*await server.start(tasks, "127.0.0.1", 0))

            async def wait():
                with pytest.raises(StreamTerminatedError):
                    await call(channel, "Wait")

            clients.start_soon(wait)
            await echo.entered.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            await server.close(5.0)
    channel.close()
    assert echo.cancelled.is_set()
    assert asyncio.all_tasks() == before


async def test_the_port_that_is_taken_is_the_starters_error():
    async with serving(Echo()) as (_, channel), anyio.create_task_group() as tasks:
        other = Server([Echo()], ProtoCodec(), Limits(), b"")
        with pytest.raises(OSError):
            await other.start(tasks, "127.0.0.1", channel._port)
