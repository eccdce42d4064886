"""The bytes of a connection on their way in and out: what a stream has received, and what awaits the socket.

One rule: bytes are held flat and counted, and never more than the connection's limits allow: a reader's
window grows only as it reads, and a peer that leaves too many replies unread is cut off. Nothing here knows
of frames or calls. `edge.connection` gives each stream an `Inbox`, and itself one `Outlet` and one `Gate`.
"""

import asyncio
from collections.abc import Callable

from grpclib.protocol import Buffer

WRITE_NOW_BYTES = 64 * 1024
"""Replies are gathered until the loop comes round, or until there is this much: three writes to the kernel a
call become one, or less, which saves about an eighth of a small call's processor time."""


class Inbox(Buffer):
    """The bytes received on one stream, flat, acknowledged to the peer as a reader asks for them.

    grpclib's own keeps an object for every frame, so that 4 MiB in one-byte frames cost a gigabyte, and takes
    an empty DATA frame for the end of the stream.
    """

    def __init__(self, ack: Callable[[int], None]) -> None:
        # Not super().__init__: its queue would be made for every call, and never used.
        self._ack = ack
        self._data = bytearray()
        self._owed_bytes = 0
        self._ended = False
        self._grew = asyncio.Event()

    def add(self, data: bytes, ack_size: int) -> None:
        self._data += data
        self._owed_bytes += ack_size
        self._grew.set()

    def eof(self) -> None:
        self._ended = True
        self._grew.set()

    async def read(self, size: int) -> bytes:
        """The next `size` bytes, or fewer when the stream has ended before."""
        while len(self._data) < size and not self._ended:
            self._settle()
            self._grew.clear()
            await self._grew.wait()
        taken = bytes(self._data[:size])
        del self._data[:size]
        if not self._data:
            self._settle()
        return taken

    def unacked_size(self) -> int:
        """What is still owed to the peer's window; the caller pays it, once, when the stream is let go."""
        owed, self._owed_bytes = self._owed_bytes, 0
        return owed

    def _settle(self) -> None:
        self._ack(self.unacked_size())


class Gate(asyncio.Event):
    """An event whose waiters look again when they wake.

    The streams that wait for a congested transport all wake at once, and the first to write may congest it
    again.
    """

    async def wait(self) -> bool:  # type: ignore[override]  # asyncio's stub says Literal[True]
        while not self.is_set():
            await super().wait()
        return True


class Outlet(asyncio.Transport):
    """A transport that gathers small writes, says its last words before it closes, and never hoards what is
    unread."""

    def __init__(self, transport: asyncio.Transport, unread_max_bytes: int, linger_s: float) -> None:
        super().__init__()
        self._transport = transport
        self._unread_max_bytes = unread_max_bytes
        self._linger_s = linger_s
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._closing = False
        self._cut: asyncio.TimerHandle | None = None

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self.is_closing():
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(bytes(data))
        self._pending_bytes += len(data)
        if self._pending_bytes >= WRITE_NOW_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._pending or self._transport.is_closing():
            return
        self._transport.write(b"".join(self._pending))
        self._pending.clear()
        self._pending_bytes = 0
        if self._transport.get_write_buffer_size() > self._unread_max_bytes:
            self.abort()

    def close(self) -> None:
        """Send what there is and the end of the stream, then wait a moment for the peer to hang up.

        A socket closed with unread input is reset by the kernel, and the peer might never read our GOAWAY.
        """
        if self.is_closing():
            return
        self._flush()
        self._closing = True
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except OSError:  # the peer has hung up, and asyncio's transport hasn't noticed yet
            self._transport.abort()
        else:
            self._cut = self._loop.call_later(self._linger_s, self._transport.abort)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def lost(self) -> None:
        """The connection is gone: nothing is to be written or cut any more."""
        self._closing = True
        self._pending.clear()
        if self._cut is not None:
            self._cut.cancel()
