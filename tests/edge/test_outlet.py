"""Bytes in and out of a connection: windows, gates, and peers that don't read."""

import asyncio
import socket

import anyio
import anyio.lowlevel
import pytest

from derny.edge.outlet import Gate, Inbox, Outlet
from raw_http2 import Raw, serving_raw

pytestmark = pytest.mark.anyio

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


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


async def test_streams_behind_a_congested_line_do_not_flood_it_when_it_clears():
    """A hundred streams wake at once, each with a frame of 16 KiB: six times what may be unread."""
    async with serving_raw(Raw(), unread_max_bytes=256 * KIB) as connect:
        peer = await connect()
        peer.h2.increment_flow_control_window(1 << 30)
        for _ in range(100):
            peer.h2.increment_flow_control_window(1 << 30, peer.call("/test.Raw/Pour"))
        await peer.flush()
        received_bytes = 0
        with anyio.fail_after(60):
            while received_bytes < 20 * MIB:
                received_bytes += len(await peer.stream.receive())


@pytest.fixture
async def line():
    """An outlet that lets 100 KiB be unread, and the other end, which doesn't read by itself."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    with theirs:
        yield Outlet(transport, unread_max_bytes=100 * KIB, linger_s=30.0), theirs
        transport.abort()
        await anyio.lowlevel.checkpoint()


async def test_a_peer_that_leaves_too_much_unread_is_cut_off(line):
    outlet, _ = line
    for _ in range(100):
        outlet.write(bytes(10 * KIB))
        if outlet.is_closing():
            break
        await anyio.lowlevel.checkpoint()
    assert outlet.is_closing()


async def test_what_may_be_unread_is_kept_for_the_peer(line):
    outlet, theirs = line
    outlet.write(b"x" * 90 * KIB)
    await anyio.lowlevel.checkpoint()
    assert not outlet.is_closing()
    outlet.close()

    def read():
        theirs.settimeout(30)
        return b"".join(iter(lambda: theirs.recv(64 * KIB), b""))

    assert await anyio.to_thread.run_sync(read) == b"x" * 90 * KIB
