"""Event ↔ bytes: one blob holds all events of a turn.

One rule: what any release has written is read for ever, so a decoder only ever learns more. MessagePack by
msgspec, whose tagged structs carry their own names and tolerate fields added at the end.
"""

from collections.abc import Sequence

import msgspec

from derny.core.events import Event

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Event])


def encode(events: Sequence[Event]) -> bytes:
    """The events of one turn, in order."""
    return _ENCODER.encode(events)


def decode(blob: bytes) -> list[Event]:
    """The events of one turn; msgspec.DecodeError when the blob was not written by `encode`."""
    return _DECODER.decode(blob)
