"""Preemption: which pools are looked at when, what becomes of the pods that are chosen, and its events.

    look      every preemption period: who holds more than its entitlement. A pool that did in so many looks
              in a row is reviewed, and one where a gang of higher priority may take the place of others
    review    all pods of the pool are gone through, in slices; then it is decided who is needed for what has
              to be freed beyond what is on its way out
    notice    a chosen pod that runs becomes PREEMPTING, and runs on for an eviction period; then another
              review evicts it if it is still needed, or spares it
    evict     its run is superseded: killed, and followed by another without a back-off

Chosen pods without a host go back to their queue, and those that have not begun to run are evicted, at once.
One rule: all that is remembered here is derived. A daemon that starts anew counts its looks from the
beginning; pods that have had notice are spared when their time is out. Called by `core.machine`.
(Behaviour, scheduler §5.)
"""

from collections.abc import Iterator, Sequence
from enum import Enum, auto
from math import inf

from derny.capacity import preemption
from derny.capacity.entitlement import Claim
from derny.capacity.preemption import Pursuit, Seen, owes
from derny.core.events import Event, PodsPreempted, PodsRequeued, PodsSpared, RunsSuperseded
from derny.core.state import State
from derny.model.ids import JobId, PoolId
from derny.model.periods import Limits, Periods
from derny.model.records import Job, Pod, Pool
from derny.model.rules import Preempting
from derny.model.states import POD_ADMITTED, PodState, TerminationReason

REASON = "REASON_PREEMPTION"


