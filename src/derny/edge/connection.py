"""One HTTP/2 connection: grpclib's, with a limit on everything that a peer can make it hold or do.

One rule: whatever a peer sends, a connection's memory is bounded by `Limits`, and a peer that goes beyond is
told so (RFC 9113: RST_STREAM or GOAWAY) before the line is cut. Calls and statuses are `edge.call`'s
business; `edge.server` makes one `GuardedProtocol` for each connection it accepts. grpclib brings the event
processing and h2 the protocol; both are extended here in places that their public interface does not reach,
so their versions are pinned and each place has a test.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import msgspec
from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol, Stream
from grpclib.utils import Wrapper
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from derny.edge.outlet import WRITE_NOW_BYTES, Gate, Inbox, Outlet
from derny.model.errors import Exhausted

KIB = 1024
MIB = 1024 * KIB

FRAME_MAX_BYTES = 16 * KIB
"""The largest frame taken in: the least that RFC 9113 §4.2 allows, and what every client sends by default."""

SLICE_BYTES = 16 * KIB
"""What h2 is fed at once. It turns all it is given into streams and events before anybody can count them, so
a 256 KiB read of the smallest HEADERS frames would otherwise become 28,000 streams before the first is
refused."""

STREAMS_SLICE_MAX = SLICE_BYTES // 9 + 1
"""How many streams one slice can open: a frame is 9 bytes at least."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one daemon lets its peers do. A peer meets them as statuses, RST_STREAM or GOAWAY."""

    connections_max: int = 1_000
    """An idle connection is a file and some 50 KiB; the usual soft limit on open files is 1,024."""

    streams_max: int = 1_000
    """Calls at once on one connection: as many as there may be watches, which one client may all hold."""

    message_max_bytes: int = 4 * MIB
    """One request message; gRPC's customary default. It is compared with the announced length, before the
    body."""

    messages_max_bytes: int = 64 * MIB
    """Announced lengths of all half-received messages of one connection: 16 of the largest at once."""

    stream_window_bytes: int = 1 * MIB
    """What a peer may send on a stream that nobody reads."""

    connection_window_bytes: int = 4 * MIB
    """The same for all streams of a connection together."""

    headers_max_bytes: int = 16 * KIB
    """The header list of one request, unpacked. gRPC asks for 8 KiB; tracing headers like some more."""

    resets_max: int = 1_000
    """Calls that a peer may abandon in one breath (CVE-2023-44487): all that it can have open."""

    controls_max: int = 1_000
    """PING, SETTINGS, unknown and empty DATA frames in one breath (CVE-2019-9512, -9515, -9518)."""

    refill_s: float = 10.0
    """How long the two budgets above take to fill up again."""

    unread_max_bytes: int = 1 * MIB
    """Replies which the peer does not read. Messages wait for the peer, so this much is only replies to
    frames."""

    linger_s: float = 1.0
    """How long a closed connection may take to read its last words, before it is cut."""


class Budget:
    """A number of things that may happen at once, filling up again evenly over `refill_s` seconds."""

    def __init__(self, size: int, refill_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._rate_per_s = size / refill_s
        self._clock = clock
        self._left: float = size
        self._as_of = clock()

    def spend(self) -> bool:
        """Take one; False if there is none left."""
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._as_of) * self._rate_per_s)
        self._as_of = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RememberingLess(H2Connection):
    """h2's connection, remembering fewer streams that are over."""

    MAX_CLOSED_STREAMS = 4 * KIB
    """For frames that cross our RST_STREAM on the way. The library's 65,536 are 7 MB for each busy
    connection."""


class GuardedStream(Stream):
    """grpclib's stream with a flat inbox."""

    def init_stream(self, stream_id: int, connection: Connection) -> None:
        self.id = stream_id
        self.buffer = Inbox(partial(connection.ack, stream_id))
        connection.streams_started += 1
        self.created = connection.last_stream_created = time.monotonic()


