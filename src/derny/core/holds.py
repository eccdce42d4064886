"""Holds: hosts that are kept for pods that shall come back to them, in place.

From the end of its last run until it is launched, wherever that is, or stopped, a pod with a desired host
holds it: no other pod is placed there, but several may hold one host. A hold ends by itself after
`Periods.host_held_s`, and a pod waits for its host no longer than `desired_host_timeout_s`, nor for one that
takes no pods at all. One rule: holds follow from what is written of pods, so they are not journaled; replay
makes them again, with the times at which they began. (Behaviour, scheduler §6.10 and jobs §8.7.)
"""

from collections import Counter, OrderedDict
from typing import NamedTuple

from derny.model.ids import JobId
from derny.model.periods import Periods
from derny.model.records import Pod
from derny.model.states import POD_ON_HOST, POD_TERMINAL, PodState
from derny.placement.hosts import HostTable


class Hold(NamedTuple):
    """A row of the host table, kept since a moment."""

    row: int
    since: float


class Holds:
    """All holds, oldest first. `State.record` has every pod followed that has a desired host or a hold."""

    def __init__(self, table: HostTable) -> None:
        self._table = table
        self.of: OrderedDict[Pod, Hold] = OrderedDict()
        self.jobs: Counter[JobId] = Counter()
        """How many pods of each job have one."""

    def follow(self, pod: Pod, at: float) -> None:
        """Begin the pod's hold when its run has ended, end it when there is nothing to come back for."""
        comes_back = (
            pod.desired_host is not None and pod.goal is PodState.RUNNING and pod.state not in POD_ON_HOST
        )
        if not comes_back:
            self.end(pod)
        elif pod not in self.of and pod.state in POD_TERMINAL:
            assert pod.desired_host is not None
            hold = self.of[pod] = Hold(self._table.row_of[pod.desired_host], at)
            self.jobs[pod.job] += 1
            self._table.hold(hold.row)

    def end(self, pod: Pod) -> None:
        """The pod needs its host no longer, if it had one."""
        hold = self.of.pop(pod, None)
        if hold is None:
            return
        self._table.release(hold.row)
        self.jobs[pod.job] -= 1
        if not self.jobs[pod.job]:
            del self.jobs[pod.job]

    def expire(self, at: float, periods: Periods) -> None:
        """End those that have lasted long enough."""
        while (until := self.next_end(periods)) is not None and until <= at:
            self.end(next(iter(self.of)))

    def next_end(self, periods: Periods) -> float | None:
        """When the oldest ends by itself."""
        oldest = next(iter(self.of.values()), None)
        return None if oldest is None else oldest.since + periods.host_held_s

    def waits_until(self, pod: Pod, periods: Periods) -> float:
        """Until when the pod takes no host but its own, which has no room; 0.0: any will do."""
        hold = self.of[pod]
        if not self._table.placeable[hold.row]:
            return 0.0
        return hold.since + min(periods.desired_host_timeout_s, periods.host_held_s)
