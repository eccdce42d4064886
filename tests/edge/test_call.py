"""Calls as their clients see them: statuses, sentences, deadlines, metadata, sizes. Over a real socket."""

import asyncio
import gc
import logging
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import h2.events
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError

from derny.api.codec import GrpcCodec
from derny.edge.call import SENTENCE_MAX_BYTES, STATUS_OF, Call, shortened, status_of
from derny.edge.connection import FRAME_MAX_BYTES, MIB, Limits
from derny.edge.off_loop import INLINE_MAX_BYTES
from derny.edge.server import Server
from derny.model import errors
from derny.proto.peloton.api.v1alpha.peloton import Label
from raw_http2 import Raw, serving_raw, still_serves

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

    async def forget(self, stream):
        await stream.recv_message()

    async def later(self, stream):
        raise GRPCError(Status.UNIMPLEMENTED)

    async def orphan(self, stream):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future


@asynccontextmanager
async def serving(*services, codec=None, **limits) -> AsyncIterator[Channel]:
    async with anyio.create_task_group() as tasks:
        server = Server(services, codec or ProtoCodec(), Limits(**limits), b"")
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        try:
            yield channel
        finally:
            channel.close()
            await server.close(0)


async def call(channel, method, value="", *, service="test.Echo", **options):
    stub = UnaryUnaryMethod(channel, f"/{service}/{method}", StringValue, StringValue)
    return (await stub(StringValue(value=value), **options)).value


async def refused(*args, **options) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await call(*args, **options)
    return caught.value


async def test_a_call_is_answered_whatever_metadata_it_carries():
    metadata = {"rpc-caller": "x", "rpc-service": "y", "rpc-encoding": "proto", "trace-bin": b"\x00\xff"}
    async with serving(Echo()) as channel:
        assert await call(channel, "Say", "été ✓", metadata=metadata) == "été ✓"


@pytest.mark.parametrize("kind", STATUS_OF, ids=lambda kind: kind.__name__)
async def test_each_refusal_becomes_its_status_with_its_sentence(kind):
    echo = Echo()
    echo.raises = kind('name "é\n%☃": 100% wrong')
    async with serving(echo) as channel:
        error = await refused(channel, "Fail")
    assert (error.status, error.message) == (STATUS_OF[kind], 'name "é\n%☃": 100% wrong')


def test_every_refusal_has_a_status_and_a_subclass_has_its_parents():
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)} - {errors.Refusal}
    assert kinds == set(STATUS_OF)
    assert status_of(type("Narrower", (errors.NotFound,), {})()) is Status.NOT_FOUND


async def test_any_other_error_is_internal_with_a_reference_into_the_log(caplog):
    echo = Echo()
    echo.raises = ValueError("the secret")
    async with serving(echo) as channel:
        error = await refused(channel, "Fail")
        assert await call(channel, "Say", "still alive") == "still alive"
    assert error.status is Status.INTERNAL
    assert "secret" not in error.message
    (record,) = (r for r in caplog.records if r.name == "derny.edge")
    assert record.levelno == logging.ERROR
    assert record.exc_info[1] is echo.raises
    assert record.args[-1] in error.message


@pytest.mark.parametrize("method", ["Forget", "Orphan"])
async def test_a_handler_that_breaks_its_promise_is_an_internal_error(method):
    """It returns without a message, or awaits what somebody else has cancelled."""
    async with serving(Echo()) as channel:
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
    async with serving(echo) as channel:
        error = await refused(channel, "Fail")
    assert error.status is Status.INVALID_ARGUMENT
    assert error.message.startswith("lone ? surrogate\U0001f600")
    assert error.message.endswith("…")


async def test_what_there_is_not_is_unimplemented_and_named():
    async with serving(Echo()) as channel:
        method = await refused(channel, "Shout")
        service = await refused(channel, "Say", service="test.Nothing")
        later = await refused(channel, "Later")
    assert {error.status for error in (method, service, later)} == {Status.UNIMPLEMENTED}
    assert "'Shout'" in method.message
    assert "'test.Nothing'" in service.message
    assert "/test.Echo/Later is in the contract" in later.message


