"""Replies that are heavy to make are made off the loop, and leave it encoded.

One rule: what a reply is made of are views and other values, which nobody writes any more, so a thread may
read them. The services call `made` where a reply grows with what a client sent or with the size of the
cluster.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import betterproto2

from derny.api.codec import encode
from derny.edge.off_loop import INLINE_MAX_BYTES, off_loop, take_apart

M = TypeVar("M", bound=betterproto2.Message)


async def made(size: int, make: Callable[..., M], *args: object) -> M:
    """What `make(*args)` returns: about `size` bytes on the wire.

    A large one comes as its encoded bytes, which the codec passes on as they are; a handler can only return
    it.
    """
    if size <= INLINE_MAX_BYTES:
        return make(*args)
    return cast(M, await off_loop(size, _encoded, make, *args))


def _encoded(make: Callable[..., betterproto2.Message], *args: object) -> bytes:
    message = make(*args)
    encoded = encode(message)
    take_apart(message)
    return encoded
