"""The same seed and the same commands give the same journal, byte for byte, whatever the process.

Run as a program, this file lives the scenario and prints the digest of all turns.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders import (
    POOL,
    Daemon,
    a_daemon,
    a_host,
    a_job,
    a_pool,
    a_template,
    drive,
    job_id,
    pool_id,
    running,
)
from derny.core import commands
from derny.journal.store import Journal
from derny.model.states import PodState
from derny.runtime.clock import ManualClock


async def scenario(daemon: Daemon) -> None:
    """Jobs that run, crash, are stopped, started and deleted, in two pools; one host falls silent."""
    loop, clock, state = daemon.loop, daemon.clock, daemon.state

    async def passes(seconds: float) -> None:
        end = clock.now() + seconds
        await drive(clock, lambda: clock.next is None or clock.next > end)
        clock.advance(end)
        await clock.idle.wait()

    await daemon.begin()
    below = [pool_id(1), pool_id(2)]
    for number, pool in enumerate(below):
        spec = a_pool(state.tree.capacity, POOL, f"leaf{number}", 0.5)
        await loop.submit(commands.CreatePool(pool, spec))
    runs = ["sleep 100000", "sleep 3; exit 1", "sleep 20", "trap '' TERM; while true; do sleep 1; done"]
    await asyncio.gather(
        *(
            loop.submit(
                commands.CreateJob(
                    job_id(number),
                    a_job(
                        3 + number,
                        below[number % 2],
                        f"name{number % 3}",
                        number % 2,
                        a_template(ports=2, run=run),
                    ),
                )
            )
            for number, run in enumerate(runs)
        )
    )
    await passes(40)
    version = await loop.read(lambda state: f"1-{state.jobs[job_id(0)].desired}-1")
    await loop.submit(commands.StopJob(job_id(0), version))
    await loop.submit(commands.DeleteJob(job_id(3), "1-1-1", True))
    await passes(10)
    await loop.submit(commands.StartJob(job_id(0), "1-2-1"))
    daemon.agents.stop_agent(a_host(0).name, clock.now())
    await passes(200)
    daemon.agents.start_agent(a_host(0).name, clock.now())
    await passes(600)
    assert state.jobs[job_id(0)].counts[PodState.RUNNING] == 3
    assert job_id(3) not in state.jobs
    assert state.jobs[job_id(1)].pods[0].failures > 3


async def digest(directory: Path | None, seed: int) -> str:
    """Of every turn of the scenario: its number, its moment and its bytes."""
    daemon = a_daemon(await Journal.open(directory), ManualClock(), seed=seed)
    found = hashlib.sha256()
    async with running(daemon):
        await scenario(daemon)
        async for chunk in daemon.journal.read():
            for turn in chunk:
                found.update(repr(turn).encode())
    return f"{daemon.journal.last_revision} {found.hexdigest()}"


def digest_elsewhere(hash_seed: int, seed: int, directory: Path) -> str:
    """The digest in a process of its own, in which sets of strings have another order."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(hash_seed),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, __file__, str(seed), str(directory)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_two_processes_write_the_same_journal(tmp_path: Path) -> None:
    first, again, other = (
        digest_elsewhere(hash_seed, seed, tmp_path / name)
        for hash_seed, seed, name in ((1, 7, "a"), (2, 7, "b"), (1, 8, "c"))
    )
    assert first == again
    assert first != other
    assert int(first.split()[0]) > 20


@pytest.mark.asyncio
async def test_where_the_journal_is_kept_makes_no_difference(tmp_path: Path) -> None:
    assert await digest(tmp_path, 7) == await digest(None, 7)


if __name__ == "__main__":
    print(asyncio.run(digest(Path(sys.argv[2]), int(sys.argv[1]))))
