"""A trial: the machine itself on a fork of the state, to see where the pods of one job would go.

One rule: it is the same machine, so that what comes of a trial is what comes of the wish, if nothing else
happens in between. Agents are taken to do what they are told, at once; time passes without waiting; all
others keep still: pods that wait are not admitted, nobody is preempted, no host is drained any further.
Called by `answers.job_plan`.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from derny.capacity.tree import PoolTree
from derny.core.commands import REASON_HEALTH, PodReport, ReportPods
from derny.core.effects import Effect, Kill, Launch
from derny.core.events import (
    Event,
    GangsAdmitted,
    InstancesBegun,
    InstancesSettled,
    PodsCreated,
    PodsPlaced,
    PodsRemoved,
)
from derny.core.machine import Machine, Terms
from derny.core.state import State
from derny.model.ids import JobId
from derny.model.rules import Preempting
from derny.model.states import PodState, TaskState
from derny.model.timers import TimingWheel

TURNS_MAX: Final = 5_000
"""So many turns take some seconds; what is not begun by then is told so."""

_MOVES: Final = (GangsAdmitted, InstancesBegun, InstancesSettled, PodsCreated, PodsPlaced, PodsRemoved)
"""Events that lead on; others may follow."""
_WAITING: Final = (PodState.PENDING, PodState.READY, PodState.PLACING)


class Trial(Machine):
    """A machine for one job, turn by turn."""

    def __init__(self, terms: Terms, state: State, job: JobId, at: float) -> None:
        super().__init__(
            terms.periods, terms.limits, terms.rules, preempting=Preempting(enabled=False), state=state
        )
        self._job = job
        self._at = self._moved_at = at
        self._turns = 0
        self._orders: deque[Effect] = deque()

    @property
    def was_cut(self) -> bool:
        """Whether it was given up before all was done that could be."""
        return self._turns >= TURNS_MAX

    def begin(self, decided: list[Event]) -> None:
        """Let what was decided of the job happen."""
        for event in decided:
            self._apply(event, self._at)

    def turn(self) -> bool:
        """One turn, as long as one of the loop's; returns whether there is another one."""
        state = self.state
        # Hosts keep still, and nobody watches.
        state.dirty_hosts.clear()
        state.changed_jobs, state.changed_pods = {}, {}
        events, more = self.advance(self._at, self.terms.limits.entities_per_turn)
        self._orders += self.take_effects()
        if any(isinstance(event, _MOVES) for event in events):
            self._moved_at = self._at
        self._turns += 1
        return not self.was_cut and (more or self._agents_answer() or self._time_passes())

    def let_go(self, most: int) -> bool:
        """Drop so many of the pods; whether any are left. Dropped whole, a hundred thousand are freed in one
        go that nothing interrupts."""
        state, pods = self.state, self.state.jobs[self._job].pods
        # Whatever has them besides the job goes first, which frees nothing yet.
        state.timers, state.tree = TimingWheel(), PoolTree()
        for held in (state.hosts, state.groups, state.dirty_pods, state.changed_pods):
            held.clear()
        for _ in range(min(most, len(self._orders))):
            self._orders.pop()
        del pods[-most:]
        return bool(pods or self._orders)

    def end(self) -> None:
        """Let go of everything: the collector is off, and a machine refers to itself."""
        vars(self).clear()

    def _take(self, event: Event, at: float, done: list[Event]) -> None:
        if isinstance(event, GangsAdmitted) and event.job != self._job:
            # Others go first. As they keep still here, so does everybody behind them.
            tree = self.state.tree
            tree.pools[self.state.jobs[event.job].spec.pool].blocked_at = tree.version
            return
        super()._take(event, at, done)

    @property
    def _waits_for_agents(self) -> bool:
        """Whether anything is begun, or placed, only once agents have answered."""
        job = self.state.jobs[self._job]
        workflow = job.workflows[-1]
        begun = workflow.done + workflow.failed + len(workflow.current)
        return bool(job.counts[PodState.KILLING]) or (not workflow.finished and begun < workflow.total)

    def _agents_answer(self) -> bool:
        if not self._orders or not self._waits_for_agents:
            return False
        most = min(len(self._orders), self.terms.limits.entities_per_turn)
        orders = [self._orders.popleft() for _ in range(most)]
        self.handle(ReportPods([report for order in orders for report in _answers(order)]), self._at)
        return True

    def _time_passes(self) -> bool:
        """On to the next moment at which something is due, if that is near."""
        counts, periods = self.state.jobs[self._job].counts, self.terms.periods
        if not self._waits_for_agents and not any(counts[state] for state in _WAITING):
            return False
        patience = max(periods.steady_s, periods.placing_retry_s, periods.entitlement_s)
        wake = self.next_wake
        if wake is None or wake > self._moved_at + patience:
            return False
        self._at = max(self._at, wake)
        return True


def _answers(order: Effect) -> Iterator[PodReport]:
    if isinstance(order, Kill):
        yield PodReport(order.pod, TaskState.KILLED)
    elif isinstance(order, Launch):
        yield PodReport(order.pod, TaskState.RUNNING)
        if order.template.health_checked:
            yield PodReport(order.pod, TaskState.RUNNING, reason=REASON_HEALTH, healthy=True)
