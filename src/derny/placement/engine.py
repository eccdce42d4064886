"""Groups of identical pods × hosts → placements, or the reasons why there is none.

The one rule: nothing is written here. `place` reads the host table, keeps its own account within the group,
and returns rows and port numbers; the core makes an event of them and debits the table when it applies that
event. Called by the place pass of `core.machine`, once per group of pods with the same needs.

A group of 16 or more looks at every host in a handful of numpy operations. A smaller one looks at a window
of hosts from a cursor on, and at a window four times as wide whenever that has not enough room; the last
window is the whole table, so "no host" is only ever said of all hosts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from textwrap import shorten
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from derny.model.resources import NOTHING, Resources, wire_units
from derny.model.rules import Policy, Rules
from derny.placement.constraints import described, limit
from derny.placement.filters import (
    IN_STATELESS_POOL,
    Ask,
    Filter,
    Reason,
    filters,
    lacks_ports,
    open_hosts,
    static_in_range,
)
from derny.placement.hosts import KINDS, HostTable
from derny.placement.labels import EXCLUSIVE, Where

SMALL_GROUP: Final = 16
"""Groups of fewer pods search by windows: for them a scan of all hosts is most of the cost."""

WINDOW: Final = 256
"""Hosts in the first window: the best of 256 in no special order is, on average, in the best half percent."""

WIDEN: Final = 4
"""Each window to the last: all the narrower ones together cost a third of the widest."""

CLAUSE_MAX: Final = 200
"""Characters of a part of a constraint in the reason that pods carry; `explain` has all of it."""

SPREAD_ORDER: Final = tuple(map(KINDS.index, ("disk", "memory", "cpu", "gpu", "revocable_cpu", "fds")))


class Placement(msgspec.Struct, frozen=True):
    """Where the pods of a group go.

    `rows` has the host's row for each placed pod, host by host; `ports` is parallel to it and has the
    numbers for the group's port requests, in their order, or is empty when the group has none. `cursor` is
    for the next call.

    When some pods are `unplaced`, `reasons` counts all hosts by the first filter that refuses a pod as the
    table stands (§6.3: mismatch_status, insufficient_offer_resources, scarce_resources, mismatch_constraints,
    match; a match is a host that this very group has filled). `clause` is the part of the constraint that is
    the first to refuse most hosts, and those, for a reader. `shortfall`, `fd_shortfall` and `port_shortfall`
    are what one more pod lacks on the nearest host, nearest by the worst ratio of what is lacking to what is
    asked.
    """

    rows: list[int]
    ports: list[tuple[int, ...]]
    cursor: int
    unplaced: int = 0
    reasons: dict[str, int] = {}
    shortfall: Resources = NOTHING
    port_shortfall: int = 0
    fd_shortfall: int = 0
    clause: str = ""

    def pending_reason(self) -> str:
        """The counts as JSON, then what keeps the pod off, amounts in wire units; for a client to read."""
        if not self.reasons:
            return "no hosts"
        lacks = [
            f"{kind}={wire_units(amount)}"
            for kind, amount in zip(Resources._fields, self.shortfall, strict=True)
            if amount
        ]
        lacks += [f"fds={self.fd_shortfall}"] if self.fd_shortfall else []
        lacks += [f"ports={self.port_shortfall}"] if self.port_shortfall else []
        counts = msgspec.json.encode(self.reasons).decode()
        said = [counts, self.clause, f"the nearest host lacks {', '.join(lacks)}" if lacks else ""]
        return "; ".join(filter(None, said))


class _Look(NamedTuple):
    """One search for hosts for so many pods that ask alike."""

    table: HostTable
    ask: Ask
    rules: Rules
    pods: int
    cursor: int

    @property
    def everywhere(self) -> slice:
        return slice(0, len(self.table))


def place(table: HostTable, ask: Ask, count: int, rules: Rules, cursor: int = 0) -> Placement:
    """Places as many of `count` identical pods as there is room for, by the policy of `rules`.

    Within the hosts looked at the outcome is that of placing one pod after the other: with BEST_FIT the best
    host stays the best until it is full, since its free room only falls; with SPREAD see `_levelled`. A
    small group looks at a window, so its hosts are the best of about 256 and not of all. Among hosts that are
    equally good the first from `cursor` on is taken; it is the last placement's, or any number to begin with.
    """
    if not count or not len(table):
        return Placement([], [], cursor, unplaced=count)
    look = _Look(table, ask, rules, count, cursor % len(table))
    low, fit = _search(look)
    hosts, shares = _chosen(look, low, fit)
    rows = np.repeat(hosts, shares).tolist()
    numbers: list[tuple[int, ...]] = []
    if ask.ports:
        numbers += chain.from_iterable(_port_numbers(table, ask, hosts.tolist(), shares.tolist()))
    onward = _next_cursor(look, low, fit.size, rows)
    if len(rows) == count:
        return Placement(rows, numbers, onward)
    counts, clause = _refusals(look)
    lacks = _shortfall(look, fit)
    return Placement(
        rows, numbers, onward, count - len(rows), counts, Resources(*lacks[:-2]), lacks[-1], lacks[-2], clause
    )


def place_at(
    table: HostTable, ask: Ask, rules: Rules, rows: Sequence[int]
) -> tuple[list[int], list[tuple[int, ...]]]:
    """Places pods that each want one certain host: which of `rows`, by index, have room for their pod, first
    come first served; and their port numbers, empty where none are asked for.

    That a host is held is no hindrance: it is held for pods that come back to it.
    """
    wanted = np.unique(np.asarray(rows, np.int64))
    fit = _room(_Look(table, ask, rules, len(rows), 0), wanted, come_back=True)
    left = dict(zip(wanted.tolist(), fit.tolist(), strict=True))
    placed: list[int] = []
    for index, row in enumerate(rows):
        if left[row]:
            left[row] -= 1
            placed.append(index)
    if not ask.ports:
        return placed, []
    shares = Counter(rows[index] for index in placed)
    numbers = dict(zip(shares, map(iter, _port_numbers(table, ask, shares, shares.values())), strict=True))
    return placed, [next(numbers[rows[index]]) for index in placed]


def _search(look: _Look) -> tuple[int, NDArray[np.int64]]:
    """The first row of the narrowest window with room for the group; and that room, host by host."""
    hosts = len(look.table)
    width = WINDOW if look.pods < SMALL_GROUP else hosts
    while True:
        # A window past the end is moved back, not wrapped round, so that it is a view and no copy.
        low = max(min(look.cursor, hosts - width), 0)
        fit = _room(look, slice(low, min(low + width, hosts)))
        # A group that spreads wants a host for each pod before it doubles up.
        enough = np.count_nonzero(fit) if look.rules.policy is Policy.SPREAD else fit.sum()
        if enough >= look.pods or width >= hosts:
            return low, fit
        width *= WIDEN


def _room(look: _Look, where: Where, *, come_back: bool = False) -> NDArray[np.int64]:
    """How many pods of the group each of the rows takes, at most all. `come_back`: held hosts too."""
    table, ask, count = look.table, look.ask, look.pods
    fit = np.multiply(table.placeable[where], count, dtype=np.int64)
    if (open_to := open_hosts(table, ask, look.rules)) is not None:
        fit *= open_to[where]
    if table.hold_count and not come_back:
        fit *= table.holds[where] == 0
    for kind, amount in enumerate(ask.needs):
        if amount:
            np.minimum(fit, table.free_units[kind, where] // amount, out=fit)
    if ask.ports:
        np.minimum(fit, _room_of_ports(look, where), out=fit)
    if ask.constraint is not None:
        np.minimum(fit, limit(table, ask.constraint, ask.labels, where, count), out=fit)
    # A host that shrank below its use has negative room.
    return np.maximum(fit, 0, out=fit)


def _room_of_ports(look: _Look, where: Where) -> NDArray[np.int64]:
    """For how many pods each host has the ports: one, where each wants the same numbers."""
    if look.ask.static:
        return (~lacks_ports(look.table, look.ask, where)).astype(np.int64)
    return look.table.free_port_counts[where] // look.ask.dynamic_count


def _chosen(look: _Look, low: int, fit: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that are used, and how many pods go on each; both of shape (hosts used,)."""
    kind = _leading_kind(look)
    free = np.zeros_like(fit) if kind is None else look.table.free_units[kind, low : low + fit.size]
    first = look.cursor - low
    packs = look.rules.policy is Policy.BEST_FIT
    best = _first_by(free if packs else -free, fit, look.pods, first)
    if best.size == 1:
        return best + low, np.minimum(fit[best], look.pods)
    if packs:
        ahead = np.cumsum(fit[best]) - fit[best]
        return best + low, np.clip(look.pods - ahead, 0, fit[best])
    best = best[np.argsort((best - first) % fit.size)]
    step = 1 if kind is None else look.ask.needs[kind]
    return best + low, _levelled(free[best], step, fit[best], look.pods)