async def test_the_deadline_cancels_the_handler():
    echo = Echo()
    async with serving(echo) as channel:
        # The client gives up at the same moment, by its own clock; whichever is first, the handler must end.
        with pytest.raises((GRPCError, asyncio.TimeoutError)):
            await call(channel, "Wait", timeout=0.05)
        with anyio.fail_after(10):
            await echo.cancelled.wait()


async def test_a_client_that_hangs_up_cancels_the_handler():
    echo = Echo()
    async with serving(echo) as channel, anyio.create_task_group() as tasks:
        tasks.start_soon(call, channel, "Wait")
        await echo.entered.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(10):
            await echo.cancelled.wait()


async def test_a_client_that_hangs_up_while_it_is_spoken_to_is_no_error(caplog):
    """A handler that is about to go on is cancelled a little later than its stream is closed."""
    raw = Raw()
    async with serving_raw(raw) as connect:
        peer = await connect()
        for _ in range(20):
            stream_id = peer.call("/test.Raw/Drip")
            await peer.flush()
            await peer.until(h2.events.DataReceived, stream_id)
            peer.h2.reset_stream(stream_id)
            await peer.flush()
        await still_serves(connect)
    assert raw.left == 20
    assert not caplog.records


async def test_a_message_of_the_largest_size_passes_and_one_byte_more_does_not():
    async with serving(Echo(), message_max_bytes=100_000) as channel:
        largest = "x" * (100_000 - 4)  # a tag and three bytes of length
        assert await call(channel, "Say", largest) == largest
        error = await refused(channel, "Say", largest + "x")
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert "100001 bytes" in error.message
        assert "at most 100000" in error.message
        assert await call(channel, "Say", "next") == "next"


async def test_a_connection_may_not_have_too_many_bytes_of_half_received_messages():
    async with serving(Echo(), messages_max_bytes=1000) as channel:
        error = await refused(channel, "Say", "x" * 1000)
        assert (error.status, "at most 1000" in error.message) == (Status.RESOURCE_EXHAUSTED, True)
        for _ in range(3):
            assert len(await call(channel, "Say", "x" * 900)) == 900


@pytest.mark.parametrize(
    ("headers", "http_status"),
    [
        ({"content-type": "application/grpc"}, "200"),
        ({"content-type": "application/grpc+proto"}, "200"),
        ({"content-type": "application/grpc;charset=utf-8"}, "200"),
        ({"content-type": "application/grpc+json"}, "415"),
        ({"content-type": "application/json"}, "415"),
        ({"content-type": "application/grpcx"}, "415"),
        ({"content-type": ""}, "415"),
        ({":method": "GET"}, "405"),
        ({":path": ""}, "200"),
        ({"x-trace": "caf\u00e9"}, "200"),
    ],
)
async def test_requests_that_are_not_grpc_get_an_http_status(headers, http_status):
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.call(**headers)
        await peer.flush()
        assert (await peer.status(stream_id))[2][":status"] == http_status
        await still_serves(connect)


@pytest.mark.parametrize("without", [":method", ":path", "content-type", "te"])
async def test_a_request_without_a_header_gets_an_answer(without):
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.call(without=(without,))
        await peer.flush()
        assert (await peer.status(stream_id))[2][":status"] in {"200", "405", "415"}
        await still_serves(connect)


async def test_an_unknown_method_is_unimplemented_with_a_grpc_content_type():
    """Without one, grpc-go makes UNKNOWN of it."""
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.call("/test.Raw/Nothing")
        await peer.flush()
        status, _, headers = await peer.status(stream_id)
        assert (status, headers["content-type"]) == (Status.UNIMPLEMENTED, "application/grpc+proto")


