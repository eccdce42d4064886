"""Groups of identical pods × hosts → placements, or the reasons why there is none.

The one rule: nothing is written here. `place` reads the host table, keeps its own account within the group,
and returns rows and port numbers; the core makes an event of them and debits the table when it applies that
event. Called by the place pass of `core.machine`, once per group of pods with the same needs.

A group of 16 or more looks at every host in a handful of numpy operations. A smaller one looks at a window
of hosts from a cursor on, and at a window four times as wide whenever that has not enough room; the last
window is the whole table, so "no host" is only ever said of all hosts.
"""

from enum import Enum
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from derny.model.resources import NOTHING, Resources, wire_units
from derny.model.specs import PortRequest
from derny.placement.hosts import HostTable

SMALL_GROUP: Final = 16
"""Groups of fewer pods search by windows: for them a scan of all hosts is most of the cost."""

WINDOW: Final = 256
"""Hosts in the first window: the best of 256 in no special order is, on average, in the best half percent."""

WIDEN: Final = 4
"""Each window to the last: all the narrower ones together cost a third of the widest."""

GPU: Final = Resources._fields.index("gpu")

SPREAD_ORDER: Final = tuple(map(Resources._fields.index, ("disk", "memory", "cpu", "gpu", "revocable_cpu")))


class Policy(Enum):
    """Which of the hosts with room is preferred.

    BEST_FIT packs: the host with the least free of the group's dominant kind, the kind of which one pod asks
    the greatest part of the whole cluster (dominant share; Ghodsi et al., Dominant Resource Fairness, NSDI
    2011). SPREAD takes the host with the most free of the first kind that the pod asks for, of disk, memory,
    cpu, gpu (behaviour, scheduler §6.7). Kinds that the pod does not ask for are left out, unlike there:
    they never fall, so they would pile the whole group on one host. Ties go to the host that registered
    first.
    """

    BEST_FIT = "best_fit"
    SPREAD = "spread"


class Rules(NamedTuple):
    """What the operator chose. `scarce_gpu`: hosts with gpus are kept for pods that ask for them (§6.8)."""

    policy: Policy = Policy.BEST_FIT
    scarce_gpu: bool = False


DEFAULT_RULES: Final = Rules()


class Placement(msgspec.Struct, frozen=True):
    """Where the pods of a group go.

    `rows` has the host's row for each placed pod, host by host; `ports` is parallel to it and has the
    numbers for the group's port requests, in their order, or is empty when the group has none. `cursor` is
    for the next call.

    When some pods are `unplaced`, `reasons` counts all hosts by the first filter that refuses a pod as the
    table stands (§6.3: mismatch_status, insufficient_offer_resources, scarce_resources, match; a match is a
    host that this very group has filled). `shortfall` and `port_shortfall` are what one more pod lacks on
    the nearest host, nearest by the worst ratio of what is lacking to what is asked.
    """

    rows: list[int]
    ports: list[tuple[int, ...]]
    cursor: int
    unplaced: int = 0
    reasons: dict[str, int] = {}
    shortfall: Resources = NOTHING
    port_shortfall: int = 0

    def pending_reason(self) -> str:
        """The counts as JSON, then what the nearest host lacks, in wire units; for a client to read."""
        if not self.reasons:
            return "no hosts"
        lacks = [
            f"{kind}={wire_units(amount)}"
            for kind, amount in zip(Resources._fields, self.shortfall, strict=True)
            if amount
        ]
        if self.port_shortfall:
            lacks.append(f"ports={self.port_shortfall}")
        counts = msgspec.json.encode(self.reasons).decode()
        return f"{counts}; the nearest host lacks {', '.join(lacks)}" if lacks else counts


class _Group(msgspec.Struct, frozen=True, gc=False):
    """What is asked, with the ports told apart. `keep_gpus`: hosts with gpus are not for this group."""

    demand: Resources
    static: tuple[int, ...]
    dynamic_count: int
    count: int
    keep_gpus: bool


