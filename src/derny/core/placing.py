"""The place pass: hosts for admitted pods, group by group; groups take turns.

One rule: a group that found no host is not looked at again until something that matters to it has changed:
room, labels of hosts, or those labels of pods that its constraint speaks of. What is remembered of that is
derived, like holds and counts of labels, and made again by looking. So a pod that waits for another one costs
nothing and blocks nobody. Called by `core.machine`; which hosts are chosen is `placement.engine`'s business.
(Behaviour, scheduler §6.)
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from derny.core.events import Event, PodsPlaced, PodsUnplaced
from derny.core.state import NEVER, UNKNOWN, Group, State, Version
from derny.model.ids import HostName, JobId
from derny.model.periods import Periods
from derny.model.records import Pod
from derny.model.rules import Rules
from derny.model.states import POD_ON_HOST, Gate
from derny.placement.constraints import pod_labels
from derny.placement.engine import place, place_at
from derny.placement.filters import Ask, ask_of
from derny.placement.labels import Label

LOOK_COST = 4
"""What a look for hosts counts against a turn's budget, in entities, besides the pods that it places."""
BARREN_COST = 10
"""What a look over all hosts counts that finds none."""


COUNTED_PER_ENTITY = 16
"""Pods whose labels are counted in the time of one step of a pod."""


class _Look(NamedTuple):
    """One look for hosts for a group, at a moment; events go to `done`."""

    job: JobId
    group: Group
    ask: Ask
    at: float
    done: list[Event]


