"""Watches on the real daemon: a process of its own, a durable journal, gRPC over loopback.

A thousand watches, one in twenty of a job and the others of a pod each, on ten connections. Prints

    memory per watch, while nothing happens
    the lag while 1,000 pods a second are launched for ten seconds, of which each watch sees its own: from the
        beginning of the turn that changed a thing (its time is in the message), so with the turn and its
        commit, to the client that has the message. It is decoded afterwards: a client in Python takes longer
        to decode what two watches of everything bring than the daemon to send it
    the same, and the lag of two of the watches, which see everything
    pods per second to RUNNING as fast as it goes, without watches and with the thousand; each is the better
        of two runs

    python benchmarks/bench_watch.py [PODS]      of the last lines; default: 50000
"""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

from grpclib.client import Channel
from grpclib.encoding.base import CodecBase

from bench_cluster import HOSTS, Daemon, all_running, connected, start
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, SlaSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import CreateJobRequest, JobServiceStub
from derny.proto.peloton.api.v1alpha.peloton import JobId, PodName, ResourcePoolId, Revision
from derny.proto.peloton.api.v1alpha.pod import CommandSpec, ContainerSpec, PodSpec, ResourceSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.respool import (
    LookupResourcePoolIdRequest,
    ResourcePoolPath,
    ResourcePoolServiceStub,
)
from derny.proto.peloton.api.v1alpha.watch import PodFilter, StatelessJobFilter
from derny.proto.peloton.api.v1alpha.watch.svc import WatchRequest, WatchResponse, WatchServiceStub

WATCHES = 1_000
OF_ONE_JOB = 20
CONNECTIONS = 10
JOB_PODS = 200
JOBS = WATCHES // OF_ONE_JOB
JOBS_PER_S = 5


class Arrival(NamedTuple):
    """A message as it came, and when."""

    at: float
    message: bytes


class Arrivals(CodecBase):
    """Takes messages as they come."""

    __content_subtype__ = "proto"

    def encode(self, message: WatchRequest, message_type: object) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: object) -> Arrival:
        return Arrival(time.time(), data)


class Lags(list[Arrival]):
    """What has arrived, and how long after it happened."""

    def seconds(self) -> Iterator[float]:
        for arrival in self:
            message = WatchResponse.parse(arrival.message)
            for thing in (*message.stateless_jobs, *message.pods):
                revision = thing.status.revision if thing.status is not None else None
                assert isinstance(revision, Revision)
                yield arrival.at - revision.updated_at / 1e9

    def __str__(self) -> str:
        lags = sorted(self.seconds())
        p50, p99 = (lags[int(len(lags) * part)] * 1e3 for part in (0.5, 0.99))
        return f"p50 {p50:.1f} ms, p99 {p99:.1f}, max {lags[-1] * 1e3:.1f} ({len(lags):,} changes seen)"


def narrow(jobs: list[str], pods: int) -> Iterable[WatchRequest]:
    """A watch of each job, and watches of some of its pods."""
    for job in jobs:
        yield WatchRequest(stateless_job_filter=StatelessJobFilter([JobId(job)]))
        for number in range(OF_ONE_JOB - 1):
            name = PodName(f"{job}-{number * pods // OF_ONE_JOB}")
            yield WatchRequest(pod_filter=PodFilter(pod_names=[name]))


async def follow(stream: AsyncIterator[Arrival], lags: Lags) -> None:
    """Watch for ever."""
    async for arrival in stream:
        lags.append(arrival)


@asynccontextmanager
async def watched(daemon: Daemon, requests: Iterable[WatchRequest]) -> AsyncIterator[Lags]:
    """These watches, open for the length of the block, and what they see."""
    lags = Lags()
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(Channel("127.0.0.1", daemon.port, codec=Arrivals()))
            for _ in range(CONNECTIONS)
        ]
        followers = []
        for number, request in enumerate(requests):
            stub = WatchServiceStub(channels[number % CONNECTIONS])
            stream = cast(AsyncIterator[Arrival], stub.watch(request))
            await anext(stream)
            followers.append(asyncio.create_task(follow(stream, lags)))
        yield lags
        for follower in followers:
            assert not follower.done(), follower.exception()
            follower.cancel()
        if followers:
            await asyncio.wait(followers)


