"""`kill -9` at any moment takes nothing back that was answered, and makes no pod run twice.

The journal of a daemon that was killed is damaged here too, and what is wrong with a data directory is said.
"""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from acceptance.process import LOOK_EVERY_S, PATIENCE_S, Daemon, dev, run
from derny.core.audit import audit
from derny.core.events import Event, JobRemoved, PodsPlaced, PodsRestarted
from derny.core.machine import Machine
from derny.journal import codec
from derny.journal.store import DATABASE
from derny.model.periods import Limits, Periods
from derny.model.states import PodState as InternalState
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, JobState, svc
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import CommandSpec, ContainerSpec, PodSpec, PodState, ResourceSpec
from derny.proto.peloton.api.v1alpha.respool import (
    LookupResourcePoolIdRequest,
    ResourcePoolPath,
    ResourcePoolServiceStub,
)

pytestmark = pytest.mark.acceptance

JOBS = 40
PODS_PER_JOB = 50
CREATES_AT_ONCE = 4
STOPPED, DELETED = 0, 1
"""Numbers of the jobs that are stopped, or stopped and deleted, as soon as they have been created."""
FLEET = ("--hosts", 20, "--host-shape", "cpu=32,mem=64Gi,disk=100Gi,gpu=0")
HELLO = Path(__file__).parents[2] / "examples" / "hello.yaml"


class Client:
    """Wants all jobs, and keeps what was answered: nothing of that may be untrue ever after."""

    def __init__(self) -> None:
        self.created: set[int] = set()
        self.stopped: set[int] = set()
        self.deleted: set[int] = set()

    async def create_all(self, port: int, enough: asyncio.Event, enough_jobs: int) -> None:
        """Create what is missing, a few at once. Sets `enough` when so many jobs have been answered.

        A daemon that goes away ends it quietly; one that refuses fails the test.
        """
        numbers = iter([number for number in range(JOBS) if number not in self.deleted])
        async with Channel("127.0.0.1", port) as channel:
            pool = await the_pool(channel)

            async def work() -> None:
                for number in numbers:
                    await self._bring_about(svc.JobServiceStub(channel), number, pool)
                    if len(self.created) >= enough_jobs:
                        enough.set()

            workers = (work() for _ in range(CREATES_AT_ONCE))
            ends = await asyncio.gather(*workers, return_exceptions=True)
        enough.set()
        refusals = [end for end in ends if isinstance(end, GRPCError)]
        assert not refusals

    async def _bring_about(self, stub: svc.JobServiceStub, number: int, pool: ResourcePoolId) -> None:
        """What an earlier daemon did without having answered is refused now, and as good as done."""
        job = job_id(number)
        with refused_as(Status.ALREADY_EXISTS):
            await stub.create_job(svc.CreateJobRequest(job_id=job, spec=a_spec(number, pool)))
        self.created.add(number)
        if number in (STOPPED, DELETED):
            with refused_as(Status.ABORTED, Status.NOT_FOUND):
                await stub.stop_job(svc.StopJobRequest(job_id=job, version=EntityVersion("1-1-1")))
            self.stopped.add(number)
        if number == DELETED:
            request = svc.DeleteJobRequest(job_id=job, version=EntityVersion("1-2-1"), force=True)
            with refused_as(Status.ABORTED, Status.NOT_FOUND):
                await stub.delete_job(request)
            self.deleted.add(number)

    @property
    def wanted(self) -> dict[str, JobState]:
        """Where each answered job must get to, and stay."""
        wanted = {job_id(number).value: JobState.RUNNING for number in self.created - self.deleted}
        return wanted | {job_id(n).value: JobState.KILLED for n in self.stopped - self.deleted}


class refused_as:  # noqa: N801  # reads as a statement
    """Lets refusals with these statuses pass."""

    def __init__(self, *statuses: Status) -> None:
        self._statuses = statuses

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, GRPCError) and error.status in self._statuses


def job_id(number: int) -> JobId:
    return JobId(f"cccccccc-0000-4000-8000-{number:012d}")


def a_spec(number: int, pool: ResourcePoolId) -> JobSpec:
    main = ContainerSpec(
        name="main",
        resource=ResourceSpec(cpu_limit=0.1, mem_limit_mb=16),
        entrypoint=CommandSpec(value="sleep", arguments=["3600"]),
    )
    return JobSpec(
        name=f"job-{number}",
        instance_count=PODS_PER_JOB,
        respool_id=pool,
        default_spec=PodSpec(containers=[main]),
    )


async def the_pool(channel: Channel) -> ResourcePoolId:
    request = LookupResourcePoolIdRequest(path=ResourcePoolPath("/DefaultResPool"))
    answer = await ResourcePoolServiceStub(channel).lookup_resource_pool_id(request)
    assert answer.respool_id is not None
    return answer.respool_id


async def create_until_killed(daemon: Daemon, lot: random.Random) -> Client:
    """Kill the daemon somewhere between the first answer and the last pod's start; what it answered."""
    client, enough = Client(), asyncio.Event()
    async with asyncio.timeout(PATIENCE_S):
        creating = asyncio.create_task(client.create_all(daemon.port, enough, lot.randrange(JOBS + 1)))
        await enough.wait()
        await asyncio.sleep(lot.choice((0, 0, 0.3)) * lot.random())
        daemon.process.kill()
        await creating
    return client


async def jobs_there(channel: Channel) -> dict[str, JobState]:
    found = {}
    async for answer in svc.JobServiceStub(channel).list_jobs(svc.ListJobsRequest()):
        for summary in answer.jobs:
            assert summary.job_id is not None
            assert summary.status is not None
            found[summary.job_id.value] = summary.status.state
    return found