def _leading_kind(look: _Look) -> int | None:
    """The kind by which hosts are compared; None for a pod that asks for nothing."""
    demand = look.ask.demand
    if look.rules.policy is Policy.SPREAD:
        return next((kind for kind in SPREAD_ORDER if look.ask.needs[kind]), None)
    total = look.table.total_capacity()
    shares = [amount / (whole or 1) for amount, whole in zip(demand, total, strict=True)]
    return shares.index(max(shares)) if any(demand) else None


def _first_by(keys: NDArray[np.int64], fit: NDArray[np.int64], count: int, first: int) -> NDArray[np.int64]:
    """The `count` hosts with room that have the lowest keys, ascending, or all, if fewer. Ties by row, from
    `first` on and round."""
    hosts = np.flatnonzero(fit)
    if first:
        ahead = int(np.searchsorted(hosts, first))
        hosts = np.concatenate((hosts[ahead:], hosts[:ahead]))
    keys = keys[hosts]
    if count == 1 and hosts.size:
        # What the lines below come to, at a third of the cost; most searches are for one pod.
        nearest = int(keys.argmin())
        return hosts[nearest : nearest + 1]
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
    table: HostTable, ask: Ask, rows: Iterable[int], shares: Iterable[int]
) -> Iterator[list[tuple[int, ...]]]:
    """The numbers of the pods that each host gets: static ones as asked, the others lowest first (§6.8)."""
    static, dynamic_count = ask.static, ask.dynamic_count
    for row, share in zip(rows, shares, strict=True):
        lowest = iter(table.ports[row].lowest(share * dynamic_count, besides=static))
        yield [tuple(port.number or next(lowest) for port in ask.ports) for _ in range(share)]


