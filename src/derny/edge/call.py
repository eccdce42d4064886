"""One gRPC call, from its headers to its trailers; the one place where a refusal becomes a status.

One rule: every call ends with a status and a plain sentence; what the handlers raise never reaches a client
as a traceback or as UNKNOWN. `edge.server` makes a `Call` for each stream that a connection accepts and runs
it; the handlers get its `CallStream`. Sources: gRPC over HTTP2 ("Requests", "Responses"), RFC 9113 §8.1.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Set
from functools import partial
from typing import Any

import anyio
import msgspec
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline, decode_metadata, encode_grpc_message
from grpclib.protocol import Stream as H2Stream
from grpclib.server import Stream
from h2.exceptions import ProtocolError

from derny.edge.connection import GuardedConnection
from derny.edge.off_loop import INLINE_MAX_BYTES, off_loop, take_apart
from derny.edge.reflection import HEALTH, SHUTTING_DOWN
from derny.model.errors import (
    Busy,
    Cancelled,
    Exhausted,
    Exists,
    Invalid,
    NotFound,
    Overrun,
    Refusal,
    TooOld,
    Unavailable,
    Unimplemented,
    WrongState,
    WrongVersion,
)

logger = logging.getLogger("derny.edge")

STATUS_OF: dict[type[Refusal], Status] = {
    Invalid: Status.INVALID_ARGUMENT,
    NotFound: Status.NOT_FOUND,
    Exists: Status.ALREADY_EXISTS,
    WrongVersion: Status.ABORTED,  # so that clients read again and repeat
    WrongState: Status.ABORTED,
    Busy: Status.FAILED_PRECONDITION,
    TooOld: Status.OUT_OF_RANGE,
    Overrun: Status.ABORTED,
    Cancelled: Status.CANCELLED,
    Exhausted: Status.RESOURCE_EXHAUSTED,
    Unimplemented: Status.UNIMPLEMENTED,
    Unavailable: Status.UNAVAILABLE,
}

SENTENCE_MAX_BYTES = 1024
"""Of UTF-8, so 3 KiB at most once percent-encoded; some clients take header blocks of 8 KiB and no more."""

TIMEOUT_MAX_DIGITS = 8
"""The gRPC protocol's own limit for `grpc-timeout`; more would overflow the arithmetic."""

Headers = list[tuple[str, str]]
Outcome = tuple[Status, str | None]

TOO_LATE: Outcome = Status.DEADLINE_EXCEEDED, "the caller's deadline passed before the answer"
GOING_DOWN: Outcome = Status.UNAVAILABLE, SHUTTING_DOWN


def status_of(refusal: Refusal) -> Status:
    """The status of the nearest class in the table; a subclass stands with its parent."""
    return next(STATUS_OF[kind] for kind in type(refusal).__mro__ if kind in STATUS_OF)


def shortened(sentence: str) -> str:
    """The sentence as valid Unicode of at most `SENTENCE_MAX_BYTES`, an ellipsis where it was cut."""
    data = sentence.encode("utf-8", "replace")
    if len(data) > SENTENCE_MAX_BYTES:
        data = data[: SENTENCE_MAX_BYTES - len("…".encode())]
        return data.decode("utf-8", "ignore") + "…"
    return data.decode("utf-8")


class RawCodec(CodecBase):
    """For services whose message type is `bytes`: they read and write their messages themselves."""

    __content_subtype__ = "proto"

    def encode(self, message: bytes, message_type: object) -> bytes:
        return message

    def decode(self, data: bytes, message_type: object) -> bytes:
        return data


RAW = RawCodec()

DISPATCH = _DispatchServerEvents()
"""grpclib's hooks, which nobody listens to."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to call, and how its messages are read."""

    methods: Mapping[str, Handler]
    """By path: `/package.Service/Method`."""

    names: Set[str]
    """Of the services, as reflection lists them."""

    codec: CodecBase
    message_max_bytes: int


