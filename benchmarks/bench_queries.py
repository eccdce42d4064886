"""Long looks and who waits for them: queries over 100,000 jobs and pods, lists, and many lists at once.

The services are called in the process that has them, without a connection, whose client would share the
loop. Meanwhile somebody takes a turn of the event loop after the other: the longest of them is what a call
would have waited for one step of its own; a call needs some ten. Prints a table; takes no arguments.
"""

import asyncio
import gc
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bench_core import LIMITS, POOL, machine_with, turn
from derny.api.jobs import JobService
from derny.core import commands
from derny.journal.store import Journal
from derny.model.ids import JobId
from derny.model.resources import Resources
from derny.model.specs import JobSpec, PodTemplate
from derny.model.states import PodState
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec as JobMessage
from derny.proto.peloton.api.v1alpha.job.stateless import QuerySpec, svc
from derny.proto.peloton.api.v1alpha.job.stateless.svc import ListJobsRequest, ListPodsRequest
from derny.proto.peloton.api.v1alpha.peloton import JobId as JobIdMessage
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange
from derny.proto.peloton.api.v1alpha.pod import QuerySpec as PodQuerySpec
from derny.proto.peloton.api.v1alpha.query import OrderBy, OrderByOrder, PaginationSpec, PropertyPath
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Loop

PODS = 100_000
JOBS = 100_000
READERS = 20
TEMPLATE = PodTemplate(Resources(cpu=10, memory=1000, disk=1000), container="main")
FEWER = InstanceIdRange(0, 30_000)
MANY = JobId(str(uuid.UUID(int=1)))


class NoAgents:
    """Nobody to ask."""

    next_wake = None

    def perform(self, effects: object, at: float) -> None:
        """Nothing is asked here."""

    def poll(self, at: float, most: int) -> list[commands.Command]:
        return []


async def served(journal: Journal) -> JobService:
    """A job of many pods that run, and many jobs without any."""
    machine = machine_with(5_000)
    machine.handle(
        commands.CreateJob(MANY, JobSpec("many", POOL, PODS, bytes(JobMessage()), (TEMPLATE,))), 0.0
    )
    for number in range(2, JOBS + 1):
        labels = [Label("tier", str(number % 10)), Label("number", str(number))]
        message = JobMessage(name=f"job-{number}", owner=f"owner-{number % 7}", labels=labels)
        spec = JobSpec(message.name, POOL, 0, bytes(message))
        machine.handle(commands.CreateJob(JobId(str(uuid.UUID(int=number))), spec), float(number))
    at = float(JOBS)
    while machine.state.jobs[MANY].counts[PodState.RUNNING] < PODS:
        turn(machine, at)
        at += 1
    loop = Loop(machine, journal, NoAgents(), ManualClock(at), LIMITS)
    return JobService(loop, LIMITS)


async def measured(name: str, work: Callable[[], Awaitable[float | None]]) -> None:
    """One row: how long the work took, the first part of its answer, and the longest turns of the loop."""
    turns: list[float] = []

    async def count() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            turns.append(now - before)
            before = now

    counting = asyncio.create_task(count())
    began = time.perf_counter()
    first = await work()
    took = time.perf_counter() - began
    counting.cancel()
    turns.sort()
    part = "" if first is None else f"{1000 * (first - began):.0f}"
    p99, longest = turns[int(len(turns) * 0.99)], turns[-1]
    shown = [f"{1000 * seconds:.1f}" for seconds in (p99, longest, 10 * took / len(turns))]
    print(f"| {name} | {1000 * took:,.0f} | {part} | {' | '.join(shown)} |")


async def read_all(stream: AsyncIterator[Any]) -> float:
    """Read a stream to its end; returns when its first message came."""
    first = 0.0
    async for _ in stream:
        first = first or time.perf_counter()
    return first


def by(field: str, descending: bool = False) -> list[OrderBy]:
    order = OrderByOrder.BY_DESC if descending else OrderByOrder.BY_ASC
    return [OrderBy(order, PropertyPath(field))]


async def main() -> None:
    journal = await Journal.open(None)
    await look_at(await served(journal))
    await journal.close()


async def look_at(service: JobService) -> None:
    """All rows of the table."""
    # As the daemon does: what is loaded is frozen, and nothing is collected unasked.
    gc.collect()
    gc.freeze()
    gc.disable()
    job = JobIdMessage(MANY)

    def jobs(**fields: Any) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            await service.query_jobs(svc.QueryJobsRequest(QuerySpec(**fields)))

        return ask

    def pods(**fields: Any) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            await service.query_pods(svc.QueryPodsRequest(job, PodQuerySpec(**fields)))

        return ask

    async def many_readers() -> float:
        return min(
            await asyncio.gather(
                *(read_all(service.list_pods(ListPodsRequest(job, FEWER))) for _ in range(READERS))
            )
        )

    print("| look | ms | first ms | turn p99 ms | longest ms | ten turns ms |\n|---|---|---|---|---|---|")
    await jobs()()
    await pods()()
    await measured("QueryJobs", jobs())
    await measured(
        "QueryJobs by name, descending", jobs(pagination=PaginationSpec(order_by=by("name", True)))
    )
    await measured("QueryJobs with a label", jobs(labels=[Label("tier", "3")]))
    await measured("QueryJobs with a keyword", jobs(keywords=["owner-3*"]))
    deep = PaginationSpec(offset=90_000, limit=10, max_limit=100_000, order_by=by("name", True))
    await measured("QueryJobs, page 9,000", jobs(pagination=deep))
    await measured("QueryPods", pods())
    await measured(
        "QueryPods by host, descending", pods(pagination=PaginationSpec(order_by=by("host", True)))
    )
    await measured("QueryPods, a page of 1,000", pods(pagination=PaginationSpec(limit=1000)))
    await measured("ListPods", lambda: read_all(service.list_pods(ListPodsRequest(job))))
    await measured("ListJobs", lambda: read_all(service.list_jobs(ListJobsRequest())))
    await measured(f"ListPods, {READERS} readers of 30,000", many_readers)


if __name__ == "__main__":
    asyncio.run(main())
