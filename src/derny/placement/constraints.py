"""Label constraints over all hosts at once.

One rule: there is one evaluator, for labels of hosts and of pods alike, and it is exact: a label occurs on a
host so and so often, now. (Peloton has two that disagree; behaviour, scheduler §6.5, §10.14.) A label
constraint always matches or mismatches; AND and OR of nothing say nothing, and what says nothing is left out
of what it stands in. So the three values need no third one here: `pruned` leaves out what says nothing, and
what is left is plain logic. A host passes unless the whole of it mismatches.

Several pods of a group count for one another: `limit` says how many may follow one another onto each host.
Nothing makes an exception for the first pod: GREATER_THAN 0 on a label that only the group itself carries is
never met. Called by `placement.engine` and `placement.explain`.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from derny.model.specs import (
    AndConstraint,
    Condition,
    Constraint,
    LabelConstraint,
    LabelKind,
    Labels,
    OrConstraint,
)
from derny.placement.hosts import HostTable
from derny.placement.labels import EXCLUSIVE, Label, Where, dense, rows_in

_COMPARISONS_MAX: Final = 64
"""Comparisons of a label that pods of a group change, over and over while they are added to a host, in one
look: beyond some rounds of them, fewer pods than possible are placed at once. The group looks again, since
its own pods have changed what it looks at."""

_NEVER: Final = np.iinfo(np.int64).max
_SYMBOL: Final = {Condition.LESS_THAN: "<", Condition.EQUAL: "=", Condition.GREATER_THAN: ">"}


class _Node(NamedTuple):
    """A part of a constraint with what is known of it beforehand. `own`: how often each pod of the group
    itself carries this label. `hosts_only`: it speaks of no pods. `moving`: how many label constraints in it
    pods of the group change."""

    source: Constraint
    parts: tuple["_Node", ...]
    own: int
    hosts_only: bool
    moving: int


def pruned(constraint: Constraint) -> Constraint | None:
    """The constraint without what says nothing; None when nothing is left, and any host will do."""
    if isinstance(constraint, LabelConstraint):
        return constraint
    parts = tuple(part for item in constraint.constraints if (part := pruned(item)) is not None)
    if len(parts) < 2:
        return parts[0] if parts else None
    return type(constraint)(parts)


@lru_cache(maxsize=1024)
def _compiled(constraint: Constraint, labels: Labels) -> _Node | None:
    kept = pruned(constraint)
    return None if kept is None else _node(kept, labels)


def _node(constraint: Constraint, labels: Labels) -> _Node:
    if isinstance(constraint, LabelConstraint):
        on_host = constraint.kind is LabelKind.HOST
        own = 0 if on_host else labels.count((constraint.key, constraint.value))
        return _Node(constraint, (), own, on_host, bool(own))
    parts = tuple(_node(part, labels) for part in constraint.constraints)
    return _Node(
        constraint,
        parts,
        0,
        all(part.hosts_only for part in parts),
        sum(part.moving for part in parts),
    )


@lru_cache(maxsize=1024)
def pod_labels(constraint: Constraint | None) -> tuple[Label, ...]:
    """The labels of pods that a constraint speaks of, each once."""
    found = dict.fromkeys(
        (label.key, label.value) for label in _label_constraints(constraint) if label.kind is LabelKind.POD
    )
    return tuple(found)


def host_labels(constraint: Constraint | None) -> tuple[Label, ...]:
    """The labels of hosts that a constraint speaks of, each once."""
    found = dict.fromkeys(
        (label.key, label.value) for label in _label_constraints(constraint) if label.kind is LabelKind.HOST
    )
    return tuple(found)


@lru_cache(maxsize=1024)
def asks_for_exclusive(constraint: Constraint | None) -> bool:
    """Whether exclusive hosts are open to the pod: any constraint on a host label of that key will do."""
    return any(
        label.key == EXCLUSIVE and label.kind is LabelKind.HOST for label in _label_constraints(constraint)
    )


def _label_constraints(constraint: Constraint | None) -> list[LabelConstraint]:
    if constraint is None:
        return []
    if isinstance(constraint, LabelConstraint):
        return [constraint]
    return [label for part in constraint.constraints for label in _label_constraints(part)]


def clauses(constraint: Constraint | None) -> tuple[Constraint, ...]:
    """What has to hold, each by itself: the parts of the outermost ANDs."""
    kept = pruned(constraint) if constraint is not None else None
    if kept is None:
        return ()
    if isinstance(kept, AndConstraint):
        return tuple(clause for part in kept.constraints for clause in clauses(part))
    return (kept,)


def described(constraint: Constraint) -> str:
    """The constraint for a reader: `host label rack=r1 = 1`, `(pod label app=web < 1 or …)`."""
    if isinstance(constraint, LabelConstraint):
        kind = "host" if constraint.kind is LabelKind.HOST else "pod"
        return (
            f"{kind} label {constraint.key}={constraint.value}"
            f" {_SYMBOL[constraint.condition]} {constraint.requirement}"
        )
    word = " or " if isinstance(constraint, OrConstraint) else " and "
    return f"({word.join(map(described, constraint.constraints))})"


def passes(table: HostTable, constraint: Constraint | None, where: Where) -> NDArray[np.bool_]:
    """Which hosts the constraint lets a pod on, as things are; one verdict for each row of `where`."""
    return limit(table, constraint, (), where, 1) > 0


def limit(
    table: HostTable, constraint: Constraint | None, labels: Labels, where: Where, most: int
) -> NDArray[np.int64]:
    """How many pods that carry `labels` the constraint lets onto each host, one after the other; at most
    `most`. One number for each row of `where`."""
    node = _compiled(constraint, labels) if constraint is not None else None
    view = _View(table, where)
    reached = np.zeros(len(view.rows), np.int64)
    if node is None:
        return reached + most
    if not node.moving or most == 1:
        return _verdict(node, view, reached)[0] * np.int64(most)
    going = np.ones(len(view.rows), np.bool_)
    for _ in range(max(1, _COMPARISONS_MAX // node.moving)):
        verdict, lasts_to = _verdict(node, view, reached)
        going &= verdict & (reached < most)
        if not going.any():
            break
        reached = np.where(going, np.minimum(lasts_to, most), reached)
    return reached


class _View:
    """The counts on the rows of one look, each read once."""

    def __init__(self, table: HostTable, where: Where) -> None:
        self.table = table
        self.where = where
        self.rows = rows_in(where)
        self._pod_counts: dict[Label, NDArray[np.int64]] = {}

    def hosts_verdict(self, node: _Node) -> NDArray[np.bool_]:
        """Of a part that speaks of hosts alone: looked at once for all of them, and kept."""
        labels = self.table.host_labels
        mask = labels.masks.get(node.source)
        if mask is None:
            everywhere = slice(0, len(self.table))
            mask = labels.keep(node.source, _hosts_verdict(node, self.table, everywhere))
        verdict: NDArray[np.bool_] = mask[self.where]
        return verdict

    def pod_counts(self, label: Label) -> NDArray[np.int64]:
        """How often pods carry the label on each row."""
        counts = self._pod_counts.get(label)
        if counts is None:
            counts = self.table.pod_labels.on(label, self.where, len(self.table))
            self._pod_counts[label] = counts
        return counts


def _hosts_verdict(node: _Node, table: HostTable, where: slice) -> NDArray[np.bool_]:
    if isinstance(node.source, LabelConstraint):
        counts = dense(table.host_labels.counts((node.source.key, node.source.value)), where)
        return _compared(node.source, counts)
    wanted = isinstance(node.source, OrConstraint)
    verdict: NDArray[np.bool_] = np.full(len(rows_in(where)), not wanted)
    for part in node.parts:
        verdict[_hosts_verdict(part, table, where) == wanted] = wanted
    return verdict


def _compared(label: LabelConstraint, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    wanted = np.int64(label.requirement)
    if label.condition is Condition.LESS_THAN:
        return np.less(counts, wanted)
    return np.equal(counts, wanted) if label.condition is Condition.EQUAL else np.greater(counts, wanted)


def _verdict(
    node: _Node, view: _View, added: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64] | np.int64]:
    """Whether each host passes once `added` pods of the group are on it, and with how many that may next be
    otherwise."""
    if node.hosts_only:
        return view.hosts_verdict(node), np.int64(_NEVER)
    if isinstance(node.source, LabelConstraint):
        return _label_verdict(node.source, node.own, view, added)
    looks = [_verdict(part, view, added) for part in node.parts]
    wanted = isinstance(node.source, OrConstraint)
    # OR is true while any part is, AND is false while any part is: as long as the last of these lasts. Where
    # no part is, the first part that changes may change the whole.
    decided = np.zeros(len(view.rows), np.bool_)
    decided_to = np.zeros(len(view.rows), np.int64)
    open_to = np.full(len(view.rows), _NEVER)
    for verdict, lasts_to in looks:
        deciding = verdict if wanted else ~verdict
        if deciding.any():
            decided |= deciding
            decided_to = np.where(deciding, np.maximum(decided_to, lasts_to), decided_to)
        np.minimum(open_to, lasts_to, out=open_to)
    return decided if wanted else ~decided, np.where(decided, decided_to, open_to)


def _label_verdict(
    label: LabelConstraint, own: int, view: _View, added: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64] | np.int64]:
    before = view.pod_counts((label.key, label.value))
    if not own:
        return _compared(label, before), np.int64(_NEVER)
    counts = before + (added if own == 1 else added * own)
    verdict = _compared(label, counts)
    # The count only grows: it comes to the requirement with so many pods, and passes it with so many. Most
    # pods carry a label once, and dividing whole columns is slow.
    lacking = label.requirement - before
    comes, within = (lacking, lacking) if own == 1 else (-(-lacking // own), lacking // own)
    if label.condition is Condition.LESS_THAN:
        return verdict, np.where(verdict, comes, _NEVER)
    if label.condition is Condition.GREATER_THAN:
        return verdict, np.where(verdict, _NEVER, within + 1)
    return verdict, np.where(verdict, within + 1, np.where(counts < label.requirement, comes, _NEVER))
