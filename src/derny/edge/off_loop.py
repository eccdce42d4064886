"""Heavy translations of messages run in a worker thread, so that the loop goes on turning meanwhile.

One rule: there is one such thread, whatever is asked of it. The interpreter runs one thread at a time anyway,
so a second one would only double what the loop waits for its turn. `edge.call` reads large requests with it;
the services may use it where they turn a large message into something else. What runs there must not touch
anything that belongs to the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import betterproto2

T = TypeVar("T")

INLINE_MAX_BYTES = 32 * 1024
"""What is translated on the loop: reading takes 60 µs per KiB of ordinary messages, and 320 of the worst, so
2 ms and 10 ms at most. The way to the thread and back costs a tenth of a millisecond."""

_CONTAINERS: Final = (betterproto2.Message, list, dict)

_thread = ThreadPoolExecutor(1, thread_name_prefix="off-loop")


async def off_loop(size: int, work: Callable[..., T], *args: object) -> T:
    """What `work(*args)` returns or raises, run in the thread if a message of `size` bytes makes it heavy.

    Cancelling doesn't wait for the thread: what has begun ends there unheard, what waits is dropped at once,
    and its arguments with it.
    """
    if size <= INLINE_MAX_BYTES:
        return work(*args)
    waiting = [partial(work, *args)]
    running = _thread.submit(lambda: waiting.pop()())
    try:
        return await asyncio.wrap_future(running)
    except asyncio.CancelledError:
        # The executor's queue keeps what was cancelled until its turn comes, which is the empty list now.
        if running.cancel():
            waiting.clear()
        raise


def take_apart(message: object) -> None:
    """Free a large message bit by bit: dropped whole, millions of parts are freed in one go that nothing
    interrupts.

    The message is empty afterwards; nobody else may still need it.
    """
    parts = [message]
    while parts:
        part = parts.pop()
        if isinstance(part, betterproto2.Message):
            parts += [value for value in vars(part).values() if isinstance(value, _CONTAINERS)]
            vars(part).clear()
        elif isinstance(part, dict):
            parts += part.values()
            part.clear()
        elif isinstance(part, list):
            parts += part
            part.clear()
