"""The edge as a hostile client sees it: raw HTTP/2 frames, limits and budgets. Over a real socket."""

import asyncio
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.events
import pytest
from grpclib.const import Cardinality, Handler, Status
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from derny.api.connection import FRAME_MAX_BYTES, MIB, Budget, Gate, Inbox, Limits
from derny.api.server import RAW, Server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class Service:
    def __init__(self):
        self.entered = 0
        self.left = 0
        self.sent = 0

    def __mapping__(self):
        return {
            "/test.Raw/Say": Handler(self.say, Cardinality.UNARY_UNARY, bytes, bytes),
            "/test.Raw/Wait": Handler(self.wait, Cardinality.UNARY_UNARY, bytes, bytes),
            "/test.Raw/Pour": Handler(self.pour, Cardinality.UNARY_STREAM, bytes, bytes),
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
                await stream.send_message(bytes(MIB))
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
async def serving(service=None, **limits):
    """A server and a way to connect to it; closes both."""
    async with anyio.create_task_group() as tasks:
        server = Server([service or Service()], RAW, Limits(**limits), b"")
        async with connecting(*await server.start(tasks, "127.0.0.1", 0)) as connect:
            yield connect
        with anyio.fail_after(30):
            await server.close(0)


async def still_serves(connect):
    peer = await connect()
    stream_id = peer.call(message=b"alive")
    await peer.flush()
    assert (await peer.status(stream_id))[0] is Status.OK


async def test_the_first_frame_announces_the_limits():
    async with serving(streams_max=7, headers_max_bytes=9000) as connect:
        peer = await connect()
        await peer.until(h2.events.RemoteSettingsChanged)
        assert peer.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 7
        assert peer.h2.remote_settings[SettingCodes.MAX_HEADER_LIST_SIZE] == 9000


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
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.call(**headers)
        await peer.flush()
        assert (await peer.status(stream_id))[2][":status"] == http_status
        await still_serves(connect)


@pytest.mark.parametrize("without", [":method", ":path", "content-type", "te"])
async def test_a_request_without_a_header_gets_an_answer(without):
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.call(without=(without,))
        await peer.flush()
        assert (await peer.status(stream_id))[2][":status"] in {"200", "405", "415"}
        await still_serves(connect)


async def test_an_unknown_method_is_unimplemented_with_a_grpc_content_type():
    """Without one, grpc-go makes UNKNOWN of it."""
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.call("/test.Raw/Nothing")
        await peer.flush()
        status, _, headers = await peer.status(stream_id)
        assert (status, headers["content-type"]) == (Status.UNIMPLEMENTED, "application/grpc+proto")


async def test_compression_is_declined_with_what_would_be_accepted():
    async with serving() as connect:
        peer = await connect()
        gzip = peer.call(grpc_encoding="gzip")
        flagged = peer.open()
        peer.h2.send_data(flagged, b"\1\0\0\0\1x", end_stream=True)
        identity = peer.call(grpc_encoding="identity", grpc_accept_encoding="gzip")
        await peer.flush()
        status, sentence, headers = await peer.status(gzip)
        assert (status, headers["grpc-accept-encoding"]) == (Status.UNIMPLEMENTED, "identity")
        assert "'gzip'" in sentence
        assert (await peer.status(flagged))[0] is Status.INTERNAL
        assert (await peer.status(identity))[0] is Status.OK


@pytest.mark.parametrize("grpc_timeout", ["", "S", "1", "-1S", "1s", "123456789S", "9" * 5000 + "H", "1.5S"])
async def test_a_malformed_timeout_is_an_invalid_argument(grpc_timeout):
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.call(grpc_timeout=grpc_timeout)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("grpc_timeout", ["0S", "1n", "20m"])
async def test_a_deadline_is_kept_by_the_server_alone(grpc_timeout):
    service = Service()
    async with serving(service) as connect:
        peer = await connect()
        stream_id = peer.call("/test.Raw/Wait", grpc_timeout=grpc_timeout)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.DEADLINE_EXCEEDED
        assert service.entered == service.left


async def test_the_longest_timeout_is_no_trouble():
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.call(grpc_timeout="99999999H")
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.OK


async def test_malformed_binary_metadata_is_an_invalid_argument():
    async with serving() as connect:
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
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.open()
        peer.h2.send_data(stream_id, body, end_stream=True)
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.INVALID_ARGUMENT


async def test_empty_frames_and_single_bytes_and_padding_make_a_message_like_any_other():
    async with serving() as connect:
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
    async with serving() as connect:
        peer = await connect()
        stream_id = peer.open()
        peer.h2.send_data(stream_id, b"\0" + struct.pack(">I", 1 << 30))
        await peer.flush()
        status, sentence, _ = await peer.status(stream_id)
        assert status is Status.RESOURCE_EXHAUSTED
        assert "1073741824 bytes" in sentence
        assert str(4 * MIB) in sentence


async def test_large_messages_one_after_another_fit_through_the_windows():
    async with serving(stream_window_bytes=65_535, connection_window_bytes=131_070) as connect:
        peer = await connect()
        await peer.until(h2.events.RemoteSettingsChanged)
        peer.h2.increment_flow_control_window(10 * MIB)
        for _ in range(3):
            stream_id, left = peer.open(), b"\0" + struct.pack(">I", MIB) + bytes(MIB)
            peer.h2.increment_flow_control_window(2 * MIB, stream_id)
            while left:
                size = min(peer.h2.local_flow_control_window(stream_id), FRAME_MAX_BYTES, len(left))
                if size:
                    peer.h2.send_data(stream_id, left[:size], end_stream=size == len(left))
                    left = left[size:]
                    await peer.flush()
                else:
                    with anyio.fail_after(30):
                        await peer.receive()
            assert (await peer.status(stream_id))[0] is Status.OK


async def test_a_stream_too_many_is_refused_and_the_others_go_on():
    service = Service()
    async with serving(service, streams_max=3) as connect:
        peer = await connect()
        streams = [peer.call("/test.Raw/Wait") for _ in range(5)]
        await peer.flush()
        for stream_id in streams[3:]:
            reset = await peer.until(h2.events.StreamReset, stream_id)
            assert reset.error_code is ErrorCodes.REFUSED_STREAM
        assert service.entered == 3
        peer.h2.reset_stream(streams[0])
        await peer.flush()
        while not service.left:  # noqa: ASYNC110 the handler's end has no frame
            await anyio.sleep(0.001)
        again = peer.call()
        await peer.flush()
        assert (await peer.status(again))[0] is Status.OK


async def test_a_connection_too_many_is_sent_away():
    async with serving(connections_max=2) as connect:
        first, second, third = [await connect() for _ in range(3)]
        assert await third.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections")
        for peer in (first, second):
            stream_id = peer.call()
            await peer.flush()
            assert (await peer.status(stream_id))[0] is Status.OK


async def test_headers_too_long_end_the_connection():
    async with serving() as connect:
        peer = await connect()
        peer.open(x_long="x" * 20_000)
        await peer.flush()
        assert (await peer.goaway())[0] is ErrorCodes.ENHANCE_YOUR_CALM
        await still_serves(connect)


async def test_an_endless_header_block_ends_the_connection():
    async with serving() as connect:
        peer = await connect()
        await peer.send(HeadersFrame(1, data=b"\x82"))
        for _ in range(1000):
            if not await peer.send(ContinuationFrame(1, data=b"\x82")):
                break
        assert (await peer.goaway())[0] is ErrorCodes.PROTOCOL_ERROR
        await still_serves(connect)


async def test_a_frame_too_long_is_refused_before_it_has_arrived():
    async with serving() as connect:
        peer = await connect()
        frame = DataFrame(1, data=bytes(MIB)).serialize()
        await peer.send(frame[:10_000])
        assert (await peer.goaway())[0] is ErrorCodes.FRAME_SIZE_ERROR
        await still_serves(connect)


FLOODS = {
    "ping": lambda: PingFrame(0, b"12345678").serialize(),
    "settings": lambda: SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 70_000}).serialize(),
    "empty data": lambda: DataFrame(1).serialize(),
    "unknown frames": lambda: b"\0\0\0\xfa\0\0\0\0\0",
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_control_frames_ends_the_connection(flood):
    async with serving() as connect:
        peer = await connect()
        peer.open("/test.Raw/Wait")
        await peer.flush()
        async with anyio.create_task_group() as tasks:

            async def pour():
                for _ in range(50):
                    if not await peer.send(FLOODS[flood]() * 1000):
                        return

            tasks.start_soon(pour)
            assert await peer.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many control frames")
            tasks.cancel_scope.cancel()
        await still_serves(connect)


