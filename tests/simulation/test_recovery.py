"""A crash at any moment takes back nothing that anybody was told, and nothing runs twice."""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from builders import Daemon, RecordedAgents, a_daemon, a_job, a_template, drive, job_id, running
from derny.core import commands
from derny.core.audit import audit, fingerprint
from derny.core.effects import Kill, Launch, Reconcile
from derny.journal.store import Journal
from derny.model.ids import JobId, PodId, parse_pod_id
from derny.model.periods import Limits
from derny.model.states import PodState, TaskState
from derny.runtime.clock import ManualClock

COUNTS = {job_id(1): 40, job_id(2): 3, job_id(3): 25}
LIMITS = Limits(entities_per_turn=10)


class Crash(Exception):
    """The process ends here."""


class CrashingJournal(Journal):
    """Keeps an image of its directory as it is when the process ends: at a given turn, before or after its
    commit."""

    crash_at = 0
    is_durable = True
    directory: Path
    image: Path

    async def append(self, at: float, events: bytes) -> int:
        if self.last_revision + 1 < self.crash_at:
            return await super().append(at, events)
        if self.is_durable:
            await super().append(at, events)
        shutil.copytree(self.directory, self.image)
        raise Crash


async def create_all(daemon: Daemon, told: set[JobId]) -> None:
    """Create all jobs that do not exist; `told` gets those of which we were told that they do."""
    for job, count in COUNTS.items():
        if job not in daemon.state.jobs:
            run = "sleep 4; exit 1" if job == job_id(2) else "sleep 1000000"
            template = a_template(cpu=0.1, ports=1, run=run)
            await daemon.loop.submit(
                commands.CreateJob(job, a_job(count, name=f"job {job}", template=template))
            )
        told.add(job)


async def live(daemon: Daemon, told: set[JobId]) -> None:
    await daemon.begin()
    creating = asyncio.create_task(create_all(daemon, told))
    try:
        await drive(daemon.clock, lambda: all_run(daemon))
    finally:
        creating.cancel()


def all_run(daemon: Daemon) -> bool:
    """All pods that are to stay up are up, and the crashing ones have crashed."""
    jobs = daemon.state.jobs
    return set(jobs) == set(COUNTS) and all(
        job.counts[PodState.RUNNING] == job.spec.instance_count
        if job.id != job_id(2)
        else all(pod.run > 1 for pod in job.pods) and len(job.pods) == 3
        for job in jobs.values()
    )


def check_that_nothing_ran_twice(lives: list[RecordedAgents]) -> None:
    """Each run was asked for in one way only, on one host; none began while the one before it was up."""
    launched: dict[PodId, Launch] = {}
    killed: set[PodId] = set()
    for agents in lives:
        for effect in agents.asked:
            launches = effect.launches if isinstance(effect, Reconcile) else [effect]
            killed |= {effect.pod} if isinstance(effect, Kill) else set()
            for launch in launches:
                if isinstance(launch, Launch):
                    assert launched.setdefault(launch.pod, launch) == launch
    up: dict[tuple[JobId, int], int] = {}
    ended: set[PodId] = set()
    for agents in lives:
        for report in agents.said:
            job, instance, run = parse_pod_id(report.pod)
            if report.state is TaskState.RUNNING:
                assert report.pod not in ended
                assert up.setdefault((job, instance), run) == run
            elif report.state not in (TaskState.STARTING, TaskState.STAGING):
                ended.add(report.pod)
                up.pop((job, instance), None)
    assert not killed
    assert len(up) >= sum(count for job, count in COUNTS.items() if job != job_id(2))


async def crash_once(directory: Path, seed: int) -> bool:
    """Live until the crash that the seed decides on, start again, and see that all is well.

    False: the crash came too late to happen.
    """
    chance = random.Random(seed)
    clock, told, lives = ManualClock(), set[JobId](), []
    journal = await CrashingJournal.open(directory / "first")
    journal.directory, journal.image = directory / "first", directory / "image"
    journal.crash_at, journal.is_durable = chance.randint(3, 40), chance.random() < 0.5
    daemon = a_daemon(journal, clock, limits=LIMITS)
    lives.append(daemon.agents)
    async with running(daemon) as run:
        living = asyncio.create_task(live(daemon, told))
        await asyncio.wait([run, living], return_when=asyncio.FIRST_COMPLETED)
        has_crashed = run.done()
        living.cancel()
        if has_crashed:
            assert isinstance(run.exception(), Crash)
    if not has_crashed:
        return False
    again = a_daemon(await Journal.open(directory / "image"), clock, limits=LIMITS)
    lives.append(again.agents)
    # What the agents had begun to say may be said again: nobody heard it.
    await again.loop.recover()
    assert again.journal.recovered.damage is None
    assert audit(again.state) == []
    if journal.is_durable:
        assert fingerprint(again.state) == fingerprint(daemon.state)
    assert told <= set(again.state.jobs)
    async with running(again):
        creating = asyncio.create_task(create_all(again, told))
        await drive(clock, lambda: all_run(again))
        await creating
        assert audit(again.state) == []
    check_that_nothing_ran_twice(lives)
    return True


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(10))
async def test_a_crash_takes_nothing_back_and_starts_nothing_twice(tmp_path: Path, seed: int) -> None:
    assert await crash_once(tmp_path, seed)


@pytest.mark.asyncio
async def test_crash_after_crash_the_jobs_come_up(tmp_path: Path) -> None:
    """One directory, a crash in every life, each a few turns after the start."""
    clock, told, lives = ManualClock(), set[JobId](), []
    directory = tmp_path / "0"
    for life in range(1, 6):
        journal = await CrashingJournal.open(directory)
        journal.directory, journal.image = directory, tmp_path / str(life)
        journal.crash_at, journal.is_durable = journal.last_revision + 6, life % 2 == 0
        daemon = a_daemon(journal, clock, limits=LIMITS)
        lives.append(daemon.agents)
        await daemon.loop.recover()
        assert told <= set(daemon.state.jobs)
        async with running(daemon) as run:
            living = asyncio.create_task(live(daemon, told) if life == 1 else create_all(daemon, told))
            driving = asyncio.create_task(drive(clock, lambda: False))
            await asyncio.wait([run])
            living.cancel()
            driving.cancel()
            assert isinstance(run.exception(), Crash)
        directory = journal.image
    last = a_daemon(await Journal.open(directory), clock, limits=LIMITS)
    lives.append(last.agents)
    await last.loop.recover()
    async with running(last):
        creating = asyncio.create_task(create_all(last, told))
        await drive(clock, lambda: all_run(last))
        await creating
    check_that_nothing_ran_twice(lives)
