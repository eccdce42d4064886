"""The whole daemon as a client sees it: a real process, a durable journal, simulated agents, gRPC over
loopback.

For each size a fresh daemon is started; jobs of at most 50,000 pods each are created; the
client polls each job's summary until all its pods are RUNNING, and meanwhile calls GetPod over and over on
a second connection, whose latencies show how long anything held the daemon's loop. Then the daemon is
killed with SIGKILL and started again on its journal. Prints a table:

    pods/s      from sending the first CreateJob to seeing the last pod RUNNING
    GetPod p99  and its maximum, in ms, while pods launch
    B/pod       what the daemon holds more than an empty one, at rest, per pod
    peak MiB    the most memory that the process ever had
    restart s   from starting the process again to its answer that all pods run

    python benchmarks/bench_cluster.py [PODS[@HOSTS] ...]

Hosts are 1,000 unless given. By default the last row is a million pods on 5,000 hosts; all rows take some
four minutes.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from grpclib.client import Channel

from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, SlaSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import CreateJobRequest, GetJobRequest, JobServiceStub
from derny.proto.peloton.api.v1alpha.peloton import JobId, PodName, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import CommandSpec, ContainerSpec, PodSpec, ResourceSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest, PodServiceStub
from derny.proto.peloton.api.v1alpha.respool import (
    LookupResourcePoolIdRequest,
    ResourcePoolPath,
    ResourcePoolServiceStub,
)

HOSTS = "1000"
SHAPE = "cpu=64,mem=256Gi,disk=1Ti"
JOB_PODS_MAX = 50_000
POLL_S = 0.02


class Daemon(NamedTuple):
    """A running daemon, and how long it took to be ready."""

    process: subprocess.Popen[bytes]
    port: int
    ready_s: float

    def memory_kib(self, name: str) -> int:
        """VmRSS or VmHWM of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    def kill(self) -> None:
        """As a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def start(directory: Path, hosts: str) -> Daemon:
    """Start a daemon on a data directory and wait for its ready file."""
    ready = directory / "ready.json"
    ready.unlink(missing_ok=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "derny", "dev", "--port", "0", "--seed", "1", "--hosts", hosts]
    command += ["--host-shape", SHAPE, "--data-dir", str(directory / "data"), "--ready-file", str(ready)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {process.returncode}")
        time.sleep(0.005)
    ready_s = time.perf_counter() - began
    return Daemon(process, int(json.loads(ready.read_text())["address"].rpartition(":")[2]), ready_s)


@asynccontextmanager
async def connected(daemon: Daemon) -> AsyncIterator[Channel]:
    """A connection of one's own."""
    async with Channel("127.0.0.1", daemon.port) as channel:
        yield channel


async def create(channel: Channel, count: int) -> JobId:
    """A job of small pods that sleep for ever."""
    path = ResourcePoolPath(value="/DefaultResPool")
    found = await ResourcePoolServiceStub(channel).lookup_resource_pool_id(
        LookupResourcePoolIdRequest(path=path)
    )
    assert found.respool_id is not None
    container = ContainerSpec(
        name="main",
        resource=ResourceSpec(cpu_limit=0.1, mem_limit_mb=10, disk_limit_mb=10),
        entrypoint=CommandSpec(value="while true; do sleep 10; done"),
    )
    spec = JobSpec(
        name=f"bench-{uuid.uuid4()}",
        instance_count=count,
        sla=SlaSpec(preemptible=True),
        default_spec=PodSpec(containers=[container], mesos_spec=MesosSpec(shell=True)),
        respool_id=ResourcePoolId(value=found.respool_id.value),
    )
    answer = await JobServiceStub(channel).create_job(CreateJobRequest(spec=spec))
    assert answer.job_id is not None
    return answer.job_id


async def running(stub: JobServiceStub, job: JobId) -> int:
    """How many pods of the job a client sees RUNNING now."""
    answer = await stub.get_job(GetJobRequest(job_id=job, summary_only=True))
    assert answer.summary is not None and answer.summary.status is not None
    return answer.summary.status.pod_stats.get("POD_STATE_RUNNING", 0)


async def probe(daemon: Daemon, job: JobId, latencies: list[float]) -> None:
    """GetPod of the first instance, again and again; NOT_FOUND until it exists is an answer too."""
    async with connected(daemon) as channel:
        stub = PodServiceStub(channel)
        while True:
            began = time.perf_counter()
            try:
                await stub.get_pod(GetPodRequest(pod_name=PodName(value=f"{job.value}-0")))
            finally:
                latencies.append(time.perf_counter() - began)
            await asyncio.sleep(0.002)