async def pods_of(channel: Channel, number: int) -> dict[str, PodState]:
    """The job's pods by the id of their present run."""
    found = {}
    async for answer in svc.JobServiceStub(channel).list_pods(svc.ListPodsRequest(job_id(number))):
        for pod in answer.pods:
            assert pod.status is not None
            assert pod.status.pod_id is not None
            found[pod.status.pod_id.value] = pod.status.state
    return found


async def check_after_restart(daemon: Daemon, client: Client) -> None:
    """Nothing is lost, and what was interrupted comes to its end, of itself or when asked for again."""
    async with Channel("127.0.0.1", daemon.port) as channel:
        missing = client.wanted.keys() - (await jobs_there(channel)).keys()
        assert not missing, "these jobs were acknowledged and are lost"
        await client.create_all(daemon.port, asyncio.Event(), JOBS)
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: jobs_there(channel), client.wanted)
            for number in client.created - client.stopped:
                # A job is RUNNING as soon as one pod of it is.
                first_runs = {f"{job_id(number).value}-{n}-1": PodState.RUNNING for n in range(PODS_PER_JOB)}
                await until(partial(pods_of, channel, number), first_runs)


async def until(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Look again and again; the caller says for how long."""
    while await look() != wanted:  # noqa: ASYNC110  # it is another process that gets there
        await asyncio.sleep(LOOK_EVERY_S)


def turns_of(data: Path) -> list[tuple[float, list[Event]]]:
    """All that ever happened, from the journal of a daemon that has ended."""
    with closing(sqlite3.connect(data / DATABASE)) as journal:
        rows = journal.execute("SELECT at, events FROM turns ORDER BY revision").fetchall()
    return [(at, codec.decode(blob)) for at, blob in rows]


def launches_of(turns: list[tuple[float, list[Event]]]) -> Counter[tuple[str, int]]:
    """How often each pod was sent to a host, without jobs that are gone."""
    launches: Counter[tuple[str, int]] = Counter()
    for event in (event for _, events in turns for event in events):
        assert not isinstance(event, PodsRestarted), "no pod has a reason to run again"
        if isinstance(event, PodsPlaced):
            launches.update((event.job, instance) for instance in event.instances)
        if isinstance(event, JobRemoved):
            launches = Counter({pod: n for pod, n in launches.items() if pod[0] != event.job})
    return launches


@pytest.mark.parametrize("seed", range(10))
def test_what_was_acknowledged_survives_kill_9_and_no_pod_runs_twice(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "data"
    flags = (*FLEET, "--data-dir", data, "--log-level", "info")
    with dev(tmp_path, *flags) as daemon:
        client = asyncio.run(create_until_killed(daemon, random.Random(seed)))
    with dev(tmp_path, *flags) as daemon:
        assert "the audit is clean" in daemon.log
        asyncio.run(check_after_restart(daemon, client))
        assert daemon.stop() == 0
    turns = turns_of(data)
    assert set(launches_of(turns).values()) == {1}
    machine = Machine(Periods(), Limits())
    for at, events in turns:
        machine.replay(at, events)
    assert audit(machine.state) == []
    running = sum(job.counts[InternalState.RUNNING] for job in machine.state.jobs.values())
    assert running == (JOBS - 2) * PODS_PER_JOB


def test_a_second_daemon_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with dev(tmp_path, "--data-dir", data) as daemon:
        second = run("dev", "--port", 0, "--data-dir", data)
        assert second.returncode == 1
        assert (
            second.stderr
            == f"Error: {data} is in use by another derny daemon, process {daemon.process.pid}.\n"
        )
        assert daemon.process.poll() is None


def test_another_seed_than_the_directory_was_begun_with_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with dev(tmp_path, "--data-dir", data, "--seed", 7) as daemon:
        assert daemon.stop() == 0
    other = run("dev", "--port", 0, "--data-dir", data, "--seed", 8)
    assert (other.returncode, other.stdout) == (1, "")
    assert "--seed is 8, but this data directory was begun with 7" in other.stderr
    with dev(tmp_path, "--data-dir", data, "--seed", 7) as daemon:
        assert daemon.ready["seed"] == 7
    with dev(tmp_path, "--data-dir", data) as daemon:
        assert daemon.ready["seed"] == 7, "without --seed the directory's own one goes on"


def test_a_commit_that_was_cut_short_is_dropped_and_reported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = killed_while_it_ran(tmp_path, data)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 100)
    check_damage_is_reported(tmp_path, data, "ended in an unfinished commit, which was dropped")


def test_damage_within_the_journal_keeps_what_was_before_it_and_says_what_is_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = killed_while_it_ran(tmp_path, data)
    with log.open("r+b") as file:
        file.seek(log.stat().st_size * 2 // 3)
        file.write(b"\xff" * 64)
    check_damage_is_reported(tmp_path, data, "was damaged (")
    assert (data / f"{DATABASE}.damaged-1").exists()


def killed_while_it_ran(folder: Path, data: Path) -> Path:
    """A data directory after `kill -9`; the write-ahead log that was left there."""
    with dev(folder, "--data-dir", data, "--apply", HELLO) as daemon:
        daemon.says("Next:")
        daemon.kill()
    log = data / f"{DATABASE}-wal"
    assert log.stat().st_size > 0
    return log


def check_damage_is_reported(folder: Path, data: Path, what: str) -> None:
    with dev(folder, "--data-dir", data) as daemon:
        assert "WARNING The journal" in daemon.says("Next:")
        assert what in daemon.output
        assert "the journal was damaged: " in daemon.log
        assert what in daemon.log
