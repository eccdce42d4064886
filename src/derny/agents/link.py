"""The link between the daemon and all agents, and its outages.

One rule: an order gets through at the moment of its decision, or, decided during an outage, at its end; that
holds for orders that are told again after a restart too, hence the memory. While the link is down, reports
wait: the last one of each pod. Called by `agents.simulated`.
"""

import math
from collections import deque
from typing import Final

import msgspec

from derny.core.commands import PodReport
from derny.core.effects import Kill, Launch, Reconcile
from derny.model.ids import PodId
from derny.model.states import TaskState

OUTAGES_MAX: Final = 100
"""That are remembered; of orders older than those it is taken that they got through at once."""


class Link(msgspec.Struct):
    """Up or down since when, and when it was down before."""

    outages: list[tuple[float, float]] = []
    """Those that are over: from when, until when; in order."""
    cut_at: float = math.inf
    """When the present outage began; infinity while the link is up."""

    @property
    def is_down(self) -> bool:
        return self.cut_at < math.inf

    def cut(self, at: float) -> None:
        """Nothing passes from now on."""
        self.cut_at = min(self.cut_at, at)

    def restore(self, at: float) -> None:
        """Everything passes again."""
        if self.is_down:
            self.outages = [*self.outages, (self.cut_at, at)][-OUTAGES_MAX:]
            self.cut_at = math.inf

    def passes_at(self, at: float) -> float:
        """When an order of that moment gets through; infinity while it has not."""
        if at >= self.cut_at:
            return math.inf
        return next((until for since, until in reversed(self.outages) if since <= at < until), at)

    def passed(self, order: Reconcile) -> tuple[list[Launch], dict[PodId, Kill]]:
        """What of an order has got through by now, as of the moments at which it did; kills by pod."""
        if not self.outages and not self.is_down:
            return order.launches, {kill.pod: kill for kill in order.kills}
        launches: list[Launch] = []
        kills: dict[PodId, Kill] = {}
        for launch in order.launches:
            at = self.passes_at(launch.at)
            if at == launch.at:
                launches.append(launch)
            elif at < math.inf:
                launches.append(msgspec.structs.replace(launch, at=at))
        for kill in order.kills:
            at = self.passes_at(kill.at)
            if at < math.inf:
                kills[kill.pod] = msgspec.structs.replace(kill, at=at)
        return launches, kills


def hold(held: dict[PodId, PodReport], report: PodReport) -> None:
    """Keep the last report of each pod, in the order in which they came, with the last result of its health
    check."""
    before = held.pop(report.pod, None)
    tells_no_health = report.healthy is None and report.state is TaskState.RUNNING
    if tells_no_health and before is not None and before.healthy is not None:
        report = msgspec.structs.replace(report, reason=before.reason, healthy=before.healthy)
    held[report.pod] = report


class Outbox:
    """Reports on their way to the daemon: in order, and while the link is down the last one of each pod."""

    def __init__(self) -> None:
        self._ready: deque[PodReport] = deque()
        self._held: dict[PodId, PodReport] = {}

    def __bool__(self) -> bool:
        return bool(self._ready)

    def add(self, report: PodReport, link: Link) -> None:
        if link.is_down:
            hold(self._held, report)
        else:
            self._ready.append(report)

    def release(self) -> None:
        """The link is up again: what was held is ready."""
        self._ready.extend(self._held.values())
        self._held = {}

    def take(self, most: int) -> list[PodReport]:
        """At most so many of those that are ready, oldest first."""
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
