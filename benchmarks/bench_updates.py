"""Rolling updates as a client sees them: Peloton's own performance cases, on a real process over gRPC.

    one job of 9,000 pods, all updated at once (batch 9,000)
    100 jobs of 90 pods each, ten pods of each at a time (batch 10), all jobs together

The jobs run first; then each is given a new command with ReplaceJob, and polled until its workflow has
SUCCEEDED, while GetPod is called over and over on a second connection: its latencies show how long anything
held the daemon's loop. A simulated pod needs a moment to stop and to start, and counts as updated once it has
run for a second, so batches take their time however idle the daemon is. Prints a table:

    s           from the first ReplaceJob to seeing the last workflow SUCCEEDED
    floor s     what as many batches of ten pods take when nothing else happens, measured with two of them
    pods/s      updated pods in all, by s
    GetPod p99  and its maximum, in ms, meanwhile

    python benchmarks/bench_updates.py
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from grpclib.client import Channel

from bench_cluster import HOSTS, Daemon, all_running, connected, create, probe, start
from derny.proto.peloton.api.v1alpha.job.stateless import UpdateSpec, WorkflowState
from derny.proto.peloton.api.v1alpha.job.stateless.svc import GetJobRequest, JobServiceStub, ReplaceJobRequest
from derny.proto.peloton.api.v1alpha.peloton import JobId
from derny.proto.peloton.api.v1alpha.pod import CommandSpec

POLL_S = 0.05


async def replace(channel: Channel, job: JobId, batch: int) -> None:
    """Give a job another command."""
    stub = JobServiceStub(channel)
    info = (await stub.get_job(GetJobRequest(job))).job_info
    assert info is not None and info.spec is not None and info.status is not None
    spec = info.spec
    assert spec.default_spec is not None
    container = spec.default_spec.containers[0]
    container.entrypoint, container.command = CommandSpec("while true; do sleep 20; done"), None
    spec.revision = None
    await stub.replace_job(
        ReplaceJobRequest(job, info.status.version, spec, update_spec=UpdateSpec(batch_size=batch))
    )


async def succeeded(channel: Channel, jobs: list[JobId]) -> None:
    """Wait until a client sees all workflows SUCCEEDED."""
    stub = JobServiceStub(channel)
    for job in jobs:
        while True:
            answer = await stub.get_job(GetJobRequest(job, summary_only=True))
            assert answer.summary is not None and answer.summary.status is not None
            workflow = answer.summary.status.workflow_status
            assert workflow is not None
            assert workflow.state in (
                WorkflowState.INITIALIZED,
                WorkflowState.ROLLING_FORWARD,
                WorkflowState.SUCCEEDED,
            )
            if workflow.state == WorkflowState.SUCCEEDED:
                break
            await asyncio.sleep(POLL_S)


async def update(daemon: Daemon, jobs: int, pods: int, batch: int) -> tuple[float, list[float]]:
    """The seconds that it takes to update so many jobs of so many pods, and GetPod's latencies, sorted."""
    latencies: list[float] = []
    async with connected(daemon) as channel:
        made = [await create(channel, pods) for _ in range(jobs)]
        await all_running(channel, {job.value: pods for job in made})
        await succeeded(channel, made)
        probing = asyncio.create_task(probe(daemon, made[0], latencies))
        began = time.perf_counter()
        for job in made:
            await replace(channel, job, batch)
        await succeeded(channel, made)
        took = time.perf_counter() - began
        probing.cancel()
    return took, sorted(latencies)


def measure(jobs: int, pods: int, batch: int, directory: Path) -> str:
    """One row of the table."""
    daemon = start(directory, HOSTS)
    try:
        two_batches, _ = asyncio.run(update(daemon, 1, 20, 10))
        took, latencies = asyncio.run(update(daemon, jobs, pods, batch))
    finally:
        daemon.kill()
    floor = two_batches / 2 * -(-pods // batch)
    p99 = latencies[int(len(latencies) * 0.99)] * 1e3
    return (
        f"{jobs:>5} {pods:>6,} {batch:>6,} {took:>7.1f} {floor:>8.1f} {jobs * pods / took:>8,.0f}"
        f" {p99:>10.1f} {latencies[-1] * 1e3:>8.1f}"
    )


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, durable journal in {tempfile.gettempdir()}, {HOSTS} hosts")
    print(
        f"{'jobs':>5} {'pods':>6} {'batch':>6} {'s':>7} {'floor s':>8} {'pods/s':>8} {'GetPod p99':>10}"
        f" {'max ms':>8}"
    )
    for jobs, pods, batch in ((1, 9_000, 9_000), (100, 90, 10)):
        with tempfile.TemporaryDirectory(prefix="derny-bench-") as directory:
            print(measure(jobs, pods, batch, Path(directory)), flush=True)


if __name__ == "__main__":
    main()
