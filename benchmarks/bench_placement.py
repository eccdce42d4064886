"""Placements per second on 1,000, 12,500 and 50,000 hosts, as ratios to a plain Python first-fit loop.

Run it without arguments: `python benchmarks/bench_placement.py`. Every figure includes the debit of the
table, with the labels of pods, as when an event is applied. The hosts are partly used beforehand, each by a
random share of 0 to 100 %, the same for all contestants. "plain" walks a list of hosts from the first on and
takes the first that fits, pod by pod; "plain, host limit" also keeps a set of the hosts that have one. Last,
how long it takes to explain why 5,000, 12,500 and 100,000 hosts take no pod. Short: `--hosts 1000`.
"""

import random
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from derny.model.ids import HostName, JobId
from derny.model.resources import Resources
from derny.model.rules import Policy, Rules
from derny.model.specs import AndConstraint, Condition, LabelConstraint, LabelKind, OrConstraint, PortRequest
from derny.placement.constraints import pod_labels
from derny.placement.engine import place
from derny.placement.explain import explain
from derny.placement.filters import Ask
from derny.placement.hosts import HostTable
from derny.placement.table_copy import TableCopy

T = TypeVar("T")

HOST = Resources(cpu=32_000, memory=128_000_000, disk=1_000_000_000)
POD = Resources(cpu=500, memory=1_000_000, disk=5_000_000)
TWO_PORTS = (PortRequest("http"), PortRequest("admin"))
SINGLES = 20_000
SEED = 7
RACKS = 40

JOB = JobId("job")
PACK, SPREAD = Rules(Policy.BEST_FIT), Rules(Policy.SPREAD)

