"""How often each label occurs on each host: the hosts' own labels, and those of the pods that are on them.

One rule: a count is kept only where it is not zero, as {row: count}, so that a label costs what carries it
and no more, however many hosts and labels there are. Pods' labels are counted by host only once a constraint
has spoken of them; until then it is only known which jobs carry them, so that the first count looks at no
other pods. Read by `placement.constraints`; written by `core`, as it writes the host table. (Behaviour,
scheduler §6.5.)
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from derny.model.ids import JobId
from derny.model.specs import Constraint, Labels

Label = tuple[str, str]
Counts = Mapping[int, int]
"""By row of the host table; rows that are not there have none."""

HOSTNAME: Final = "hostname"
"""Every host has its name under this key, whatever its agent says."""

EXCLUSIVE: Final = "peloton/exclusive"
"""A host with a label of this key takes only pods whose constraint asks for a host label of this key."""

NONE_AT_ALL: Final[Counts] = {}
_MASKS_MAX: Final = 512
"""Verdicts over all hosts that are kept: a byte each for every host."""


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
        self._rows: dict[Label, dict[int, int]] = {}
        self._uncounted: dict[Label, dict[JobId, None]] = {}
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
            if label in self._rows:
                made._rows[label] = dict(self._rows[label])
            if label in self._uncounted:
                made._uncounted[label] = dict(self._uncounted[label])
        return made

    def counts(self, label: Label) -> Counts:
        """On which rows pods carry the label, and how often; only of a label that has been counted."""
        return self._rows.get(label, NONE_AT_ALL)

    def add(self, job: JobId, labels: Labels, rows: Sequence[int]) -> None:
        """Pods of a job that carry `labels` have come to these rows, which may repeat."""
        self._clock += 1
        for label in labels:
            by_job = self.carriers.setdefault(label, {})
            by_job[job] = by_job.get(job, 0) + len(rows)
            # Noted of labels that are not counted too: somebody may wait for the first pod that carries one.
            self._raised[label] = self._clock
            if self._counts_of(label, job):
                counts = self._rows[label]
                for row in rows:
                    counts[row] = counts.get(row, 0) + 1

    def remove(self, job: JobId, labels: Labels, row: int) -> None:
        """A pod of a job that carries `labels` has left this row."""
        for label in labels:
            if self._counts_of(label, job):
                _lower(self._rows[label], row)
            by_job = self.carriers[label]
            by_job[job] -= 1
            if not by_job[job]:
                del by_job[job]
                if not by_job:
                    self._forget(label)

    def _counts_of(self, label: Label, job: JobId) -> bool:
        """Whether the label is counted by host, and this job's pods are in the count."""
        return label in self._rows and job not in self._uncounted.get(label, ())

    def _forget(self, label: Label) -> None:
        """Nobody carries it: counting it again, should anyone ask, will cost nothing."""
        del self.carriers[label]
        for kept in (self._rows, self._uncounted, self._raised):
            kept.pop(label, None)

    def uncounted(self, labels: Iterable[Label]) -> tuple[Label, JobId] | None:
        """A label that a constraint speaks of, with a job whose pods are yet to be counted; None when the
        counts of all `labels` are complete."""
        for label in labels:
            if label in self.carriers and label not in self._rows:
                self._rows[label] = {}
                self._uncounted[label] = dict.fromkeys(self.carriers[label])
            if waiting := self._uncounted.get(label):
                return label, next(iter(waiting))
        return None

    def count(self, label: Label, job: JobId, rows: Iterable[int]) -> None:
        """Take a job's pods into the count of a label: one row for each time that one of them carries it."""
        counts = self._rows[label]
        for row in rows:
            counts[row] = counts.get(row, 0) + 1
        del self._uncounted[label][job]
        if not self._uncounted[label]:
            del self._uncounted[label]

    def raised(self, labels: Iterable[Label]) -> int:
        """Grows whenever one of these labels has become more frequent somewhere, which may be what a
        constraint has waited for."""
        return max((self._raised.get(label, 0) for label in labels), default=0)

    def counted(self) -> dict[Label, dict[int, int]]:
        """All labels whose counts are complete, for the audit."""
        return {label: rows for label, rows in self._rows.items() if label not in self._uncounted}


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