class GuardedConnection(Connection):
    """grpclib's connection, which knows how much of half-received messages it has let in."""

    def __init__(self, h2: H2Connection, outlet: Outlet, config: Configuration, limits: Limits) -> None:
        super().__init__(h2, outlet, config=config)
        self.write_ready = Gate()
        self.write_ready.set()
        self._messages_max_bytes = limits.messages_max_bytes
        self._held_bytes = 0

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> Stream:
        return GuardedStream(self, self._connection, self._transport, stream_id=stream_id, wrapper=wrapper)

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Account for a message of this announced size while it comes in; raises `Exhausted`."""
        if self._held_bytes + size > self._messages_max_bytes:
            raise Exhausted(
                f"this connection has {self._held_bytes} bytes of messages under way already and may not add "
                f"{size}; at most {self._messages_max_bytes} are accepted at once"
            )
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size


class GuardedEvents(EventsProcessor):
    """grpclib's event processing, with every cheap way of making work counted."""

    connection: GuardedConnection

    def __init__(
        self,
        handler: AbstractHandler,
        connection: GuardedConnection,
        h2: H2Connection,
        limits: Limits,
        give_up: Callable[[ErrorCodes, str], None],
    ) -> None:
        super().__init__(handler, connection)
        self._h2 = h2
        self._limits = limits
        self._give_up = give_up
        self._resets = Budget(limits.resets_max, limits.refill_s)
        self._controls = Budget(limits.controls_max, limits.refill_s)
        self._sent_bytes = 0
        self._window_grew = False
        self._over: set[int] = set()

    def foresee(self, events: list[Event]) -> None:
        """Look through a slice's events before they are processed: what is opened and reset in it never
        begins."""
        self._over = {event.stream_id for event in events if isinstance(event, StreamReset)}

    def process(self, event: Event) -> None:
        if type(event) in self.processors:
            super().process(event)
        else:
            # Frames of unknown type must be ignored (RFC 9113 §5.5), where grpclib would raise.
            self._count_control()

    def process_request_received(self, event: RequestReceived) -> None:
        # Calls that are over for the peer but not for us count too, so cancelling is no way around the limit.
        if event.stream_id in self._over:
            self._count_reset()
        elif len(self.streams) >= self._limits.streams_max:
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            self._count_reset()
        else:
            super().process_request_received(event)

    def process_stream_reset(self, event: StreamReset) -> None:
        if event.stream_id in self.streams:
            self._count_reset()
        super().process_stream_reset(event)

    def process_data_received(self, event: DataReceived) -> None:
        if event.flow_controlled_length:
            super().process_data_received(event)
        elif event.stream_ended is None:
            self._count_control()

    def process_ping_received(self, event: PingReceived) -> None:
        self._count_control()

    def process_remote_settings_changed(self, event: RemoteSettingsChanged) -> None:
        super().process_remote_settings_changed(event)
        # A peer may allow us tables and frames as large as it likes; filling them would be our memory.
        self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, 4 * KIB)
        self._h2.max_outbound_frame_size = min(self._h2.max_outbound_frame_size, WRITE_NOW_BYTES)
        self._count_control()

    def process_window_updated(self, event: WindowUpdated) -> None:
        if event.stream_id:
            super().process_window_updated(event)
        else:
            self._window_grew = True

    def wake_senders(self) -> None:
        """Wake the streams that wait for the connection's window: once a slice, however many updates it
        had."""
        if self._window_grew:
            self._window_grew = False
            for stream in self.streams.values():
                stream.window_updated.set()

    def _count_reset(self) -> None:
        if not self._resets.spend():
            self._give_up(ErrorCodes.ENHANCE_YOUR_CALM, "too many streams reset")

    def _count_control(self) -> None:
        # Clients measure the line with a PING for what they receive, so a frame after data costs nothing.
        if self.connection.data_sent != self._sent_bytes:
            self._sent_bytes = self.connection.data_sent
        elif not self._controls.spend():
            self._give_up(ErrorCodes.ENHANCE_YOUR_CALM, "too many control frames")


class GuardedProtocol(H2Protocol):
    """One accepted connection, known to `peers` from its first byte to its last."""

    outlet: Outlet
    connection: GuardedConnection
    processor: GuardedEvents

    def __init__(self, handler: AbstractHandler, limits: Limits, peers: "set[GuardedProtocol]") -> None:
        # Headers are validated by the call; latin-1 because it decodes whatever bytes a peer puts there.
        h2_config = H2Configuration(
            client_side=False,
            header_encoding="latin-1",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        super().__init__(handler, Configuration().__for_server__(), h2_config)
        self._limits = limits
        self._peers = peers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers.add(self)
        self.outlet = Outlet(
            cast(asyncio.Transport, transport), self._limits.unread_max_bytes, self._limits.linger_s
        )
        self._h2 = self._open_h2()
        self.connection = GuardedConnection(self._h2, self.outlet, self.config, self._limits)
        self.connection.flush()
        self.connection.initialize()
        self.processor = GuardedEvents(self.handler, self.connection, self._h2, self._limits, self.give_up)
        if len(self._peers) > self._limits.connections_max:
            self.give_up(ErrorCodes.ENHANCE_YOUR_CALM, "too many connections")

    def _open_h2(self) -> H2Connection:
        """An h2 connection that has announced our limits in its first frame."""
        h2, limits = RememberingLess(config=self.h2_config), self._limits
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams_max,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.headers_max_bytes,
                SettingCodes.MAX_FRAME_SIZE: FRAME_MAX_BYTES,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
            },
        )
        h2.decoder.max_header_list_size = limits.headers_max_bytes
        h2.max_inbound_frame_size = FRAME_MAX_BYTES
        h2.initiate_connection()
        h2.increment_flow_control_window(limits.connection_window_bytes - h2.inbound_flow_control_window)
        # h2 ends the connection of a peer that opens a stream too many, who may just not have read our
        # settings yet. GuardedEvents refuses that stream instead; h2 has to bear with what one slice can
        # open.
        h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.streams_max + STREAMS_SLICE_MAX
        h2.local_settings.acknowledge()
        return h2

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if self.outlet.is_closing():
                return
            self._receive(data[start : start + SLICE_BYTES])

    def _receive(self, data: bytes) -> None:
        try:
            events = self.connection.feed(data)
        except ProtocolError:
            self.connection.flush()  # h2 has prepared a GOAWAY with the reason
            self.processor.close("Protocol error")
            return
        self.processor.foresee(events)
        for event in events:
            self.processor.process(event)
            if self.outlet.is_closing():
                return
        # h2 looks at a frame's length once it has the whole of it, which may be 16 MiB; we look at its
        # header.
        if int.from_bytes(self._h2.incoming_buffer._data[:3], "big") > FRAME_MAX_BYTES:
            self.give_up(ErrorCodes.FRAME_SIZE_ERROR, "frame too long")
            return
        self.processor.wake_senders()
        self.connection.flush()

    def give_up(self, code: ErrorCodes, reason: str) -> None:
        """Say GOAWAY and why, and end the connection with all its calls."""
        if not self.outlet.is_closing():
            self._h2.close_connection(code, additional_data=reason.encode())
            self.connection.flush()
            self.processor.close(reason)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._peers.discard(self)
        self.outlet.lost()
        super().connection_lost(exc)
        self.connection.resume_writing()  # those that wait with their last words shall wait no longer
