"""How fair a day was: fifty pools, twenty thousand pods that come and go, and what each pool had of its part.

The real machine on virtual time, with agents that answer at once. Each leaf's load swells and ebbs at its
own hour, so that pools lend by night what they claim back by day. Every five minutes each leaf is measured:
what it lacks of what it asks for and is entitled to, and what it holds beyond its entitlement. Prints a table
by hours, and the digest of all measurements, which is the same for the same seed; then what one calculation
of entitlements costs.

    python benchmarks/bench_fairness.py [seed]
"""

import gc
import hashlib
import heapq
import math
import random
import sys
import time
from typing import NamedTuple

from derny.answers.queries import changes
from derny.capacity.entitlement import claims_of, entitle
from derny.capacity.tree import PoolTree
from derny.core import commands
from derny.core.audit import audit
from derny.core.effects import Kill, Launch
from derny.core.events import PodsPreempted
from derny.core.machine import Machine
from derny.model.ids import ROOT_POOL, HostName, JobId, PoolId
from derny.model.periods import Limits, Periods
from derny.model.records import Pool
from derny.model.resources import KINDS, Resources
from derny.model.specs import JobSpec, PodTemplate, PoolResource, PoolSpec
from derny.model.states import TaskState

HOSTS, HOST = 200, Resources(cpu=32_000, memory=131_072_000, disk=1_000_000_000)
DEPARTMENTS, TEAMS = 10, 4
PODS = 20_000
DAY_S = 24 * 3600
EVERY_S = 300
START = 1_000_000.0
BUDGET = Limits().entities_per_turn

Due = tuple[float, int, commands.Command]


class Sample(NamedTuple):
    """All leaves at one moment, in thousandths of a cpu."""

    at: float
    asked: int
    held: int
    short: int
    over: int


def spec_of(name: str, parent: PoolId, capacity: Resources, part: float, share: float) -> PoolSpec:
    """A pool that reserves a part of the capacity and may have all of it."""
    amounts = [(kind, capacity.of_kind(kind)) for kind in KINDS]
    return PoolSpec(
        name,
        parent,
        b"",
        tuple(PoolResource(kind, int(amount * part), amount, share) for kind, amount in amounts),
    )


def cluster(draw: random.Random) -> tuple[Machine, list[PoolId]]:
    """A machine with hosts and fifty pools, of which the leaves are returned. Reservations come to 80 %."""
    machine = Machine(Periods(), Limits())
    seen = [commands.HostSeen(HostName(f"host-{n}"), f"agent-{n}", "10.0.0.1", HOST) for n in range(HOSTS)]
    machine.handle(commands.SeeHosts(seen), START)
    capacity, leaves = machine.state.tree.capacity, []
    for department in range(DEPARTMENTS):
        above = PoolId(f"department-{department}")
        part = 0.8 / DEPARTMENTS
        spec = spec_of(above, ROOT_POOL, capacity, part, draw.choice([1.0, 1.0, 2.0]))
        machine.handle(commands.CreatePool(above, spec), START)
        for team in range(TEAMS):
            leaf = PoolId(f"team-{department}-{team}")
            spec = spec_of(leaf, above, capacity, part / TEAMS, draw.choice([1.0, 2.0, 3.0]))
            machine.handle(commands.CreatePool(leaf, spec), START)
            leaves.append(leaf)
    return machine, leaves


def day(draw: random.Random, leaves: list[PoolId]) -> list[Due]:
    """Jobs that come and go until all pods have been there; each leaf is busiest at its own hour."""
    due: list[Due] = []
    pods, number = 0, 0
    while pods < PODS:
        leaf = draw.randrange(len(leaves))
        at = draw.uniform(0, DAY_S)
        busy = 0.5 + 0.5 * math.cos(2 * math.pi * (at / DAY_S - leaf / len(leaves)))
        if draw.random() > busy**2:
            continue
        count = min(round(draw.lognormvariate(3.3, 1.0)) + 1, 400, PODS - pods)
        stays = min(draw.lognormvariate(9.2, 0.9), DAY_S)
        job = JobId(f"00000000-0000-4000-8000-{number:012d}")
        cpu = draw.choice([1000, 2000, 4000])
        template = PodTemplate(Resources(cpu, cpu * 2000, 1_000_000), preemptible=True)
        spec = JobSpec(job, leaves[leaf], count, b"", (template,), priority=draw.randrange(3))
        heapq.heappush(due, (START + at, 2 * number, commands.CreateJob(job, spec)))
        heapq.heappush(due, (START + at + stays, 2 * number + 1, commands.DeleteJob(job, "", force=True)))
        pods, number = pods + count, number + 1
    return due


def settle(machine: Machine, at: float) -> int:
    """Turns at one moment until nothing more happens; agents do as they are told, at once. Returns how many
    pods were preempted."""
    more, preempted = True, 0
    while more:
        done, more = machine.advance(at, BUDGET)
        preempted += sum(len(event.instances) for event in done if isinstance(event, PodsPreempted))
        changes(machine.state, *machine.take_changed())
        reports = []
        for effect in machine.take_effects():
            if isinstance(effect, Launch):
                reports.append(commands.PodReport(effect.pod, TaskState.RUNNING))
            elif isinstance(effect, Kill):
                reports.append(commands.PodReport(effect.pod, TaskState.KILLED))
        if reports:
            machine.handle(commands.ReportPods(reports), at)
            more = True
    return preempted


