"""The edge as a hostile client sees it: raw HTTP/2 frames, limits and budgets. Over a real socket."""

import struct
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.events
import pytest
from grpclib.const import Status
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, SettingsFrame

from derny.edge.connection import FRAME_MAX_BYTES, MIB, Budget
from raw_http2 import Raw, connecting, serving_raw, still_serves

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


async def test_the_first_frame_announces_the_limits():
    async with serving_raw(streams_max=7, headers_max_bytes=9000) as connect:
        peer = await connect()
        await peer.until(h2.events.RemoteSettingsChanged)
        assert peer.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 7
        assert peer.h2.remote_settings[SettingCodes.MAX_HEADER_LIST_SIZE] == 9000


async def test_large_messages_one_after_another_fit_through_the_windows():
    async with serving_raw(stream_window_bytes=65_535, connection_window_bytes=131_070) as connect:
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
    service = Raw()
    async with serving_raw(service, streams_max=3) as connect:
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
    async with serving_raw(connections_max=2) as connect:
        first, second, third = [await connect() for _ in range(3)]
        assert await third.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many connections")
        for peer in (first, second):
            stream_id = peer.call()
            await peer.flush()
            assert (await peer.status(stream_id))[0] is Status.OK


async def test_headers_too_long_end_the_connection():
    async with serving_raw() as connect:
        peer = await connect()
        peer.open(x_long="x" * 20_000)
        await peer.flush()
        assert (await peer.goaway())[0] is ErrorCodes.ENHANCE_YOUR_CALM
        await still_serves(connect)


async def test_an_endless_header_block_ends_the_connection():
    async with serving_raw() as connect:
        peer = await connect()
        await peer.send(HeadersFrame(1, data=b"\x82"))
        for _ in range(1000):
            if not await peer.send(ContinuationFrame(1, data=b"\x82")):
                break
        assert (await peer.goaway())[0] is ErrorCodes.PROTOCOL_ERROR
        await still_serves(connect)


async def test_a_frame_too_long_is_refused_before_it_has_arrived():
    async with serving_raw() as connect:
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
    async with serving_raw() as connect:
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
    async with serving_raw() as connect:
        peer = await connect()
        await peer.send(FLOODS["unknown frames"]() * 10)
        stream_id = peer.call()
        await peer.flush()
        assert (await peer.status(stream_id))[0] is Status.OK


async def test_pings_that_follow_data_are_free():
    async with serving_raw(controls_max=5) as connect:
        peer = await connect()
        for _ in range(50):
            stream_id = peer.call()
            await peer.flush()
            assert (await peer.status(stream_id))[0] is Status.OK
            await peer.send(PingFrame(0, b"12345678"))


async def test_resets_beyond_the_budget_end_the_connection_and_every_handler():
    service = Raw()
    async with serving_raw(service, resets_max=10) as connect:
        peer = await connect()
        for _ in range(12):
            peer.h2.reset_stream(peer.call("/test.Raw/Wait"))
            await peer.flush()
        assert await peer.goaway() == (ErrorCodes.ENHANCE_YOUR_CALM, b"too many streams reset")
        await still_serves(connect)
    assert service.entered == service.left


async def test_garbage_is_hung_up_on():
    async with serving_raw() as connect:
        async with await anyio.connect_tcp(*(await connect()).address) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with anyio.fail_after(30), pytest.raises(anyio.EndOfStream):
                while True:
                    await stream.receive()
        await still_serves(connect)


async def test_a_stream_that_is_not_read_waits_and_ends_with_its_connection():
    service = Raw()
    async with serving_raw(service) as connect:
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
from derny.edge.connection import Limits
from derny.edge.call import RAW
from derny.edge.server import Server

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
            assert peak_bytes() - before < 10 * MIB
            with anyio.move_on_after(10) as patience:
                if not await peer.send(frames):
                    return
            assert not patience.cancelled_caught, "the server has stopped reading without hanging up"

    _, peak_bytes = elsewhere
    before = peak_bytes()
    assert await growth(elsewhere, attack) < 10 * MIB


async def test_a_budget_fills_up_again_evenly():
    now = 0.0
    budget = Budget(10, 5.0, lambda: now)
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
    now = 1.0
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]