WEB = (("app", "web"),)
DB = (("app", "db"),)
HOST_LIMIT_1 = Ask(
    POD, constraint=LabelConstraint(LabelKind.POD, Condition.LESS_THAN, *WEB[0], 1), labels=WEB
)
NEAR_DB = Ask(POD, constraint=LabelConstraint(LabelKind.POD, Condition.GREATER_THAN, *DB[0], 0))
FAR_FROM_DB = Ask(POD, constraint=LabelConstraint(LabelKind.POD, Condition.EQUAL, *DB[0], 0))
NESTED = Ask(
    POD,
    constraint=AndConstraint(
        (
            OrConstraint(
                tuple(
                    LabelConstraint(LabelKind.HOST, Condition.EQUAL, "rack", f"r{rack}", 1)
                    for rack in range(RACKS // 2)
                )
            ),
            LabelConstraint(LabelKind.POD, Condition.LESS_THAN, *WEB[0], 3),
            LabelConstraint(LabelKind.POD, Condition.EQUAL, *DB[0], 0),
        )
    ),
    labels=WEB,
)


def used_shares(host_count: int) -> list[float]:
    chance = random.Random(SEED)
    return [chance.random() for _ in range(host_count)]


def used_table(host_count: int) -> HostTable:
    table = HostTable()
    for number, share in enumerate(used_shares(host_count)):
        row = table.add(HostName(f"host-{number}"), HOST, labels=(("rack", f"r{number % RACKS}"),))
        table.debit(row, Resources(*[int(amount * share) for amount in HOST]))
    # A database on every third host, for others to keep near to or far from.
    table.pod_labels.add(JOB, DB, range(0, host_count, 3), range(0, host_count, 3))
    return table


def demands(count: int) -> list[Resources]:
    """Pods that all differ a little, so that no two are one group."""
    chance = random.Random(SEED)
    return [Resources(*[int(amount * chance.uniform(0.5, 1.5)) for amount in POD]) for _ in range(count)]


def plain_first_fit(host_count: int, wanted: list[Resources]) -> int:
    """The baseline: pod after pod, the first host in a list that has room for every kind."""
    hosts = [[int(amount * (1 - share)) for amount in HOST] for share in used_shares(host_count)]
    placed = 0
    for demand in wanted:
        for free in hosts:
            if all(need <= room for need, room in zip(demand, free, strict=True)):
                free[:] = [room - need for need, room in zip(demand, free, strict=True)]
                placed += 1
                break
    return placed


def plain_host_limit(host_count: int, wanted: list[Resources]) -> int:
    """The same, with at most one pod on each host."""
    hosts = [[int(amount * (1 - share)) for amount in HOST] for share in used_shares(host_count)]
    taken: set[int] = set()
    for demand in wanted:
        for row, free in enumerate(hosts):
            if row not in taken and all(need <= room for need, room in zip(demand, free, strict=True)):
                taken.add(row)
                break
    return len(taken)


def count_labels(table: HostTable, ask: Ask, placed: list[int]) -> None:
    """As the place pass does before each look; `placed` has the rows of the group's own pods so far."""
    while (found := table.pod_labels.uncounted(pod_labels(ask.constraint))) is not None:
        table.pod_labels.count(*found[:2], range(0, len(table), 3) if found[0] == DB[0] else placed)


def singles(table: HostTable, asks: list[Ask], rules: Rules) -> int:
    cursor, placed = 0, 0
    rows: list[int] = []
    for ask in asks:
        if ask.constraint is not None:
            count_labels(table, ask, rows)
        placement = place(table, ask, 1, rules, cursor)
        cursor = placement.cursor
        for row in placement.rows:
            table.debit(row, ask.demand)
        if ask.labels:
            rows += placement.rows
            table.pod_labels.add(JOB, ask.labels, placement.rows, range(len(placement.rows)))
        placed += len(placement.rows)
    return placed


def groups(table: HostTable, ask: Ask, sizes: list[int], rules: Rules) -> int:
    cursor, placed = 0, 0
    rows: list[int] = []
    for size in sizes:
        count_labels(table, ask, rows)
        placement = place(table, ask, size, rules, cursor)
        cursor = placement.cursor
        table.debit_many(placement.rows, POD, placement.ports)
        if ask.labels:
            rows += placement.rows
            table.pod_labels.add(JOB, ask.labels, placement.rows, range(len(placement.rows)))
        placed += len(placement.rows)
    return placed


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What comes of it, as how many pods were placed, and in how many seconds."""
    begin = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begin


def report(host_count: int) -> None:
    wanted = demands(SINGLES)
    mixed = [Ask(demand) for demand in wanted]
    limited = [HOST_LIMIT_1] * min(SINGLES, host_count // 2)
    ports = Ask(POD, TWO_PORTS)
    runs: list[tuple[str, Callable[[HostTable], int]]] = [
        ("10,000 alike, pack", lambda table: groups(table, Ask(POD), [10_000], PACK)),
        ("10,000 alike, spread", lambda table: groups(table, Ask(POD), [10_000], SPREAD)),
        ("10,000 alike, pack, 2 ports", lambda table: groups(table, ports, [10_000], PACK)),
        ("10,000 host limit 1", lambda table: groups(table, HOST_LIMIT_1, [10_000], SPREAD)),
        ("10,000 affinity", lambda table: groups(table, NEAR_DB, [10_000], SPREAD)),
        ("10,000 anti-affinity", lambda table: groups(table, FAR_FROM_DB, [10_000], SPREAD)),
        ("10,000 of 23 nested clauses", lambda table: groups(table, NESTED, [10_000], SPREAD)),
        ("40 groups of 500, pack", lambda table: groups(table, Ask(POD), [500] * 40, PACK)),
        ("40 groups of 500, spread", lambda table: groups(table, Ask(POD), [500] * 40, SPREAD)),
        ("20 of 500, host limit 1", lambda table: groups(table, HOST_LIMIT_1, [500] * 20, SPREAD)),
        ("20,000 singles, pack", lambda table: singles(table, mixed, PACK)),
        ("20,000 singles, spread", lambda table: singles(table, mixed, SPREAD)),
        ("singles, host limit 1", lambda table: singles(table, limited, SPREAD)),
    ]
    placed, seconds = timed(partial(plain_first_fit, host_count, wanted))
    plain = placed / seconds
    print_row(host_count, "20,000 singles, plain", placed, seconds, plain)
    few = wanted[: host_count // 2]
    placed, seconds = timed(partial(plain_host_limit, host_count, few))
    print_row(host_count, "plain, host limit 1", placed, seconds, plain)
    for name, work in runs:
        placed, seconds = timed(partial(work, used_table(host_count)))
        print_row(host_count, name, placed, seconds, plain)


def report_explaining(host_count: int) -> None:
    table = used_table(host_count)
    count_labels(table, NESTED, [])
    ask = Ask(HOST, TWO_PORTS, 0, NESTED.constraint, WEB)
    copy, seconds = timed(lambda: TableCopy(table, [ask]))
    refused, more = timed(lambda: explain(copy, ask, SPREAD, names=10).hosts)
    print(
        f"explained why {refused:,} hosts take no pod: {seconds * 1e3:.1f} ms to copy the table,"
        f" {more * 1e3:.1f} ms to look at the copy"
    )


def print_row(host_count: int, name: str, placed: int, seconds: float, plain: float) -> None:
    rate = placed / seconds
    print(
        f"{host_count:>6,}  {name:<28} {placed:>7,} {seconds * 1e3:>9.1f} {rate:>11,.0f} {rate / plain:>9.1f}"
    )


def main() -> None:
    print(f"{'hosts':>6}  {'run':<28} {'placed':>7} {'ms':>9} {'placed/s':>11} {'x plain':>9}")
    asked = [int(number) for number in sys.argv[2:]] if sys.argv[1:2] == ["--hosts"] else []
    for host_count in asked or (1_000, 12_500, 50_000):
        report(host_count)

    for host_count in (5_000, 12_500, 100_000):
        report_explaining(host_count)


if __name__ == "__main__":
    main()