async def test_compression_is_declined_with_what_would_be_accepted():
    async with serving_raw() as connect:
        peer = await connect()
        gzip = peer.call(grpc_encoding="gzip")
        flagged = peer.open()
        peer.h2.send_data(flagged, b"\1\0\0\0\1x", end_stream=True)
        misflagged = peer.open()
        peer.h2.send_data(misflagged, b"\2\0\0\0\1x", end_stream=True)
        identity = peer.call(grpc_encoding="identity", grpc_accept_encoding="gzip")
        await peer.flush()
        status, sentence, headers = await peer.status(gzip)
        assert (status, headers["grpc-accept-encoding"]) == (Status.UNIMPLEMENTED, "identity")
        assert "'gzip'" in sentence
        assert (await peer.status(flagged))[0] is Status.UNIMPLEMENTED
        assert (await peer.status(misflagged))[0] is Status.INVALID_ARGUMENT
        assert (await peer.status(identity))[0] is Status.OK


@pytest.mark.parametrize("grpc_timeout", ["", "S", "1", "-1S", "1s", "123456789S", "9" * 5000 + "H", "1.5S"])
async def test_a_malformed_timeout_is_an_invalid_argument(grpc_timeout):
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.call(grpc_timeout=grpc_timeout)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("grpc_timeout", ["0S", "1n", "20m"])
async def test_a_deadline_is_kept_by_the_server_alone(grpc_timeout):
    service = Raw()
    async with serving_raw(service) as connect:
        peer = await connect()
        stream_id = peer.call("/test.Raw/Wait", grpc_timeout=grpc_timeout)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.DEADLINE_EXCEEDED
        assert service.entered == service.left


async def test_the_longest_timeout_is_no_trouble():
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.call(grpc_timeout="99999999H")
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.OK


async def test_malformed_binary_metadata_is_an_invalid_argument():
    async with serving_raw() as connect:
        peer = await connect()
        broken, foreign = peer.call(trace_bin="a"), peer.call(trace_bin="\u00e9\u00e9")
        await peer.flush()
        assert (await peer.status(broken))[0] is Status.INVALID_ARGUMENT
        assert (await peer.status(foreign))[0] is Status.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\2x", b"\0\0\0\0\1xy", b"\0\0\0\0\0" * 2],
    ids=["none", "prefix", "most of a prefix", "short", "long", "two"],
)
async def test_a_unary_request_is_exactly_one_whole_message(body):
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.open()
        peer.h2.send_data(stream_id, body, end_stream=True)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.INVALID_ARGUMENT


async def test_empty_frames_and_single_bytes_and_padding_make_a_message_like_any_other():
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.open()
        for byte in b"\0\0\0\0\4abcd":
            peer.h2.send_data(stream_id, b"")
            peer.h2.send_data(stream_id, bytes([byte]), pad_length=3)
        peer.h2.send_data(stream_id, b"", pad_length=9)
        peer.h2.end_stream(stream_id)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.OK
        assert (await peer.until(h2.events.DataReceived, stream_id)).data == b"\0\0\0\0\4abcd"


async def test_the_body_of_a_message_too_long_is_not_awaited():
    """Only the prefix is sent: the answer can't have waited for the gigabyte."""
    async with serving_raw() as connect:
        peer = await connect()
        stream_id = peer.open()
        peer.h2.send_data(stream_id, b"\0" + struct.pack(">I", 1 << 30))
        await peer.flush()
        status, sentence, _ = await peer.status(stream_id)
        assert status is Status.RESOURCE_EXHAUSTED
        assert "1073741824 bytes" in sentence
        assert str(4 * MIB) in sentence


class SlowCodec(ProtoCodec):
    """Reads large messages when it may, and remembers in which thread it read which size."""

    def __init__(self):
        super().__init__()
        self.threads = {}
        self.may_go_on = threading.Event()

    def decode(self, data, message_type):
        self.threads[len(data)] = threading.current_thread()
        if len(data) > INLINE_MAX_BYTES:
            assert self.may_go_on.wait(30)
        return super().decode(data, message_type)


