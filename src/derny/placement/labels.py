"""How often each label occurs on each host: the hosts' own labels, and those of the pods that are on them.

One rule: a label costs what carries it and no more, however many hosts and labels there are: counts are kept
only where they are not zero, as {row: count}, or as a column of all hosts where that takes less. Pods' labels
are counted by host only once a constraint has spoken of them, bit by bit; until then it is only known which
jobs carry them, so that the first count looks at no other pods. Read by `placement.constraints`; written by
`core`, as it writes the host table. (Behaviour, scheduler §6.5.)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from derny.model.ids import JobId
from derny.model.specs import Constraint, Labels

Label = tuple[str, str]
Counts = Mapping[int, int]
"""By row of the host table; rows that are not there have none."""

Where = slice | NDArray[np.int64]
"""Hosts that are looked at together: a window of rows, both ends given, or single rows."""

HOSTNAME: Final = "hostname"
"""Every host has its name under this key, whatever its agent says."""

EXCLUSIVE: Final = "peloton/exclusive"
"""A host with a label of this key takes only pods whose constraint asks for a host label of this key."""

NONE_AT_ALL: Final[Counts] = {}
_FEW_MAX: Final = 64
_ROWS_AN_ENTRY: Final = 8
"""Rows of a column that take no more room than one entry of a dict."""
_ALL: Final[Mapping[JobId, int]] = {}
_MASKS_MAX: Final = 512
"""Verdicts over all hosts that are kept: a byte each for every host."""


def rows_in(where: Where) -> Sequence[int]:
    """The rows of a window, or the single ones."""
    if isinstance(where, slice):
        return range(where.start, where.stop)
    rows: list[int] = where.tolist()
    return rows


class HostLabels:
    """The hosts' own labels. `masks` keeps verdicts that rest on nothing else, until a label changes."""

    def __init__(self) -> None:
        self._rows: dict[Label, dict[int, int]] = {}
        self.masks: dict[Constraint, NDArray[np.bool_]] = {}

    def counts(self, label: Label) -> Counts:
        """On which rows the label occurs, and how often."""
        return self._rows.get(label, NONE_AT_ALL)

    def renew(self, row: int, old: Labels, new: Labels) -> None:
        """The host in `row` had the labels `old`, and has `new`."""
        self.masks.clear()
        for label in old:
            _add(self._rows, label, row, -1)
        for label in new:
            _add(self._rows, label, row, 1)

    def copied(self, labels: Iterable[Label]) -> "HostLabels":
        """What is known of these labels, and of no others."""
        made = HostLabels()
        made._rows = {label: dict(self._rows[label]) for label in labels if label in self._rows}
        return made

    def keep(self, constraint: Constraint, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Remember the verdict of a constraint over all hosts; returns it."""
        if len(self.masks) >= _MASKS_MAX:
            self.masks.clear()
        self.masks[constraint] = mask
        return mask


class PodLabels:
    """The labels of all pods that are on hosts, from launch to the end of the run, of whatever job."""

    def __init__(self) -> None:
        self.carriers: dict[Label, dict[JobId, int]] = {}
        """How many pods of which jobs carry a label."""
        self._counts: dict[Label, _Counts] = {}
        self._uncounted: dict[Label, dict[JobId, int]] = {}
        """Jobs whose pods are only in the count up to this instance."""
        self._raised: dict[Label, int] = {}
        self._clock = 0

    def copied(self, labels: Iterable[Label]) -> "PodLabels":
        """What is known of these labels, and of no others."""
        made = PodLabels()
        made._clock = self._clock
        for label in labels:
            if label in self.carriers:
                made.carriers[label] = dict(self.carriers[label])
                made._raised[label] = self._raised[label]
            if label in self._counts:
                made._counts[label] = self._counts[label].copied()
            if label in self._uncounted:
                made._uncounted[label] = dict(self._uncounted[label])
        return made

    def counts(self, label: Label) -> Counts:
        """On which rows pods carry the label, and how often; only of a label that has been counted."""
        counts = self._counts.get(label)
        return NONE_AT_ALL if counts is None else counts.by_row()

    def on(self, label: Label, where: Where, hosts: int) -> NDArray[np.int64]:
        """The same for each row of `where`, which may be any of so many hosts."""
        counts = self._counts.get(label)
        return dense(NONE_AT_ALL, where) if counts is None else counts.on(where, hosts)

    def add(self, job: JobId, labels: Labels, rows: Sequence[int], instances: Sequence[int]) -> None:
        """These pods of a job, which carry `labels`, have come to these rows, which may repeat."""
        self._clock += 1
        for label in labels:
            by_job = self.carriers.setdefault(label, {})
            by_job[job] = by_job.get(job, 0) + len(rows)
            # Noted of labels that are not counted too: somebody may wait for the first pod that carries one.
            self._raised[label] = self._clock
            if (counts := self._counts.get(label)) is not None:
                end = self._counted_to(label, job)
                counts.raise_on(
                    [row for row, instance in zip(rows, instances, strict=True) if instance < end]
                )

    def remove(self, job: JobId, labels: Labels, row: int, instance: int) -> None:
        """This pod of a job, which carries `labels`, has left this row."""
        for label in labels:
            if label in self._counts and instance < self._counted_to(label, job):
                self._counts[label].lower_on(row)
            by_job = self.carriers[label]
            by_job[job] -= 1
            if not by_job[job]:
                del by_job[job]
                self._is_counted(label, job)
                if not by_job:
                    self._forget(label)

    def _counted_to(self, label: Label, job: JobId) -> float:
        """Which of the job's pods are in the count of a label that is counted: those below this instance."""
        return self._uncounted.get(label, _ALL).get(job, math.inf)

    def _is_counted(self, label: Label, job: JobId) -> None:
        """All pods of the job are in the count, if only since it has none left."""
        waiting = self._uncounted.get(label, {})
        waiting.pop(job, None)
        if not waiting:
            self._uncounted.pop(label, None)

    def _forget(self, label: Label) -> None:
        """Nobody carries it: counting it again, should anyone ask, will cost nothing."""
        del self.carriers[label]
        for kept in (self._counts, self._uncounted, self._raised):
            kept.pop(label, None)

    def uncounted(self, labels: Iterable[Label]) -> tuple[Label, JobId, int] | None:
        """A label that a constraint speaks of, with a job whose pods are yet to be counted, from which
        instance on; None when the counts of all `labels` are complete."""
        for label in labels:
            if label in self.carriers and label not in self._counts:
                self._counts[label] = _Counts()
                self._uncounted[label] = dict.fromkeys(self.carriers[label], 0)
            if waiting := self._uncounted.get(label):
                return label, *next(iter(waiting.items()))
        return None

    def count(self, label: Label, job: JobId, rows: Iterable[int], end: int | None = None) -> None:
        """Take a job's next pods into the count of a label, up to the instance `end`, or all that are left:
        one row for each time that one of them carries it."""
        self._counts[label].raise_on(list(rows))
        if end is not None:
            self._uncounted[label][job] = end
        else:
            self._is_counted(label, job)

    def raised(self, labels: Iterable[Label]) -> int:
        """Grows whenever one of these labels has become more frequent somewhere, which may be what a
        constraint has waited for."""
        return max((self._raised.get(label, 0) for label in labels), default=0)

    def counted(self) -> dict[Label, Counts]:
        """All labels whose counts are complete, for the audit."""
        return {
            label: counts.by_row() for label, counts in self._counts.items() if label not in self._uncounted
        }


class _Counts:
    """How often one label occurs on each host: as {row: count} while few have it, as a column from when that
    takes less room, and no time to read."""

    def __init__(self) -> None:
        self._few: dict[int, int] = {}
        self._top = 0
        self._column: NDArray[np.int64] | None = None

    def copied(self) -> "_Counts":
        made = _Counts()
        made._few, made._top = dict(self._few), self._top
        made._column = None if self._column is None else self._column.copy()
        return made

    def by_row(self) -> Counts:
        """The rows that have any."""
        if self._column is None:
            return self._few
        rows = np.flatnonzero(self._column)
        return dict(zip(rows.tolist(), self._column[rows].tolist(), strict=True))

    def on(self, where: Where, hosts: int) -> NDArray[np.int64]:
        """One count for each row of `where`; only to be read."""
        if self._column is None:
            return dense(self._few, where)
        found: NDArray[np.int64] = self._reaching(hosts)[where]
        return found

    def raise_on(self, rows: Sequence[int]) -> None:
        """Once more on each of these rows, which may repeat."""
        if not rows:
            return
        self._top = max(self._top, *rows)
        if self._column is not None:
            np.add.at(self._reaching(self._top + 1), rows, 1)
            return
        for row in rows:
            self._few[row] = self._few.get(row, 0) + 1
        if len(self._few) > _FEW_MAX and len(self._few) * _ROWS_AN_ENTRY > self._top:
            self._column = dense(self._few, slice(0, self._top + 1))
            self._few = {}

    def lower_on(self, row: int) -> None:
        """Once less on this row, which has some."""
        if self._column is None:
            _lower(self._few, row)
        else:
            self._column[row] -= 1

    def _reaching(self, hosts: int) -> NDArray[np.int64]:
        """The column, long enough for so many hosts."""
        assert self._column is not None
        if self._column.size < hosts:
            # Doubling keeps the cost of a registration constant on average.
            more = max(hosts - self._column.size, self._column.size)
            self._column = np.pad(self._column, (0, more))
        return self._column


def dense(counts: Counts, where: Where) -> NDArray[np.int64]:
    """A count for each row of `where`."""
    rows = rows_in(where)
    if isinstance(rows, range) and len(counts) < len(rows):
        found = np.zeros(len(rows), np.int64)
        at = np.fromiter(counts, np.int64, len(counts)) - rows.start
        inside = (at >= 0) & (at < len(rows))
        found[at[inside]] = np.fromiter(counts.values(), np.int64, len(counts))[inside]
        return found
    return np.fromiter((counts.get(row, 0) for row in rows), np.int64, len(rows))


def _add(rows: dict[Label, dict[int, int]], label: Label, row: int, change: int) -> None:
    counts = rows.setdefault(label, {})
    counts[row] = counts.get(row, 0) + change
    if not counts[row]:
        del counts[row]
        if not counts:
            del rows[label]


def _lower(counts: dict[int, int], row: int) -> None:
    counts[row] -= 1
    if not counts[row]:
        del counts[row]
