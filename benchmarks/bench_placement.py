"""Placements per second on 1,000, 12,500 and 50,000 hosts, as ratios to a plain Python first-fit loop.

Run it without arguments: `python benchmarks/bench_placement.py`. Every figure includes the debit of the
table, as when an event is applied. The hosts are partly used beforehand, each by a random share of 0 to
100 %, the same for all contestants. "plain" walks a list of hosts from the first on and takes the first that
fits, pod by pod.
"""

import random
import time
from collections.abc import Callable
from functools import partial

from derny.model.ids import HostName
from derny.model.resources import Resources
from derny.model.specs import PortRequest
from derny.placement.engine import Policy, Rules, place
from derny.placement.hosts import HostTable

HOST = Resources(cpu=32_000, memory=128_000_000, disk=1_000_000_000)
POD = Resources(cpu=500, memory=1_000_000, disk=5_000_000)
TWO_PORTS = (PortRequest("http"), PortRequest("admin"))
SINGLES = 20_000
SEED = 7


def used_shares(host_count: int) -> list[float]:
    chance = random.Random(SEED)
    return [chance.random() for _ in range(host_count)]


def used_table(host_count: int) -> HostTable:
    table = HostTable()
    for number, share in enumerate(used_shares(host_count)):
        row = table.add(HostName(f"host-{number}"), HOST)
        table.debit(row, Resources(*[int(amount * share) for amount in HOST]))
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


def singles(table: HostTable, wanted: list[Resources], rules: Rules) -> int:
    cursor, placed = 0, 0
    for demand in wanted:
        placement = place(table, demand, (), 1, cursor, rules)
        cursor = placement.cursor
        for row in placement.rows:
            table.debit(row, demand)
        placed += len(placement.rows)
    return placed


def groups(table: HostTable, sizes: list[int], rules: Rules, ports: tuple[PortRequest, ...] = ()) -> int:
    placed = 0
    for size in sizes:
        placement = place(table, POD, ports, size, 0, rules)
        table.debit_many(placement.rows, POD, placement.ports)
        placed += len(placement.rows)
    return placed


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """How many pods were placed, and in how many seconds."""
    begin = time.perf_counter()
    placed = work()
    return placed, time.perf_counter() - begin


def report(host_count: int) -> None:
    pack, spread = Rules(Policy.BEST_FIT), Rules(Policy.SPREAD)
    wanted = demands(SINGLES)
    runs: list[tuple[str, Callable[[HostTable], int]]] = [
        ("10,000 alike, pack", lambda table: groups(table, [10_000], pack)),
        ("10,000 alike, spread", lambda table: groups(table, [10_000], spread)),
        ("10,000 alike, pack, 2 ports", lambda table: groups(table, [10_000], pack, TWO_PORTS)),
        ("40 groups of 500, pack", lambda table: groups(table, [500] * 40, pack)),
        ("40 groups of 500, spread", lambda table: groups(table, [500] * 40, spread)),
        ("20,000 singles, pack", lambda table: singles(table, wanted, pack)),
        ("20,000 singles, spread", lambda table: singles(table, wanted, spread)),
    ]
    placed, seconds = timed(partial(plain_first_fit, host_count, wanted))
    plain = placed / seconds
    print_row(host_count, "20,000 singles, plain", placed, seconds, plain)
    for name, work in runs:
        placed, seconds = timed(partial(work, used_table(host_count)))
        print_row(host_count, name, placed, seconds, plain)


def print_row(host_count: int, name: str, placed: int, seconds: float, plain: float) -> None:
    rate = placed / seconds
    print(
        f"{host_count:>6,}  {name:<28} {placed:>7,} {seconds * 1e3:>9.1f} {rate:>11,.0f} {rate / plain:>9.1f}"
    )


def main() -> None:
    print(f"{'hosts':>6}  {'run':<28} {'placed':>7} {'ms':>9} {'placed/s':>11} {'x plain':>9}")
    for host_count in (1_000, 12_500, 50_000):
        report(host_count)


if __name__ == "__main__":
    main()
