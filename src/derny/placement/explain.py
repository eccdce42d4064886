"""Why hosts do not take a pod, all reasons at once, and what would have to be otherwise.

One rule: nothing is decided here; these are the filters that the engine goes by (`placement.filters`), told
apart. A host may be refused for several reasons, so numbers of hosts may add up to more than there are; the
counts that pods carry as their pending reason have each host once (§6.3, `engine.Placement`). Labels of pods
that a constraint speaks of have to be counted before (`core.placing.count_labels`). For those who ask why a
pod is pending.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from derny.model.ids import HostName
from derny.model.resources import MILLI
from derny.model.rules import Rules
from derny.placement.engine import clause_of
from derny.placement.filters import Ask, Filter, Mask, Reason, filters
from derny.placement.hosts import KINDS, HostTable
from derny.placement.labels import HOSTNAME

_SORTS_MAX: Final = 64
"""Different sorts of hosts that are tried as one more host."""


class Refusal(msgspec.Struct, frozen=True):
    """One thing that keeps the pod off some hosts.

    `names` are theirs, in order of registration, as many as were asked for. For INSUFFICIENT_RESOURCES:
    `kind` is one of `hosts.KINDS`, and `shortfall` what the pod lacks of it on the nearest of them; for
    PORTS, how many ports; thousandths but for file descriptors and ports. For MISMATCH_CONSTRAINTS and
    HOST_POOL, `clause` is the part of the constraint that mismatches, in words.
    """

    reason: Reason
    hosts: int
    names: tuple[HostName, ...] = ()
    kind: str = ""
    shortfall: int = 0
    clause: str = ""


class Change(msgspec.Struct, frozen=True):
    """One thing that would let the pod be placed: asking for no more than `to` of `kind` (thousandths but for
    fds and ports), leaving out `clause`, or one more host like `host`. `hosts` would take it then."""

    hosts: int
    kind: str = ""
    to: int = 0
    clause: str = ""
    host: HostName | None = None
    weight: float = 0.0
    """How much of what is asked would be given up; a clause counts for all of it, a host for more."""

    def __str__(self) -> str:
        """For a reader, amounts in wire units."""
        if self.clause:
            return f"leave out {self.clause}"
        if self.host is not None:
            return f"one more host like {self.host}"
        amount = self.to if self.kind in ("fds", "ports") else self.to / MILLI
        return f"ask for {amount:g} {self.kind} at most"


class Explanation(msgspec.Struct, frozen=True):
    """`hosts` in all, of which `fitting` would take the pod now. `changes` has the smallest first; it is
    empty when some host fits, or no single change is enough."""

    hosts: int
    fitting: int
    refusals: tuple[Refusal, ...]
    changes: tuple[Change, ...]


def explain(table: HostTable, ask: Ask, rules: Rules, *, names: int = 0) -> Explanation:
    """All that keeps a pod off the hosts, as the table stands. `names`: how many hosts of each reason are
    named."""
    everywhere = slice(0, len(table))
    found = list(filters(table, ask, rules, everywhere))
    times = np.zeros(len(table), np.int64)
    for each in found:
        times += each.refuses
    fitting = int(np.count_nonzero(times == 0))
    refusals = [
        _refusal(table, ask, each, np.flatnonzero(each.refuses), names)
        for each in found
        if each.refuses.any()
    ]
    changes: list[Change] = []
    if not fitting:
        for each in found:
            changes += _changes(table, ask, each, each.refuses & (times == 1))
        changes += _one_more_host(table, ask, rules)
    changes.sort(key=lambda change: change.weight)
    return Explanation(len(table), fitting, tuple(refusals), tuple(changes))


def explain_at(table: HostTable, ask: Ask, rules: Rules, row: int) -> tuple[Refusal, ...]:
    """All that keeps a pod off the one host that it shall come back to; that the host is held is no reason
    (`engine.place_at`)."""
    rows = np.array([row])
    return tuple(
        _refusal(table, ask, each, rows, 1)
        for each in filters(table, ask, rules, rows)
        if each.refuses.any() and each.reason is not Reason.HELD
    )


def _refusal(table: HostTable, ask: Ask, refusal: Filter, rows: NDArray[np.int64], names: int) -> Refusal:
    told = tuple(table.name_of[row] for row in rows[:names].tolist())
    if refusal.reason is Reason.RESOURCES:
        most = int(table.free_units[refusal.kind, rows].max())
        short = ask.needs[refusal.kind] - max(most, 0)
        return Refusal(refusal.reason, rows.size, told, KINDS[refusal.kind], short)
    if refusal.reason is Reason.PORTS:
        most = int(table.free_port_counts[rows].max())
        return Refusal(refusal.reason, rows.size, told, "ports", max(len(ask.ports) - most, 0))
    if refusal.reason in (Reason.CONSTRAINT, Reason.POOL):
        return Refusal(refusal.reason, rows.size, told, clause=clause_of(refusal))
    return Refusal(refusal.reason, rows.size, told)


def _changes(table: HostTable, ask: Ask, refusal: Filter, alone: Mask) -> Iterator[Change]:
    """What would do on the hosts that only this one filter refuses."""
    rows = np.flatnonzero(alone)
    if not rows.size:
        return
    if refusal.reason is Reason.RESOURCES:
        free = table.free_units[refusal.kind, rows].tolist()
        yield from _lowered(KINDS[refusal.kind], ask.needs[refusal.kind], free)
    elif refusal.reason is Reason.PORTS and not ask.static:
        yield from _lowered("ports", ask.dynamic_count, table.free_port_counts[rows].tolist())
    elif refusal.reason is Reason.CONSTRAINT and refusal.clause is not None:
        yield Change(rows.size, clause=clause_of(refusal), weight=1.0)


def _lowered(kind: str, asked: int, free: Sequence[int]) -> Iterator[Change]:
    most = max(free)
    if most >= 0:
        yield Change(free.count(most), kind, most, weight=(asked - most) / asked)


def _one_more_host(table: HostTable, ask: Ask, rules: Rules) -> Iterator[Change]:
    """The first host of a sort of which another one, with nothing on it, would take the pod."""
    imagined = HostTable()
    models: dict[bytes, HostName] = {}
    for row in range(len(table)):
        labels = tuple(label for label in table.labels[row] if label[0] != HOSTNAME)
        first, last = table.port_ranges[:, row].tolist()
        amounts = table.capacity_units[:, row]
        sort = msgspec.msgpack.encode((amounts.tobytes(), first, last, labels))
        if sort in models:
            continue
        models[sort] = table.name_of[row]
        imagined.add(
            HostName(f"another host {row}"), table.capacity(row), (first, last), labels, int(amounts[-1])
        )
        if len(models) == _SORTS_MAX:
            break
    fits = np.ones(len(imagined), np.bool_)
    for each in filters(imagined, ask, rules, slice(0, len(imagined))):
        fits &= ~each.refuses
    for name in islice((name for name, fit in zip(models.values(), fits.tolist(), strict=True) if fit), 1):
        yield Change(1, host=name, weight=2.0)