async def create(channel: Channel, pool: ResourcePoolId, job: str, count: int) -> None:
    """A job of small pods that sleep for ever."""
    container = ContainerSpec(
        name="main",
        resource=ResourceSpec(cpu_limit=0.1, mem_limit_mb=10, disk_limit_mb=10),
        entrypoint=CommandSpec(value="while true; do sleep 10; done"),
    )
    spec = JobSpec(
        name=f"bench-{job}",
        instance_count=count,
        sla=SlaSpec(preemptible=True),
        default_spec=PodSpec(containers=[container], mesos_spec=MesosSpec(shell=True)),
        respool_id=pool,
    )
    await JobServiceStub(channel).create_job(CreateJobRequest(JobId(job), spec))


async def default_pool(channel: Channel) -> ResourcePoolId:
    """The pool that the daemon has made."""
    path = ResourcePoolPath("/DefaultResPool")
    stub = ResourcePoolServiceStub(channel)
    found = await stub.lookup_resource_pool_id(LookupResourcePoolIdRequest(path=path))
    assert found.respool_id is not None
    return found.respool_id


async def paced(daemon: Daemon, broad: int) -> None:
    """Print the memory of a watch, and the lags at a steady pace; `broad` of the watches see everything."""
    jobs = [str(uuid.uuid4()) for _ in range(JOBS)]
    before = daemon.memory_kib("VmRSS")
    everything = WatchRequest(stateless_job_filter=StatelessJobFilter(), pod_filter=PodFilter())
    count = WATCHES - broad
    async with (
        connected(daemon) as channel,
        watched(daemon, islice(narrow(jobs, JOB_PODS), count)) as lags,
        watched(daemon, [everything] * broad) as all_lags,
    ):
        await asyncio.sleep(1)
        grown = daemon.memory_kib("VmRSS") - before
        print(f"{WATCHES:,} watches: {grown / WATCHES:.1f} KiB each, with their streams", flush=True)
        await launch(channel, await default_pool(channel), jobs)
        print(f"1,000 pods/s, {count:,} watches of their own: {lags}", flush=True)
        if broad:
            print(f"1,000 pods/s, {broad} watches of everything: {all_lags}", flush=True)


async def launch(channel: Channel, pool: ResourcePoolId, jobs: list[str]) -> None:
    """Create jobs at a steady pace, and wait until all their pods run."""
    for job in jobs:
        next_at = time.perf_counter() + 1 / JOBS_PER_S
        await create(channel, pool, job, JOB_PODS)
        await asyncio.sleep(max(next_at - time.perf_counter(), 0))
    await all_running(channel, dict.fromkeys(jobs, JOB_PODS))
    await asyncio.sleep(0.5)


async def pods_per_s(daemon: Daemon, pods: int, watches: bool) -> float:
    """How fast jobs come up, all of them created at once."""
    jobs = [str(uuid.uuid4()) for _ in range(JOBS)]
    each = pods // JOBS
    async with connected(daemon) as channel, watched(daemon, narrow(jobs, each) if watches else []):
        pool = await default_pool(channel)
        began = time.perf_counter()
        for job in jobs:
            await create(channel, pool, job, each)
        await all_running(channel, dict.fromkeys(jobs, each))
        return each * JOBS / (time.perf_counter() - began)


@asynccontextmanager
async def fresh() -> AsyncIterator[Daemon]:
    """A daemon with nothing in it."""
    with tempfile.TemporaryDirectory(prefix="derny-bench-") as directory:
        daemon = start(Path(directory), HOSTS)
        try:
            yield daemon
        finally:
            daemon.kill()


async def main(pods: int) -> None:
    """Print all lines."""
    for broad in (0, 2):
        async with fresh() as daemon:
            await paced(daemon, broad)
    for watches in (False, True):
        rates = []
        for _ in range(2):
            async with fresh() as daemon:
                rates.append(await pods_per_s(daemon, pods, watches))
        print(f"{pods:,} pods, {WATCHES * watches:,} watches: {max(rates):,.0f} pods/s", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int((sys.argv[1:] or ["50000"])[0])))