def apply_preempted(state: State, event: PodsPreempted, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    state.move_all(job, pods, PodState.PREEMPTING, at, event.message, REASON)
    state.touch(job, at)


def apply_spared(state: State, event: PodsSpared, at: float) -> None:
    job = state.jobs[event.job]
    state.move_all(job, [job.pods[instance] for instance in event.instances], PodState.RUNNING, at)
    state.touch(job, at)


class Preemption:
    """What there is to look at and when, and the pools under review."""

    def __init__(self, state: State, periods: Periods, limits: Limits, preempting: Preempting) -> None:
        self._state = state
        self._periods = periods
        self._most = limits.evictions_max
        self._preempting = preempting
        self._calculated: Sequence[Claim] = ()
        self._look_at = inf
        self._cycles: dict[PoolId, int] = {}
        """In how many looks in a row a pool held more than its entitlement."""
        self._review_at: dict[PoolId, float] = {}
        self._due: dict[PoolId, list[JobId]] = {}
        """Pools that are to be reviewed now, with their jobs."""
        self._review: _Review | None = None

    @property
    def next_wake(self) -> float | None:
        """When there is something to look at; None while nobody holds too much."""
        wake = min(self._look_at, *self._review_at.values(), inf)
        return wake if wake < inf else None

    def advance(self, at: float, budget: int) -> tuple[list[Event], bool]:
        """Look and review, at no more than `budget` pods: what has been decided, of one pool at most, and
        whether there is more to do now."""
        if not self._preempting.enabled:
            return [], False
        if self._look_at <= at:
            self._look(at)
        elif self._look_at == inf and self._calculated is not self._state.cycle.claims:
            # Only a calculation can have left a pool with more than its entitlement.
            self._calculated = self._state.cycle.claims
            self._expect_look(at)
        if self._review is None:
            self._review = self._next_review(at)
        events: list[Event] = []
        if self._review is not None and self._review.went_through(self._state, budget):
            review, self._review = self._review, None
            events = self._decide(review, at)
        return events, bool(self._review or self._due) or min(self._review_at.values(), default=inf) <= at

    def _expect_look(self, at: float) -> None:
        """Look again after a period if there may be something to see."""
        tree = self._state.tree
        waiting = self._preempting.by_priority and bool(tree.waiting)
        owing = waiting or any(owes(pool) for pool in tree.pools.values())
        self._look_at = at + self._periods.preemption_s if owing else inf

    def _look(self, at: float) -> None:
        """Count who owes something, and review those who have owed it for long enough."""
        tree = self._state.tree
        cycles: dict[PoolId, int] = {}
        for pool in tree.walk():
            if owes(pool):
                cycles[pool.id] = self._cycles.get(pool.id, 0) + 1
                if cycles[pool.id] < self._periods.preemption_cycles:
                    continue
                cycles[pool.id] = 0
            elif not (self._preempting.by_priority and pool.queues):
                continue
            self._review_at.setdefault(pool.id, at)
        self._cycles = cycles
        self._expect_look(at)

    def _next_review(self, at: float) -> "_Review | None":
        """Begin the next that is due, if there is anything to pursue, or anybody to spare."""
        if not self._due:
            self._find_due(at)
        jobs, tree = self._state.jobs, self._state.tree
        while self._due:
            pool = next(iter(self._due))
            found = [job for job in self._due.pop(pool) if job in jobs]
            if pool not in tree.pools:
                continue
            pursuits = preemption.pursuits(tree, tree.pools[pool], self._preempting.by_priority, self._most)
            if pursuits or any(jobs[job].counts[PodState.PREEMPTING] for job in found):
                return _Review(pool, found, pursuits)
        return None

    def _find_due(self, at: float) -> None:
        """The pools whose time has come. The jobs of all of them are found in one go."""
        self._due = {pool: [] for pool, when in self._review_at.items() if when <= at}
        for pool in self._due:
            del self._review_at[pool]
        for job in self._state.jobs.values() if self._due else ():
            if job.spec.pool in self._due:
                self._due[job.spec.pool].append(job.id)

    def _decide(self, review: "_Review", at: float) -> list[Event]:
        """What becomes of the chosen, and of those who had notice; and when the pool is reviewed again."""
        pool = self._state.tree.pools.get(review.pool)
        if pool is None:
            return []
        fates: dict[tuple[JobId, _Fate], list[int]] = {}
        for pod, fate in review.fates(self._state, pool):
            fates.setdefault((pod.job, fate), []).append(pod.instance)
        decided = {fate for _job, fate in fates}
        if _Fate.NOTICE in decided:
            self._review_at[pool.id] = at + self._periods.eviction_s
        elif decided & {_Fate.REQUEUE, _Fate.EVICT}:
            # There may be more than are chosen at a time.
            self._review_at[pool.id] = at
        path = self._state.tree.path(pool)
        why = review.pursuits[0].why(path) if review.pursuits else ""
        return [_event(job, fate, instances, why) for (job, fate), instances in fates.items()]


class _Fate(Enum):
    """What becomes of a pod in a review."""

    REQUEUE = auto()
    EVICT = auto()
    NOTICE = auto()
    SPARE = auto()


_FATE = {
    PodState.READY: _Fate.REQUEUE,
    PodState.PLACING: _Fate.REQUEUE,
    PodState.LAUNCHED: _Fate.EVICT,
    PodState.STARTING: _Fate.EVICT,
    PodState.PREEMPTING: _Fate.EVICT,
    PodState.RUNNING: _Fate.NOTICE,
}
"""Of a pod that is taken, by its state."""


def _event(job: JobId, fate: _Fate, instances: list[int], why: str) -> Event:
    if fate is _Fate.REQUEUE:
        return PodsRequeued(job, instances, f"Queued again: {why}")
    if fate is _Fate.NOTICE:
        return PodsPreempted(job, instances, f"To be evicted: {why}")
    if fate is _Fate.SPARE:
        return PodsSpared(job, instances)
    return RunsSuperseded(
        job, instances, TerminationReason.PREEMPTED_RESOURCES, f"Pod evicted: {why}", REASON
    )


class _Review:
    """One going through the pods of a pool, in slices, and what came of it.

    Pods that begin to leave after they were looked at are not counted as leaving. Whoever has notice for
    nothing because of that is spared in the next review.
    """

    def __init__(self, pool: PoolId, jobs: list[JobId], pursuits: list[Pursuit]) -> None:
        self.pool = pool
        self.pursuits = pursuits
        self._jobs = jobs
        self._instance = 0
        self._noticed: list[Pod] = []

    def went_through(self, state: State, budget: int) -> bool:
        """Look at `budget` more pods or jobs; returns whether that were all."""
        while self._jobs and budget > 0:
            job = state.jobs.get(self._jobs[-1])
            pods: list[Pod] = []
            if job is not None and any(job.counts[admitted] for admitted in POD_ADMITTED):
                pods = job.pods[self._instance : self._instance + budget]
                self._see(job, pods)
            self._instance += len(pods)
            budget -= max(len(pods), 1)
            if job is None or not pods or self._instance >= len(job.pods):
                self._jobs.pop()
                self._instance = 0
        return not self._jobs

    def _see(self, job: Job, pods: list[Pod]) -> None:
        seen = [
            Seen(pod, job.spec_of(pod).priority, _leaves(pod)) for pod in pods if pod.state in POD_ADMITTED
        ]
        self._noticed += [one.pod for one in seen if one.pod.state is PodState.PREEMPTING and not one.leaves]
        for pursuit in self.pursuits:
            pursuit.see(seen)

    def fates(self, state: State, pool: Pool) -> Iterator[tuple[Pod, _Fate]]:
        """What becomes of whom. Some may have gone their own way since they were looked at."""
        taken = {pod: None for pursuit in self.pursuits for pod in pursuit.taken(state.tree, pool)}
        for pod in dict.fromkeys((*taken, *self._noticed)):
            if not state.is_live(pod) or pod.state not in _FATE or _leaves(pod):
                continue
            if pod in taken:
                yield pod, _FATE[pod.state]
            elif pod.state is PodState.PREEMPTING:
                yield pod, _Fate.SPARE


def _leaves(pod: Pod) -> bool:
    """Whether the run gives back what it holds without our doing."""
    return pod.state is PodState.KILLING or pod.goal is not PodState.RUNNING or pod.superseded