LARGEST_INLINE = "x" * (INLINE_MAX_BYTES - 4)  # a tag and three bytes of length


async def test_a_message_is_read_on_the_loop_up_to_a_size_and_elsewhere_beyond():
    codec = SlowCodec()
    codec.may_go_on.set()
    async with serving(Echo(), codec=codec) as channel:
        for value in (LARGEST_INLINE, LARGEST_INLINE + "x"):
            assert await call(channel, "Say", value) == value
    assert codec.threads[INLINE_MAX_BYTES] is threading.current_thread()
    assert codec.threads[INLINE_MAX_BYTES + 1] is not threading.current_thread()


async def test_others_are_answered_while_a_large_message_is_read_which_counts_as_under_way():
    codec, answers = SlowCodec(), []
    async with (
        serving(Echo(), codec=codec, messages_max_bytes=INLINE_MAX_BYTES + 10) as channel,
        anyio.create_task_group() as tasks,
    ):

        async def say_much():
            answers.append(await call(channel, "Say", LARGEST_INLINE + "x"))

        tasks.start_soon(say_much)
        try:
            with anyio.fail_after(10):
                while len(codec.threads) < 1:  # noqa: ASYNC110 a thread sets no event of the loop
                    await anyio.sleep(0.001)
                assert await call(channel, "Say", "little") == "little"
                error = await refused(channel, "Say", LARGEST_INLINE)
                assert error.status is Status.RESOURCE_EXHAUSTED
            assert not answers
        finally:
            codec.may_go_on.set()
    assert answers == [LARGEST_INLINE + "x"]


async def test_a_deadline_is_kept_while_a_large_message_is_read():
    codec, size = SlowCodec(), INLINE_MAX_BYTES + 1
    message = StringValue(value=LARGEST_INLINE + "x").SerializeToString()
    async with serving_raw(Echo(), codec) as connect:
        peer = await connect()
        stream_id = peer.open("/test.Echo/Say", grpc_timeout="20m")
        left = b"\0" + struct.pack(">I", size) + message
        while left:
            frame, left = left[:FRAME_MAX_BYTES], left[FRAME_MAX_BYTES:]
            peer.h2.send_data(stream_id, frame, end_stream=not left)
        await peer.flush()
        try:
            assert (await peer.status(stream_id))[0] is Status.DEADLINE_EXCEEDED
            assert not codec.may_go_on.is_set()
        finally:
            codec.may_go_on.set()


class Keeper:
    """Keeps every request that it is sent, which a handler should not do."""

    def __init__(self):
        self.kept = []

    def __mapping__(self):
        return {"/test.Keeper/Keep": Handler(self.keep, Cardinality.UNARY_UNARY, Label, Label)}

    async def keep(self, stream):
        self.kept.append(await stream.recv_message())
        await stream.send_message(Label("kept", ""))


async def test_a_large_request_is_taken_apart_once_its_handler_is_done_with_it():
    """Dropped whole it would be freed in one go, on the loop; what a handler kept by mistake is empty."""
    keeper = Keeper()
    async with serving(keeper, codec=GrpcCodec()) as channel:
        stub = UnaryUnaryMethod(channel, "/test.Keeper/Keep", Label, Label)
        for size in (10, INLINE_MAX_BYTES + 1):
            assert (await stub(Label("x" * size, ""))).key == "kept"
    small, large = keeper.kept
    assert small.key == "x" * 10
    assert vars(large) == {}


async def test_a_call_that_has_ended_leaves_nothing_for_the_collector():
    """The daemon lets it run seldom: cycles that calls left behind would pile up, and then stop the loop."""
    async with serving(Echo()) as channel:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await call(channel, "Say", "x")
            await anyio.wait_all_tasks_blocked()
            assert not [left for left in gc.get_objects() if isinstance(left, Call)]
        finally:
            gc.enable()