async def all_running(channel: Channel, counts: dict[str, int]) -> None:
    """Wait until every job has all its pods RUNNING."""
    stub = JobServiceStub(channel)
    for job, count in counts.items():
        # Polls another process, which sets no event.
        while await running(stub, JobId(value=job)) < count:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


async def launch(daemon: Daemon, pods: int) -> tuple[dict[str, int], float, list[float]]:
    """Create jobs until there are so many pods; returns the jobs, the seconds it took, and GetPod's
    latencies."""
    latencies: list[float] = []
    counts: dict[str, int] = {}
    async with connected(daemon) as channel:
        began = time.perf_counter()
        for first in range(0, pods, JOB_PODS_MAX):
            count = min(JOB_PODS_MAX, pods - first)
            counts[(await create(channel, count)).value] = count
        job = JobId(value=next(iter(counts)))
        # As above.
        while not await running(JobServiceStub(channel), job):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        probing = asyncio.create_task(probe(daemon, job, latencies))
        await all_running(channel, counts)
        took = time.perf_counter() - began
        probing.cancel()
    return counts, took, sorted(latencies)


async def seen_again(daemon: Daemon, counts: dict[str, int]) -> None:
    """Wait until a daemon that was started again says that all pods run."""
    async with connected(daemon) as channel:
        await all_running(channel, counts)


def measure(pods: int, hosts: str, directory: Path) -> str:
    """One row of the table."""
    daemon = start(directory, hosts)
    try:
        empty_kib = daemon.memory_kib("VmRSS")
        counts, took, latencies = asyncio.run(launch(daemon, pods))
        time.sleep(1)
        at_rest, peak = daemon.memory_kib("VmRSS") - empty_kib, daemon.memory_kib("VmHWM")
        daemon.kill()
        began = time.perf_counter()
        daemon = start(directory, hosts)
        asyncio.run(seen_again(daemon, counts))
        restart_s = time.perf_counter() - began
    finally:
        daemon.kill()
    p99 = latencies[int(len(latencies) * 0.99)] * 1e3
    return (
        f"{pods:>9,} {hosts:>6} {took:>7.1f} {pods / took:>9,.0f} {p99:>10.1f} {latencies[-1] * 1e3:>8.1f}"
        f" {at_rest * 1024 / pods:>7.0f} {peak / 1024:>9.0f} {restart_s:>10.1f}"
    )


async def paced(daemon: Daemon) -> list[float]:
    """GetPod's latencies, sorted, while a job of 200 pods is created five times a second for ten seconds."""
    latencies: list[float] = []
    async with connected(daemon) as channel:
        job = await create(channel, 200)
        await all_running(channel, {job.value: 200})
        probing = asyncio.create_task(probe(daemon, job, latencies))
        for _ in range(50):
            next_at = time.perf_counter() + 0.2
            await create(channel, 200)
            await asyncio.sleep(max(next_at - time.perf_counter(), 0))
        probing.cancel()
    return sorted(latencies)


def measure_paced(directory: Path) -> str:
    """One line: what a reader feels while 1,000 pods a second are launched."""
    daemon = start(directory, HOSTS)
    try:
        latencies = asyncio.run(paced(daemon))
    finally:
        daemon.kill()
    middle, p99 = (latencies[int(len(latencies) * part)] * 1e3 for part in (0.5, 0.99))
    return f"1,000 pods/s for 10 s: GetPod p50 {middle:.1f} ms, p99 {p99:.1f}, max {latencies[-1] * 1e3:.1f}"


def main() -> None:
    """Print the table, then the line at a steady pace."""
    print(f"{os.cpu_count()} cores, durable journal in {tempfile.gettempdir()}")
    print(
        f"{'pods':>9} {'hosts':>6} {'s':>7} {'pods/s':>9} {'GetPod p99':>10} {'max ms':>8}"
        f" {'B/pod':>7} {'peak MiB':>9} {'restart s':>10}"
    )
    for size in sys.argv[1:] or ("10000", "50000", "200000", "1000000@5000"):
        pods, _, hosts = size.partition("@")
        with tempfile.TemporaryDirectory(prefix="derny-bench-") as directory:
            print(measure(int(pods), hosts or HOSTS, Path(directory)), flush=True)
    with tempfile.TemporaryDirectory(prefix="derny-bench-") as directory:
        print(measure_paced(Path(directory)))


if __name__ == "__main__":
    main()