def do(machine: Machine, command: commands.Command, at: float) -> None:
    """Handle a command; a delete speaks of the version that the job has by now."""
    if isinstance(command, commands.DeleteJob):
        job = machine.state.jobs[command.job]
        command = commands.DeleteJob(command.job, f"{job.config}-{job.desired}-{job.workflow}", True)
    machine.handle(command, at)


def measured(machine: Machine, leaves: list[Pool], at: float) -> Sample:
    """All leaves as they are."""
    asked = [leaf.allocation.cpu + leaf.demand.cpu for leaf in leaves]
    part = [leaf.non_slack_entitlement.cpu for leaf in leaves]
    held = [leaf.allocation.cpu for leaf in leaves]
    short = sum(max(min(a, p) - h, 0) for a, p, h in zip(asked, part, held, strict=True))
    over = sum(max(h - p, 0) for p, h in zip(part, held, strict=True))
    return Sample(at, sum(asked), sum(held), short, over)


def lived(machine: Machine, leaves: list[PoolId], due: list[Due]) -> tuple[list[Sample], int]:
    """The day, measured every five minutes, and then on until everybody has left; and how many pods were
    preempted."""
    pools = [machine.state.tree.pools[leaf] for leaf in leaves]
    samples: list[Sample] = []
    sample_at, preempted = START + EVERY_S, 0
    while due or machine.state.jobs:
        wake = machine.next_wake
        moments = [due[0][0]] if due else []
        moments += [wake] if wake is not None else []
        at = max(min(moments), START)
        while sample_at < at and sample_at <= START + DAY_S:
            samples.append(measured(machine, pools, sample_at))
            sample_at += EVERY_S
        while due and due[0][0] <= at:
            do(machine, heapq.heappop(due)[2], at)
        preempted += settle(machine, at)
    return samples, preempted


def row(samples: list[Sample], capacity: int) -> str:
    """The means of some samples, in percent of the cluster, and the worst of the last two."""

    def mean(column: int) -> float:
        return 100 * sum(sample[column] for sample in samples) / len(samples) / capacity

    worst = [100 * max(sample[column] for sample in samples) / capacity for column in (3, 4)]
    return (
        f"{mean(1):>8.1f} {mean(2):>8.1f} {mean(3):>8.2f} {worst[0]:>8.2f} {mean(4):>8.2f} {worst[1]:>8.2f}"
    )


def cost(pools: int, wide: bool) -> float:
    """Seconds of the fastest of twenty calculations for so many pools, each of which asks and is asked."""
    draw = random.Random(1)
    tree = PoolTree()
    tree.set_capacity(Resources(10**9, 10**12, 10**12, 10**6, 10**8))
    for number in range(pools):
        parent = ROOT_POOL if wide or number < 30 else PoolId(f"pool-{draw.randrange(30)}")
        parts = (
            PoolResource(
                kind, draw.randrange(10**5), draw.randrange(10**6, 10**9), draw.choice([1.0, 2.0, 0.5])
            )
            for kind in KINDS
        )
        tree.add(PoolId(f"pool-{number}"), PoolSpec(f"pool-{number}", parent, b"", tuple(parts)), 0.0)
    for pool in tree.walk():
        if not pool.children:
            pool.demand = Resources(*(draw.randrange(10**7) for _ in range(4)))
            pool.slack_demand = Resources(0, 5, 5, 5, draw.randrange(10**6))
    took = []
    for _ in range(20):
        began = time.perf_counter()
        entitle(claims_of(tree), tree.capacity)
        took.append(time.perf_counter() - began)
    return min(took)


def main() -> None:
    """The day, then the cost."""
    # As in the daemon.
    gc.disable()
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    draw = random.Random(seed)
    machine, leaves = cluster(draw)
    capacity = machine.state.tree.capacity.cpu
    due = day(draw, leaves)
    jobs = len(due) // 2
    began = time.perf_counter()
    samples, preempted = lived(machine, leaves, due)
    took = time.perf_counter() - began
    assert not audit(machine.state)
    assert not any(any(pool.allocation) or any(pool.demand) for pool in machine.state.tree.walk())
    pools = DEPARTMENTS * (TEAMS + 1)
    print(f"{pools} pools, {PODS:,} pods of {jobs} jobs, seed {seed}, {took:.1f} s; in percent of all cpus")
    print(f"{'hours':>7} {'asked':>8} {'held':>8} {'short':>8} {'worst':>8} {'over':>8} {'worst':>8}")
    for hour in range(0, 24, 2):
        within = [s for s in samples if hour * 3600 < s.at - START <= (hour + 2) * 3600]
        print(f"{hour:>3}-{hour + 2:<3} {row(within, capacity)}")
    print(f"{'day':>7} {row(samples, capacity)}")
    print(f"{preempted:,} times a pod was preempted")
    print(f"digest {hashlib.sha256(repr(samples).encode()).hexdigest()[:16]}")
    for pools in (100, 1000):
        wide, deep = (1e3 * cost(pools, wide) for wide in (True, False))
        print(f"one calculation for {pools} pools: {wide:.1f} ms as siblings, {deep:.1f} ms in two levels")


if __name__ == "__main__":
    main()