def _next_cursor(look: _Look, low: int, width: int, rows: list[int]) -> int:
    """Packing stays where room was found; spreading goes on to what it has not used yet, and round."""
    if look.rules.policy is Policy.SPREAD:
        onward = low + width if width < len(look.table) else rows[-1] + 1 if rows else look.cursor
        return onward % len(look.table)
    if width <= WINDOW or not rows:
        return look.cursor
    return rows[0]


def _refusals(look: _Look) -> tuple[dict[str, int], str]:
    """How many hosts each filter is the first to refuse, by Peloton's names; and which part of the constraint
    refuses most, in words."""
    counts: Counter[str] = Counter()
    worst, worst_count = None, 0
    open_yet = np.ones(len(look.table), np.bool_)
    for each in filters(look.table, look.ask, look.rules, look.everywhere):
        refused = int(np.count_nonzero(open_yet & each.refuses))
        open_yet &= ~each.refuses
        counts[each.reason.counted_as] += refused
        if each.reason in (Reason.CONSTRAINT, Reason.POOL) and refused > worst_count:
            worst, worst_count = each, refused
    counts["match"] = int(np.count_nonzero(open_yet))
    said = (
        f"{worst_count} hosts refused by {shorten(clause_of(worst), CLAUSE_MAX)}" if worst is not None else ""
    )
    return {reason: counts[reason] for reason in sorted(counts) if counts[reason]}, said


def clause_of(refusal: Filter) -> str:
    """What of the constraint refuses, in words."""
    if refusal.reason is Reason.POOL:
        return f"the rule use_host_pool: {described(IN_STATELESS_POOL)}"
    return described(refusal.clause) if refusal.clause is not None else f"the host label {EXCLUSIVE}"


def _shortfall(look: _Look, fit: NDArray[np.int64]) -> list[int]:
    """What one more pod lacks on the nearest host once the group's pods are there: of each of `KINDS`, and of
    ports."""
    table, ask, where = look.table, look.ask, look.everywhere
    needs = [*ask.needs, ask.dynamic_count]
    usable = table.placeable[where] & (table.holds[where] == 0)
    if (open_to := open_hosts(table, ask, look.rules)) is not None:
        usable &= open_to
    usable &= limit(table, ask.constraint, ask.labels, where, look.pods + 1) > fit
    if not usable.any():
        return [0] * len(needs)
    # The group's pods also take their static ports out of the range.
    left_ports = table.free_port_counts[where] - fit * static_in_range(table, ask, where)
    frees = [*table.free_units[:, where], left_ports]
    worst = np.where(usable, 0.0, np.inf)
    for need, free in zip(needs, frees, strict=True):
        if need:
            np.maximum(worst, (need * (fit + 1) - free) / need, out=worst)
    nearest = int(worst.argmin())
    pods = int(fit[nearest]) + 1
    return [
        max(need * pods - int(free[nearest]), 0) if need else 0
        for need, free in zip(needs, frees, strict=True)
    ]