def place(
    table: HostTable,
    demand: Resources,
    ports: tuple[PortRequest, ...],
    count: int,
    cursor: int = 0,
    rules: Rules = DEFAULT_RULES,
) -> Placement:
    """Places as many of `count` identical pods as there is room for, by the policy of `rules`.

    Within the hosts looked at the outcome is that of placing one pod after the other: with BEST_FIT the best
    host stays the best until it is full, since its free room only falls; with SPREAD see `_levelled`. A
    small group looks at a window, so its hosts are the best of about 256 and not of all. `cursor` is the
    last placement's, or 0.
    """
    static = tuple(port.number for port in ports if port.number)
    keep_gpus = rules.scarce_gpu and not demand.gpu
    group = _Group(demand, static, len(ports) - len(static), count, keep_gpus)
    if not count or not len(table):
        return Placement([], [], cursor, unplaced=count)
    low, fit = _search(table, group, cursor, rules.policy)
    hosts, shares = _chosen(table, group, low, fit, rules.policy)
    rows = np.repeat(hosts, shares).tolist()
    numbers = _port_numbers(table, ports, group, hosts, shares) if ports else []
    onward = _next_cursor(table, cursor, low, fit.size, rows, rules.policy)
    if len(rows) == count:
        return Placement(rows, numbers, onward)
    shortfall, port_shortfall = _shortfall(table, group, fit)
    reasons = _filter_counts(table, group, fit)
    return Placement(rows, numbers, onward, count - len(rows), reasons, shortfall, port_shortfall)


def _search(table: HostTable, group: _Group, cursor: int, policy: Policy) -> tuple[int, NDArray[np.int64]]:
    """The first row of the narrowest window with room for the group; and that room, host by host."""
    width = WINDOW if group.count < SMALL_GROUP else len(table)
    while True:
        # A window past the end is moved back, not wrapped round, so that it is a view and no copy.
        low = max(min(cursor, len(table) - width), 0)
        fit = _room(table, group, low, min(low + width, len(table)))
        # A group that spreads wants a host for each pod before it doubles up.
        enough = np.count_nonzero(fit) if policy is Policy.SPREAD else fit.sum()
        if enough >= group.count or width >= len(table):
            return low, fit
        width *= WIDEN


