"""Compiled, strict encoders and decoders for the betterproto2 message classes.

The one rule: bytes become a message only when they are one, and otherwise the refusal names the place.
betterproto2's own methods stay as they are. `GrpcCodec` plugs this into grpclib for server and client. How a
class becomes two functions is in `api.compiler`, the wire format in `api.wire`.
"""

import struct
from collections.abc import Collection
from typing import Any, TypeVar

import betterproto2
from grpclib.encoding.base import CodecBase

from derny.api.compiler import compiled
from derny.api.wire import DEPTH_LIMIT, FaultError, head_bytes, key_bytes, read_tag, read_varint, skip_value
from derny.model.errors import Invalid
from derny.proto.message_pool import default_message_pool

WIRE_BYTES = "_wire_bytes"  # the attribute under which a received message remembers what it was read from
_M = TypeVar("_M", bound=betterproto2.Message)


class WireError(Invalid):
    """The bytes are no such message, or a value does not fit its field; the sentence names the place."""


def encode(message: betterproto2.Message) -> bytes:
    """The protobuf encoding: fields in ascending number, maps in insertion order, unknown fields last.

    Repeated numbers are always packed: betterproto2's classes do not say which of them are declared
    `[packed=false]` (those of mesos.v1 are), and every parser takes both. Raises WireError for a value that
    does not fit its field.
    """
    cls = type(message)
    try:
        encoded: bytes = compiled("encode", cls)(message)
    except (FaultError, struct.error, OverflowError, UnicodeEncodeError) as error:
        raise WireError(f"{_full_name(cls)}: {error}") from error
    return encoded


def decode(cls: type[_M], data: bytes) -> _M:
    """The message of class `cls` that `data` holds.

    Raises WireError for a truncated message, a varint over 10 bytes or 64 bits, a tag or length over 5 bytes,
    a known field with another wire type than its own (numbers may be packed or not), a string that is not
    UTF-8, a field number of 0 or above 2**29 - 1, unbalanced groups, a well-known type out of its range, and
    more than DEPTH_LIMIT messages inside one another. As proto3 demands, the last of several values wins, but
    submessages are merged, and unknown fields are kept (in `_unknown_fields`, as a bytearray; not those of a
    map entry) and written again by `encode`.
    """
    data = bytes(data)
    try:
        message: _M = compiled("decode", cls)(data, 0, len(data), DEPTH_LIMIT, None)
    except FaultError as fault:
        raise WireError(f"{_full_name(cls)}{fault.path()} at byte {fault.at}: {fault}") from None
    return message


def field_bytes(data: bytes, number: int) -> bytes:
    """The payload of the length-delimited top-level field `number`, verbatim; b"" when it is absent.

    Several occurrences are joined, which is how proto3 merges a submessage: the job spec inside the bytes of
    a CreateJobRequest stays exactly what the client sent. Raises WireError where `data` is malformed.
    """
    payloads, pos, end = [], 0, len(data)
    try:
        while pos < end:
            tag, pos = read_tag(data, pos + 1, data[pos])
            stop = skip_value(data, pos, end, tag, DEPTH_LIMIT)
            if tag == number << 3 | 2:
                length, pos = read_varint(data, pos + 1, data[pos])
                payloads.append(data[pos : pos + length])
            pos = stop
    except (FaultError, IndexError) as error:
        raise WireError(f"the message is malformed at byte {pos}: {error}") from None
    return payloads[0] if len(payloads) == 1 else b"".join(payloads)


def without_fields(data: bytes, numbers: Collection[int]) -> bytes:
    """The message without its top-level fields of these numbers, else verbatim; it is not copied for
    nothing.

    Reading what is left of a job's spec without its pods' specs takes microseconds, whatever its size.
    Raises WireError where `data` is malformed.
    """
    kept, pos, end, start = [], 0, len(data), 0
    try:
        while pos < end:
            tag, value = read_tag(data, pos + 1, data[pos])
            stop = skip_value(data, value, end, tag, DEPTH_LIMIT)
            if tag >> 3 in numbers:
                kept.append(data[start:pos])
                start = stop
            pos = stop
    except (FaultError, IndexError) as error:
        raise WireError(f"the message is malformed at byte {pos}: {error}") from None
    return b"".join([*kept, data[start:]]) if start else data


def delimited(number: int, payload: bytes) -> bytes:
    """A length-delimited field around kept bytes: responses of encoded items are these, joined."""
    return head_bytes(key_bytes(number, 2), len(payload)) + payload


def wire_bytes(message: betterproto2.Message) -> bytes:
    """What `message` was received as, verbatim; its encoding if it was not received but made here."""
    kept: bytes | None = getattr(message, WIRE_BYTES, None)
    return encode(message) if kept is None else kept


class GrpcCodec(CodecBase):
    """grpclib's codec seam. Bytes pass through `encode` as they are, so that kept encodings can be sent."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """The bytes to send. Raises TypeError for a message of another class, WireError as `encode`."""
        if type(message) is bytes:
            return message
        if not isinstance(message, message_type):
            raise TypeError(f"expected a {message_type.__name__}, not a {type(message).__name__}")
        return encode(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """The message received, which remembers `data` for `wire_bytes`. Raises WireError as `decode`."""
        message: betterproto2.Message = decode(message_type, data)
        setattr(message, WIRE_BYTES, data)
        return message


def _full_name(cls: type) -> str:
    url = default_message_pool.type_to_url.get(cls)
    return url.partition("/")[2] if url else cls.__qualname__