async def test_some_frames_of_unknown_type_are_ignored():
    async with serving() as connect:
        peer = await connect()
        await peer.send(FLOODS["unknown frames"]() * 10)
        stream_id = peer.call()
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.OK


async def test_pings_that_follow_data_are_free():
    async with serving(controls_max=5) as connect:
        peer = await connect()
        for _ in range(50):
            stream_id = peer.call()
            await peer.flush()
            assert (await peer.status(stream_id))[0] is Status.OK
            await peer.send(PingFrame(0, b"12345678"))


async def test_resets_beyond_the_budget_end_the_connection_and_every_handler():
    service = Service()
    async with serving(service, resets_max=10) as connect:
        peer = await connect()
        for _ in range(12):
            peer.h2.reset_stream(peer.call("/test.Raw/Wait"))
            await peer.flush()
        assert await peer.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many streams reset")
        await still_serves(connect)
    assert service.entered == service.left


async def test_garbage_is_hung_up_on():
    async with serving() as connect:
        async with await anyio.connect_tcp(*(await connect()).address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with anyio.fail_after(30), pytest.raises(anyio.EndOfStream):
                while True:
                    await stream.receive()
        await still_serves(connect)


async def test_a_stream_that_is_not_read_waits_and_ends_with_its_connection():
    service = Service()
    async with serving(service) as connect:
        peer = await connect()
        peer.h2.increment_flow_control_window(1 << 30)
        for _ in range(3):
            peer.h2.increment_flow_control_window(1 << 30, peer.call("/test.Raw/Pour"))
        await peer.flush()
        before = -1
        while before != service.sent:  # until the kernel's buffers and ours are full
            before = service.sent
            await anyio.sleep(0.2)
        assert service.sent < 100
        await peer.stream.aclose()
        with anyio.fail_after(30):
            while service.left < 3:  # noqa: ASYNC110 the handlers' end has no frame
                await anyio.sleep(0.001)


# What the limits are worth is memory, measured at its peak in a process of its own.

SERVER = """
import anyio, sys
from grpclib.const import Cardinality, Handler
from derny.api.connection import Limits
from derny.api.server import RAW, Server

class Raw:
    def __mapping__(self):
        return {"/test.Raw/Say": Handler(self.say, Cardinality.UNARY_UNARY, bytes, bytes)}
    async def say(self, stream):
        await stream.send_message(await stream.recv_message())

async def main():
    async with anyio.create_task_group() as tasks:
        server = Server([Raw()], RAW, Limits(), b"")
        print(*await server.start(tasks, "127.0.0.1", 0), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        await server.close(0)

anyio.run(main, backend_options={"use_uvloop": USE_UVLOOP})
"""


@pytest.fixture
def elsewhere(anyio_backend):
    """A server in another process: its port, and a function that tells its peak memory in bytes."""
    script = SERVER.replace("USE_UVLOOP", str(anyio_backend[1]["use_uvloop"]))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        status = Path(f"/proc/{process.pid}/status")

        def peak_bytes():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024

        yield int(process.stdout.readline().split()[1]), peak_bytes
        process.stdin.close()
        assert process.wait(30) == 0


async def growth(elsewhere, attack):
    """How much the server's peak grew by an attack, after which it must still serve."""
    port, peak_bytes = elsewhere
    async with connecting("127.0.0.1", port) as connect:
        for _ in range(20):
            await still_serves(connect)
        before = peak_bytes()
        await attack(await connect())
        after = peak_bytes()
        await still_serves(connect)
        return after - before


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@needs_proc
@pytest.mark.parametrize("at_once", [1, 90])
async def test_twenty_thousand_resets_cost_less_than_ten_megabytes(elsewhere, at_once):
    """CVE-2023-44487, in one stream of bytes, as fast as the socket takes it; one by one and in waves."""

    async def attack(peer):
        calls = bytearray(peer.h2.data_to_send())
        for _ in range(20_000 // at_once):
            for stream_id in [peer.open() for _ in range(at_once)]:
                peer.h2.reset_stream(stream_id)
            calls += peer.h2.data_to_send()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.send, bytes(calls))
            # Our own h2 has closed these streams, so the frames are looked at by number only.
            assert await peer.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many streams reset")
            tasks.cancel_scope.cancel()

    assert await growth(elsewhere, attack) < 10 * MIB


@needs_proc
async def test_a_gigabyte_that_was_refused_is_not_kept(elsewhere):
    async def attack(peer):
        stream_id = peer.open()
        await peer.flush()
        body = b"\0" + struct.pack(">I", 1 << 30)
        await peer.send(DataFrame(stream_id, data=body))
        frames = DataFrame(stream_id, data=bytes(FRAME_MAX_BYTES)).serialize() * 64
        async with anyio.create_task_group() as tasks:

            async def read():
                while True:
                    await peer.stream.receive()

            tasks.start_soon(read)
            for _ in range(100):  # MiB, whatever the windows say
                if not await peer.send(frames):
                    break
            tasks.cancel_scope.cancel()

    assert await growth(elsewhere, attack) < 10 * MIB


@needs_proc
async def test_a_message_in_single_bytes_costs_its_bytes(elsewhere):
    """A million frames of one byte, all of a message that never ends."""

    async def attack(peer):
        stream_id = peer.open()
        await peer.flush()
        await peer.send(DataFrame(stream_id, data=b"\0" + struct.pack(">I", 4 * MIB)))
        frames = DataFrame(stream_id, data=b"x").serialize() * 1000
        for _ in range(100):
            assert await peer.send(frames)
        peer.h2.ping(b"are you ")
        await peer.flush()
        await peer.until(h2.events.PingAckReceived)

    assert await growth(elsewhere, attack) < 10 * MIB


@needs_proc
async def test_replies_that_nobody_reads_are_not_kept(elsewhere):
    async def attack(peer):
        # Frames on a stream that is over, each answered by RST_STREAM, whatever the peer's budget.
        stream_id = peer.call()
        await peer.flush()
        await peer.status(stream_id)
        frames = DataFrame(stream_id).serialize() * 10_000
        for _ in range(1000):
            with anyio.move_on_after(10) as patience:
                if not await peer.send(frames):
                    return
            assert not patience.cancelled_caught, "the server has stopped reading without hanging up"

    assert await growth(elsewhere, attack) < 10 * MIB


async def test_a_budget_fills_up_again_evenly():
    now = 0.0
    budget = Budget(10, 5.0, lambda: now)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    now = 1.0
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


async def test_an_inbox_acknowledges_what_its_reader_asks_for_and_nothing_ahead():
    acked = []
    inbox = Inbox(acked.append)
    inbox.add(b"abcdefgh", 10)
    assert await inbox.read(3) == b"abc"
    assert sum(acked) == 0
    assert await inbox.read(5) == b"defgh"
    assert sum(acked) == 10
    inbox.add(b"xy", 2)
    inbox.eof()
    assert await inbox.read(5) == b"xy"
    assert await inbox.read(5) == b""
    inbox.add(b"late", 4)
    assert (inbox.unacked_size(), inbox.unacked_size()) == (4, 0)


async def test_those_behind_a_gate_look_again_when_it_opens():
    """The first through closes it; the second must stay."""
    gate, passed = Gate(), []

    async def go(name):
        await gate.wait()
        gate.clear()
        passed.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go, "first")
        tasks.start_soon(go, "second")
        await anyio.wait_all_tasks_blocked()
        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert len(passed) == 1
        gate.set()
    assert sorted(passed) == ["first", "second"]
    assert asyncio.Event.wait is not Gate.wait
