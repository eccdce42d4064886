"""The pure core alone: pods from CreateJob to RUNNING per second, the length of a turn, and bytes per pod.

No disk, no sockets, agents that answer at once. Every turn's events are encoded as the journal would have
them, and what watchers would be told is taken. Bytes are what pods take at rest, once the creations of their
jobs have ended. Prints a table; takes no arguments.
"""

import gc
import time
from pathlib import Path

import msgspec

from derny.answers.queries import changes
from derny.core import commands
from derny.core.effects import Launch
from derny.core.machine import Machine
from derny.model.ids import HostName, JobId, PoolId
from derny.model.periods import Limits, Periods
from derny.model.resources import KINDS, Resources
from derny.model.specs import JobSpec, PodTemplate, PoolResource, PoolSpec
from derny.model.states import PodState, TaskState

POOL = PoolId("00000000-0000-4000-8000-000000000000")
TEMPLATE = PodTemplate(Resources(cpu=10, memory=1000, disk=1000))
HOST = Resources(cpu=64_000, memory=262_144_000, disk=1_000_000_000)
LIMITS = Limits()

Turn = tuple[float, bytes]


def resident_bytes() -> int:
    """What the process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def machine_with(hosts: int) -> Machine:
    """A machine with hosts, and one pool that has all of them."""
    machine = Machine(Periods(), LIMITS)
    seen = [commands.HostSeen(HostName(f"host-{n}"), f"agent-{n}", "10.0.0.1", HOST) for n in range(hosts)]
    machine.handle(commands.SeeHosts(seen), 0.0)
    amounts = [(kind, machine.state.tree.capacity.of_kind(kind)) for kind in KINDS]
    resources = tuple(PoolResource(kind, amount, amount) for kind, amount in amounts)
    machine.handle(commands.CreatePool(POOL, PoolSpec("pool", PoolId("root"), b"", resources)), 0.0)
    return machine


def turn(machine: Machine, at: float) -> bytes:
    """One turn; every launch is answered in it. Returns the events as the journal would have them."""
    events, _ = machine.advance(at, LIMITS.entities_per_turn)
    launches = [effect for effect in machine.take_effects() if isinstance(effect, Launch)]
    for state in (TaskState.STARTING, TaskState.RUNNING):
        if launches:
            reports = [commands.PodReport(launch.pod, state, "as asked") for launch in launches]
            events += machine.handle(commands.ReportPods(reports), at)
    changes(machine.state, *machine.take_changed())
    return msgspec.msgpack.encode(events)


def run(pods: int, hosts: int) -> str:
    """One row of the table: jobs of at most 50,000 pods each until there are `pods`."""
    machine = machine_with(hosts)
    before = resident_bytes()
    turns: list[Turn] = []
    lengths: list[float] = []
    started = time.perf_counter()
    for number, first in enumerate(range(0, pods, 50_000)):
        job = JobId(f"00000000-0000-4000-8000-{number:012d}")
        count = min(50_000, pods - first)
        spec = JobSpec(f"job-{number}", POOL, count, b"", (TEMPLATE,))
        machine.handle(commands.CreateJob(job, spec), 0.0)
        while machine.state.jobs[job].counts[PodState.RUNNING] < count:
            began = time.perf_counter()
            at = len(turns) * 0.01
            turns.append((at, turn(machine, at)))
            lengths.append(time.perf_counter() - began)
    took = time.perf_counter() - started
    # Creations end when their pods have run for a while, and remember their pods until then.
    at = len(turns) * 0.01 + Periods().steady_s
    while machine.state.rollouts:
        turns.append((at, turn(machine, at)))
    journal = sum(len(events) for _, events in turns)
    at_rest = resident_bytes() - before - journal
    lengths.sort()
    p99 = lengths[int(len(lengths) * 0.99)]
    return (
        f"{pods:>9,} {hosts:>6,} {pods / took:>10,.0f} {p99 * 1e3:>9.1f} {lengths[-1] * 1e3:>9.1f}"
        f" {at_rest / pods:>8.0f} {journal / pods:>10.1f}"
    )


def main() -> None:
    """Print the table."""
    gc.disable()  # as the daemon does
    print(
        f"{'pods':>9} {'hosts':>6} {'pods/s':>10} {'p99 ms':>9} {'max ms':>9} {'B/pod':>8} {'journal B':>10}"
    )
    for pods, hosts in ((10_000, 1_000), (50_000, 1_000), (200_000, 5_000)):
        print(run(pods, hosts), flush=True)


if __name__ == "__main__":
    main()