def _room(table: HostTable, group: _Group, low: int, high: int) -> NDArray[np.int64]:
    """How many pods of the group each of the rows low..high-1 takes, at most all; shape (high - low,)."""
    fit = np.multiply(table.placeable[low:high], group.count, dtype=np.int64)
    for kind, amount in enumerate(group.demand):
        if amount:
            np.minimum(fit, table.free_units[kind, low:high] // amount, out=fit)
    if group.dynamic_count:
        np.minimum(fit, table.free_port_counts[low:high] // group.dynamic_count, out=fit)
    if group.keep_gpus:
        fit[table.capacity_units[GPU, low:high] > 0] = 0
    np.maximum(fit, 0, out=fit)  # a host that shrank below its use has negative room
    if group.static:
        _limit_to_static_ports(table, group, low, fit)
    return fit


def _limit_to_static_ports(table: HostTable, group: _Group, low: int, fit: NDArray[np.int64]) -> None:
    """Lowers `fit` to one pod per host, and to none where a number is taken or the pod asks for one twice."""
    rows = slice(low, low + fit.size)
    np.minimum(fit, len(set(group.static)) == len(group.static), out=fit)
    for number in group.static:
        fit[table.taken(number)[rows]] = 0
    if group.dynamic_count:
        fit[table.free_port_counts[rows] - _in_range(table, group)[rows] < group.dynamic_count] = 0


def _in_range(table: HostTable, group: _Group) -> NDArray[np.int64]:
    """How many of the group's static ports each host counts among those to pick from; shape (hosts,)."""
    inside = np.zeros(len(table), np.int64)
    for number in group.static:
        inside += table.in_range(number)
    return inside


def _chosen(
    table: HostTable, group: _Group, low: int, fit: NDArray[np.int64], policy: Policy
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that are used, and how many pods go on each; both of shape (hosts used,)."""
    kind = _leading_kind(table, group.demand, policy)
    free = np.zeros_like(fit) if kind is None else table.free_units[kind, low : low + fit.size]
    if policy is Policy.BEST_FIT:
        best = _first_by(free, fit, group.count)
        ahead = np.cumsum(fit[best]) - fit[best]
        return best + low, np.clip(group.count - ahead, 0, fit[best])
    best = np.sort(_first_by(-free, fit, group.count))
    step = 1 if kind is None else group.demand[kind]
    return best + low, _levelled(free[best], step, fit[best], group.count)


def _leading_kind(table: HostTable, demand: Resources, policy: Policy) -> int | None:
    """The kind by which hosts are compared; None for a pod that asks for nothing."""
    if policy is Policy.SPREAD:
        return next((kind for kind in SPREAD_ORDER if demand[kind]), None)
    total = table.total_capacity()
    shares = [amount / (whole or 1) for amount, whole in zip(demand, total, strict=True)]
    return shares.index(max(shares)) if any(demand) else None


def _first_by(keys: NDArray[np.int64], fit: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` hosts with room that have the lowest keys, ascending, ties by row; or all, if fewer."""
    hosts = np.flatnonzero(fit)
    keys = keys[hosts]
    if count < hosts.size:
        # Partition first: sorting thousands of hosts for one pod is what makes a scan slow.
        near = keys <= np.partition(keys, count - 1)[count - 1]
        hosts, keys = hosts[near], keys[near]
    return hosts[np.argsort(keys, kind="stable")[:count]]


def _levelled(free: NDArray[np.int64], step: int, fit: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many pods each host gets when each pod goes where most is free, each lowering that by `step`.

    Host h can be used at the levels free[h], free[h] - step, ..., fit[h] of them, and one after the other
    the pods take the `count` highest of all these levels. So the lowest level taken is found by bisection;
    all above it are taken, and those that equal it in the order of the hosts. Shapes: (hosts,).
    """
    if fit.sum() <= count:
        return fit
    low = int(free.min() if free.size >= count else (free - (fit - 1) * step).min())
    high = int(free.max())
    while low < high:
        level = (low + high + 1) // 2
        if _at_or_above(level, free, step, fit).sum() >= count:
            low = level
        else:
            high = level - 1
    shares = _at_or_above(low + 1, free, step, fit)
    level_hosts = np.flatnonzero(_at_or_above(low, free, step, fit) > shares)
    shares[level_hosts[: count - int(shares.sum())]] += 1
    return shares


def _at_or_above(level: int, free: NDArray[np.int64], step: int, fit: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each host's levels are at least `level`."""
    return np.clip((free - level) // step + 1, 0, fit)


def _port_numbers(
    table: HostTable,
    ports: tuple[PortRequest, ...],
    group: _Group,
    hosts: NDArray[np.int64],
    shares: NDArray[np.int64],
) -> list[tuple[int, ...]]:
    """The numbers of each placed pod: static ones as asked, the others lowest first, pod by pod (§6.8)."""
    numbers: list[tuple[int, ...]] = []
    for row, share in zip(hosts.tolist(), shares.tolist(), strict=True):
        lowest = iter(table.ports[row].lowest(share * group.dynamic_count, besides=group.static))
        numbers.extend(tuple(port.number or next(lowest) for port in ports) for _ in range(share))
    return numbers


def _next_cursor(table: HostTable, cursor: int, low: int, width: int, rows: list[int], policy: Policy) -> int:
    """Packing stays where room was found; spreading goes on to the next window, and round."""
    if policy is Policy.SPREAD:
        return (low + width) % len(table)
    if width <= WINDOW or not rows:
        return cursor
    return rows[0]


def _filter_counts(table: HostTable, group: _Group, fit: NDArray[np.int64]) -> dict[str, int]:
    """How many hosts each filter refuses, in the order of §6.3: status, resources, gpu rule, ports."""
    up = table.placeable[: fit.size]
    counts = {"mismatch_status": int(np.count_nonzero(~up))}
    short = np.zeros_like(up)
    for kind, amount in enumerate(group.demand):
        if amount:
            short |= table.free_units[kind, : fit.size] < amount
    kept = up & ~short & (table.capacity_units[GPU, : fit.size] > 0) & group.keep_gpus
    counts["scarce_resources"] = int(np.count_nonzero(kept))
    counts["match"] = int(np.count_nonzero(fit))
    counts["insufficient_offer_resources"] = fit.size - sum(counts.values())
    return {reason: counts[reason] for reason in sorted(counts) if counts[reason]}


def _shortfall(table: HostTable, group: _Group, fit: NDArray[np.int64]) -> tuple[Resources, int]:
    """What one more pod lacks on the nearest host once the group's pods are there: resources, and ports."""
    usable = table.placeable[: fit.size].copy()
    if group.keep_gpus:
        usable &= table.capacity_units[GPU, : fit.size] == 0
    if not usable.any():
        return NOTHING, 0
    needs = [*group.demand, group.dynamic_count]
    # The group's pods also take their static ports out of the range.
    left_ports = table.free_port_counts[: fit.size] - fit * _in_range(table, group)[: fit.size]
    frees = [*table.free_units[:, : fit.size], left_ports]
    worst = np.where(usable, 0.0, np.inf)
    for need, free in zip(needs, frees, strict=True):
        if need:
            np.maximum(worst, (need * (fit + 1) - free) / need, out=worst)
    nearest = int(worst.argmin())
    pods = int(fit[nearest]) + 1
    lacks = [
        max(need * pods - int(free[nearest]), 0) if need else 0
        for need, free in zip(needs, frees, strict=True)
    ]
    return Resources(*lacks[:-1]), lacks[-1]