class CallStream(Stream[Any, Any]):
    """What a handler gets: grpclib's stream, with our limits on what comes in."""

    message_max_bytes: int
    _large: list[object]

    def limit_to(self, message_max_bytes: int) -> None:
        """Before anything is received: how long a message may be."""
        self.message_max_bytes = message_max_bytes
        self._large = []

    @property
    def answered(self) -> bool:
        """Whether the handler has sent what its kind of call owes."""
        owed = not self._cardinality.server_streaming and not self._send_message_done
        return self._send_trailing_metadata_done or self._cancel_done or not owed

    async def recv_message(self) -> Any:
        """The next message, or None once the caller has sent all; a unary request is exactly one.

        Raises:
            Exhausted: the message is announced as longer than the limit; its body has not been read.
            Invalid: the bytes end within a message, are no message of this type, or are one too many or few.
        """
        prefix = await self._stream.recv_data(5)
        unary = not self._cardinality.client_streaming
        if not prefix:
            if unary and not self._messages_received:
                raise Invalid(f"{self._method_name} takes one request message and got none")
            return None
        message = await self._read(prefix)
        self._messages_received += 1
        if unary and await self._stream.recv_data(1):
            raise Invalid(f"{self._method_name} takes one request message and got more")
        return message

    async def _read(self, prefix: bytes) -> Any:
        """The message that follows its prefix. Its bytes are accounted for until they have become one."""
        size = int.from_bytes(prefix[1:], "big")
        if prefix[0]:
            raise _misflagged(prefix[0])
        if size > self.message_max_bytes:
            raise Exhausted(f"the message has {size} bytes; at most {self.message_max_bytes} are accepted")
        connection = self._stream.connection
        assert isinstance(connection, GuardedConnection)
        with connection.holding(size):
            body = await self._stream.recv_data(size)
            if len(prefix) < 5 or len(body) < size:
                raise Invalid(f"the request ends after {len(body)} of the {size} bytes of its message")
            message = await off_loop(size, self._codec.decode, body, self._recv_type)
        if size > INLINE_MAX_BYTES:
            self._large.append(message)
        return message

    async def let_go(self) -> None:
        """Free what was large among the requests, now that the handler is done with it."""
        while self._large:
            await off_loop(INLINE_MAX_BYTES + 1, take_apart, self._large.pop())

    async def finish(self, status: Status, sentence: str | None, extra: Headers) -> None:
        """Send the trailers, unless the handler has, and end the stream."""
        if self._send_trailing_metadata_done or self._cancel_done:
            return
        headers: Headers = []
        if not self._send_initial_metadata_done:
            headers += [(":status", "200"), ("content-type", self._content_type)]
        headers.append(("grpc-status", str(status.value)))
        if sentence:
            headers.append(("grpc-message", encode_grpc_message(shortened(sentence))))
        await self._stream.send_headers(headers + extra, end_stream=True)
        if self._stream.closable:
            # The answer is whole; what the caller may still be sending isn't wanted (RFC 9113 §8.1).
            self._stream.reset_nowait()


def _misflagged(flag: int) -> Refusal:
    """What a message's first byte says besides 0: 1 is compressed; the rest is nothing (gRPC over HTTP2)."""
    if flag == 1:
        return Unimplemented("the message is compressed; expected an uncompressed one, its first byte 0")
    return Invalid(f"the message begins with the flag byte {flag}; expected 0, for an uncompressed message")


