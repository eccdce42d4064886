"""Where work is done by its size, how much at once, and what becomes of it when nobody waits any more."""

import asyncio
import gc
import threading
import weakref

import anyio
import pytest

from derny.edge.off_loop import INLINE_MAX_BYTES, off_loop, take_apart
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.proto.peloton.api.v1alpha.pod import PodSpec

pytestmark = pytest.mark.anyio

HEAVY = INLINE_MAX_BYTES + 1


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


class Step:
    """Work that ends when it may, and tells when it has begun."""

    def __init__(self):
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.may_end.wait(30)


async def until(event):
    with anyio.fail_after(30):
        while not event.is_set():  # noqa: ASYNC110 a thread sets no event of the loop
            await anyio.sleep(0.001)


async def test_light_work_is_done_here_and_heavy_work_elsewhere():
    here = threading.current_thread()
    assert await off_loop(INLINE_MAX_BYTES, threading.current_thread) is here
    assert await off_loop(HEAVY, threading.current_thread) is not here


@pytest.mark.parametrize("size", [0, HEAVY])
async def test_results_and_errors_come_back(size):
    assert await off_loop(size, divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        await off_loop(size, divmod, 17, 0)


async def test_one_thing_is_done_at_a_time_in_the_order_of_asking():
    first, done = Step(), []

    async def second():
        await off_loop(HEAVY, done.append, "second")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(off_loop, HEAVY, first)
        await until(first.begun)
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        assert not done
        first.may_end.set()
    assert done == ["second"]


async def test_what_has_begun_is_not_waited_for_when_cancelled():
    step = Step()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(off_loop, HEAVY, step)
        await until(step.begun)
        tasks.cancel_scope.cancel()
    assert not step.may_end.is_set()
    step.may_end.set()
    assert await off_loop(HEAVY, len, "next") == 4


async def test_what_waits_is_dropped_when_cancelled_and_its_arguments_at_once():
    """They may be megabytes, and the thread may be busy for long."""

    class Message:
        pass

    busy, message, read = Step(), Message(), []
    kept = weakref.ref(message)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(off_loop, HEAVY, busy)
        await until(busy.begun)
        waiting = asyncio.ensure_future(off_loop(HEAVY, read.append, message))
        await anyio.wait_all_tasks_blocked()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del message, waiting
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        try:
            assert kept() is None
        finally:
            busy.may_end.set()
    assert await off_loop(HEAVY, len, "next") == 4
    assert not read


def test_a_message_that_is_taken_apart_leaves_nothing_behind():
    """Parts in lists, in maps and in fields, at any depth; each is let go by itself."""
    pods = [PodSpec(labels=[Label("k", str(n)) for n in range(3)]) for _ in range(2)]
    spec = JobSpec(
        labels=[Label("k", "v")], default_spec=pods[0], instance_spec={7: pods[1]}, ldap_groups=["a", "b"]
    )
    labels = [weakref.ref(label) for label in (*spec.labels, *pods[0].labels, *pods[1].labels)]
    containers = (spec.labels, spec.instance_spec, spec.ldap_groups, pods[0].labels, pods[1].labels)
    take_apart(spec)
    assert not any(containers)
    assert [vars(part) for part in (spec, *pods)] == [{}, {}, {}]
    assert [label() for label in labels] == [None] * 7