class PlacePass:
    """One bounded sweep over all groups at a time. `take` applies an event and keeps it."""

    def __init__(
        self, state: State, periods: Periods, rules: Rules, take: Callable[[Event, float, list[Event]], None]
    ) -> None:
        self._state = state
        self._periods = periods
        self._rules = rules
        self._take = take
        self._barren: dict[Ask, tuple[Version, str]] = {}
        self._barren_at = -1
        self.wake: float | None = None
        """When time alone will let a group look again."""

    def run(self, at: float, budget: int, done: list[Event]) -> bool:
        """Look at no more than `budget` entities; whether more could be done at once."""
        state = self._state
        more, self.wake = False, None
        if Gate.LAUNCH in state.closed:
            return False
        state.holds.expire(at, self._periods)
        self.wake = state.holds.next_end(self._periods)
        for key, group in list(state.groups.items()):
            job = key[0]
            if not self._is_due(job, group, at):
                continue
            if budget <= 0:
                return True
            if group.stuck_at != self._version(group) or self._may_come_back(job, group, at):
                budget -= self._look(job, group, at, budget, done)
            if group.fresh and group.stuck_at == self._version(group):
                budget -= self._tell_unplaced(job, group, at, budget, done)
            if key in state.groups:
                state.groups.move_to_end(key)
                more |= bool(group.fresh) or group.stuck_at != self._version(group)
        return more

    def _version(self, group: Group) -> Version:
        table, constraint = self._state.table, group.template.constraint
        return table.version, 0 if constraint is None else table.pod_labels.raised(pod_labels(constraint))

    def _is_due(self, job: JobId, group: Group, at: float) -> bool:
        """Whether the group may be looked at now; if not, when it may is noted. Pods that have looked before
        do not look at once."""
        if group.fresh or at >= group.patient_until:
            return True
        due = group.patient_until
        if group.stuck_at != self._version(group):
            if at >= group.retry_at:
                return True
            due = min(due, group.retry_at)
        if due < NEVER:
            self.wake = due if self.wake is None else min(due, self.wake)
        return False

    def _may_come_back(self, job: JobId, group: Group, at: float) -> bool:
        """Whether there may be room for some of the group although there was none for others: pods that come
        back to their own hosts do not all ask alike, nor for ever."""
        return at >= group.patient_until or (bool(group.fresh) and job in self._state.holds.jobs)

    def _look(self, job: JobId, group: Group, at: float, budget: int, done: list[Event]) -> int:
        """Place what finds room, longest waiting first; returns the cost."""
        look = _Look(job, group, ask_of(group.template), at, done)
        cost = count_labels(self._state, pod_labels(look.ask.constraint), budget)
        if cost >= budget:
            return cost
        if group.anchor is not None:
            return cost + self._go_back(look, group.anchor)
        group.patient_until, group.stuck_at = NEVER, UNKNOWN
        patient: dict[Pod, None] = {}
        if job in self._state.holds.jobs:
            cost += self._bring_back(look, budget - cost, patient)
            if cost >= budget:
                return cost
        pods = (pod for pod in chain(group.tried, group.fresh) if pod not in patient)
        waiting = list(islice(pods, budget - cost))
        if not waiting:
            self._is_stuck(group, self._version(group), "waits for its host, which is kept for it", at)
            return cost + LOOK_COST
        return cost + self._find(look, waiting)

    def _find(self, look: _Look, waiting: list[Pod]) -> int:
        """Place pods on whatever hosts suit them; returns the cost."""
        # As of before the look: where its own pods count for the group, it looks once more.
        state, version = self._state, self._version(look.group)
        known = self._known_barren(look.ask, version)
        if known is not None:
            self._is_stuck(look.group, version, known, look.at)
            return 1
        placed = place(state.table, look.ask, len(waiting), self._rules, state.cursor)
        state.cursor = placed.cursor
        if placed.rows:
            self._place_on(look, waiting[: len(placed.rows)], placed.rows, placed.ports)
        if not placed.unplaced:
            return len(waiting) + LOOK_COST
        reason = placed.pending_reason()
        self._barren[look.ask] = version, reason
        self._is_stuck(look.group, version, reason, look.at)
        return len(placed.rows) + BARREN_COST

    def _go_back(self, look: _Look, anchor: HostName) -> int:
        """Place a pod on the host that has its volume, whose disk is reserved there; no other will do."""
        table, group = self._state.table, look.group
        version = self._version(group)
        ask = msgspec.structs.replace(look.ask, demand=group.template.footprint)
        pods = list(chain(group.tried, group.fresh))
        row = table.row_of[anchor]
        placed, ports = place_at(table, ask, self._rules, [row] * len(pods))
        if placed:
            self._place_on(look, [pods[i] for i in placed], [row] * len(placed), ports)
        if len(placed) < len(pods):
            why = "has no room for it" if table.placeable[row] else "takes no pods now"
            self._is_stuck(group, version, f"waits for {anchor}, which has its volume and {why}", look.at)
        return len(pods) + LOOK_COST

    def _bring_back(self, look: _Look, budget: int, patient: dict[Pod, None]) -> int:
        """Place pods on the hosts that are kept for them; those that go on waiting are `patient`."""
        holds, group = self._state.holds, look.group
        pods = [pod for pod in chain(group.tried, group.fresh) if pod in holds.of]
        rows = [holds.of[pod].row for pod in pods]
        placed, ports = place_at(self._state.table, look.ask, self._rules, rows)
        placed = placed[:budget]
        if placed:
            self._place_on(look, [pods[i] for i in placed], [rows[i] for i in placed], ports[:budget])
        for pod in pods:
            if pod in holds.of and (until := holds.waits_until(pod, self._periods)) > look.at:
                patient[pod] = None
                group.patient_until = min(group.patient_until, until)
        return len(placed) + LOOK_COST

    def _place_on(self, look: _Look, pods: list[Pod], rows: list[int], ports: list[tuple[int, ...]]) -> None:
        instances = [pod.instance for pod in pods]
        self._take(PodsPlaced(look.job, instances, rows, ports), look.at, look.done)

    def _known_barren(self, ask: Ask, version: Version) -> str | None:
        """Why no host has room for these pods, if others that ask alike have found out."""
        if self._barren_at != version[0]:
            self._barren_at, self._barren = version[0], {}
        seen, reason = self._barren.get(ask, (None, ""))
        return reason if seen == version else None

    def _is_stuck(self, group: Group, version: Version, reason: str, at: float) -> None:
        group.stuck_at = version
        group.reason = reason
        group.retry_at = at + self._periods.placing_retry_s

    def _tell_unplaced(self, job: JobId, group: Group, at: float, budget: int, done: list[Event]) -> int:
        """Pods that no host has room for stand PLACING, with the reason."""
        told = [pod.instance for pod in islice(group.fresh, max(budget, 1))]
        self._take(PodsUnplaced(job, told, group.reason), at, done)
        return len(told)


def count_labels(state: State, labels: Iterable[Label], budget: int) -> int:
    """Count the pods that carry these labels by host, job by job, as far as nobody has asked before; returns
    the cost, which is the whole budget while the counts are not complete."""
    table, left = state.table, budget * COUNTED_PER_ENTITY
    while (found := table.pod_labels.uncounted(labels)) is not None:
        if left <= 0:
            return budget
        label, job, first = found
        pods = state.jobs[job].pods
        end = first + left
        rows = _rows_of(state, pods[first:end], label)
        table.pod_labels.count(label, job, rows, end if end < len(pods) else None)
        left -= min(end, len(pods)) - first + COUNTED_PER_ENTITY
    return min(budget - left // COUNTED_PER_ENTITY, budget - 1)


def _rows_of(state: State, pods: Iterable[Pod], label: Label) -> Iterator[int]:
    """Where pods are that carry the label, once for each time that one carries it."""
    row_of = state.table.row_of
    times: dict[int, int] = {}
    for pod in pods:
        if pod.state in POD_ON_HOST and pod.host is not None:
            template = pod.template
            if (carried := times.get(id(template))) is None:
                carried = times[id(template)] = template.labels.count(label)
            for _ in range(carried):
                yield row_of[pod.host]