class Call:
    """One call, from its headers to its trailers."""

    def __init__(
        self, services: Services, stream: H2Stream, headers: Headers, release: Callable[["Call"], None]
    ) -> None:
        self._services = services
        self._stream = stream
        self._headers = headers
        self._header = dict(headers)
        self._release = release
        self._verdict = TOO_LATE
        self._work = anyio.CancelScope()
        self.path = self._header.get(":path", "")
        self.handler = services.methods.get(self.path)
        self.is_stream = self.handler is not None and self.handler.cardinality.server_streaming
        self.is_health = self.path.startswith(f"/{HEALTH}/")

    def abandon(self) -> None:
        """Nobody listens any more: end the work. The line or stream is closed, so no word of it goes out."""
        self._work.cancel()

    def stop(self) -> None:
        """The server can't wait any longer: end the work, and say so."""
        self._verdict = GOING_DOWN
        self._work.cancel()

    async def run(self) -> None:
        try:
            await self._answer()
        except Exception:
            # The handler's errors are answered; what remains is that the caller has gone before the answer.
            if self._stream.closable:
                logger.exception("%s could not be answered", self.path)
        finally:
            self._release(self)

    async def _answer(self) -> None:
        if http_status := self._http_error():
            await self._stream.send_headers(
                [(":status", str(http_status)), ("content-length", "0")], end_stream=True
            )
            if self._stream.closable:
                self._stream.reset_nowait()
            return
        handler = self.handler or Handler(self._unknown_method, Cardinality.STREAM_STREAM, bytes, bytes)
        stream = CallStream(
            self._stream,
            self.path,
            handler.cardinality,
            handler.request_type,
            handler.reply_type,
            codec=RAW if handler.request_type is bytes else self._services.codec,
            status_details_codec=None,
            dispatch=DISPATCH,
        )
        stream.limit_to(self._services.message_max_bytes)
        extra: Headers = []
        if (encoding := self._header.get("grpc-encoding", "identity")) != "identity":
            extra = [("grpc-accept-encoding", "identity")]
            handler = handler._replace(func=partial(self._unknown_encoding, encoding))
        await stream.finish(*await self._outcome(handler, stream), extra)
        await stream.let_go()

    def _http_error(self) -> int | None:
        """What is wrong before gRPC begins, as an HTTP status (gRPC over HTTP2, "Requests")."""
        if self._header.get(":method") != "POST":
            return 405
        content_type = self._header.get("content-type", "").partition(";")[0].strip().lower()
        return None if content_type in ("application/grpc", "application/grpc+proto") else 415

    async def _outcome(self, handler: Handler, stream: CallStream) -> Outcome:
        """Run the handler, and say how it went."""
        try:
            if self._work.cancel_called:
                return self._verdict
            self._prepare(stream)
            with self._work:
                await handler.func(stream)
            if self._work.cancelled_caught:
                return self._verdict
            if not stream.answered:
                raise RuntimeError(f"{self.path} ended without an answer")
        except Refusal as refusal:
            return status_of(refusal), str(refusal)
        except GRPCError as error:
            if error.status is Status.UNIMPLEMENTED and not error.message:
                return error.status, f"{self.path} is in the contract, but this release does not do it yet"
            return error.status, error.message
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the server's owner wants us gone
            return self._internal_error()  # the handler awaited something that somebody else cancelled
        except ProtocolError:
            # It came to speak after the stream was closed and before its own end had reached it.
            return self._internal_error() if self._stream.closable else self._verdict
        except Exception:
            return self._internal_error()
        return Status.OK, None

    def _internal_error(self) -> Outcome:
        """Log what is being handled, and tell the caller where to find it."""
        reference = uuid.uuid4().hex[:8]
        logger.exception("%s failed, reference %s", self.path, reference)
        return Status.INTERNAL, f"internal error; the daemon's log has the details, reference {reference}"

    def _prepare(self, stream: CallStream) -> None:
        """Read the metadata and the deadline; raises `Invalid`."""
        timeout = self._header.get("grpc-timeout", "")
        try:
            if len(timeout) > TIMEOUT_MAX_DIGITS + 1:
                raise ValueError("too many digits")
            stream.deadline = Deadline.from_headers(self._headers)
        except (ValueError, OverflowError) as error:
            raise Invalid(
                f"grpc-timeout {timeout!r} is not a number of at most {TIMEOUT_MAX_DIGITS} digits "
                f"and one of H, M, S, m, u, n"
            ) from error
        try:
            stream.metadata = decode_metadata(self._headers)
        except ValueError as error:
            raise Invalid(f"a header whose name ends in -bin is not base64: {error}") from error
        if stream.deadline is not None:
            if not stream.deadline.time_remaining():
                raise GRPCError(*TOO_LATE)
            self._work.deadline = anyio.current_time() + stream.deadline.time_remaining()

    async def _unknown_method(self, stream: CallStream) -> None:
        service, _, method = self.path.removeprefix("/").rpartition("/")
        if service in self._services.names:
            raise Unimplemented(f"{service} has no method {method!r}; reflection lists those it has")
        raise Unimplemented(f"there is no service {service!r} here; reflection lists those there are")

    async def _unknown_encoding(self, encoding: str, stream: CallStream) -> None:
        raise Unimplemented(f"messages compressed with {encoding!r} are not accepted; send them as they are")
