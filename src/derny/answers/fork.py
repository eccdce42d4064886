"""A state to try things on, for one job: what a trial may write is copied, all else is shared and only read.

One rule: nothing that is written in the fork is seen in the original. Copied are the host table, the pools,
and the job with its pods, wherever they stand; hosts as soon as they are written. Of all other pods that wait
only those first in line are there, since they hold up others; they never move. Whoever changes the original
meanwhile is not heard of. Called by `answers.trial`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from typing import TypeVar

import msgspec

from derny.core.holds import Holds
from derny.core.state import State
from derny.model.fifo import PriorityFifo
from derny.model.records import Host, Job, Pod, Pool, Workflow
from derny.model.specs import PodTemplate
from derny.model.states import PodState
from derny.placement.filters import ask_of
from derny.placement.table_copy import TableCopy

K = TypeVar("K")
V = TypeVar("V")


class Overlay(dict[K, V]):
    """Entries of its own; what is looked up beyond them comes from below, through `taken` if it is to be
    kept. They alone are counted, and told by `in`."""

    def __init__(self, below: Mapping[K, V], taken: Callable[[V], V] | None = None) -> None:
        super().__init__()
        self._below = below
        self._taken = taken

    def __missing__(self, key: K) -> V:
        found = self._below[key]
        if self._taken is not None:
            found = self[key] = self._taken(found)
        return found


def fork(state: State, templates: Iterable[PodTemplate], job: Job | None, mine: Mapping[Pod, Pod]) -> State:
    """The state for a trial of pods of these templates: those of a new job, or of an existing one; `mine` has
    a copy of each pod that it has, by instance."""
    forked = State()
    known = [*templates, *(each for spec in (job.specs.values() if job else ()) for each in spec.templates)]
    labels = dict.fromkeys(label for template in known for label in template.labels)
    forked.table = TableCopy(state.table, map(ask_of, known), labels)
    forked.holds = _holds(state, forked.table, mine)
    forked.jobs = Overlay(state.jobs)
    forked.hosts = Overlay(state.hosts, partial(_host, mine=mine))
    forked.cursor, forked.closed, forked.pods_wanted = state.cursor, state.closed, state.pods_wanted
    _fork_pools(state, forked, job, mine)
    if job is not None:
        _fork_job(state, forked, job, mine)
        _fork_groups(state, forked, job, mine)
    return forked


def _host(host: Host, mine: Mapping[Pod, Pod]) -> Host:
    made = copy(host)
    made.pods = {mine.get(pod, pod): None for pod in host.pods}
    return made


def _holds(state: State, table: TableCopy, mine: Mapping[Pod, Pod]) -> Holds:
    made = Holds(table)
    for pod, hold in state.holds.of.items():
        if pod in mine:
            made.of[mine[pod]] = hold
            made.jobs[pod.job] += 1
    return made


def _fork_pools(state: State, forked: State, job: Job | None, mine: Mapping[Pod, Pod]) -> None:
    tree, made = state.tree, forked.tree
    own = job.spec.pool if job is not None and job.counts[PodState.PENDING] else None
    made.pools = {name: _pool(pool, mine if name == own else {}) for name, pool in tree.pools.items()}
    made.waiting = tree.waiting.copy()
    made.capacity, made.preemption = tree.capacity, tree.preemption
    made.version, made.changes, made.reshaped = tree.version, tree.changes, tree.reshaped
    forked.cycle = copy(state.cycle)


def _pool(pool: Pool, mine: Mapping[Pod, Pod]) -> Pool:
    made = copy(pool)
    made.queues = {queue: _queue(waiting, mine) for queue, waiting in pool.queues.items()}
    return made


def _queue(waiting: PriorityFifo[Pod], mine: Mapping[Pod, Pod]) -> PriorityFifo[Pod]:
    """Our own pods where they stand, and the first of the others before, between and behind them."""
    made: PriorityFifo[Pod] = PriorityFifo()
    for priority, line in waiting.lines():
        of_others = False
        for pod in line:
            if pod in mine:
                made.add(priority, mine[pod])
                of_others = False
            elif not of_others:
                made.add(priority, pod)
                of_others = True
            if not mine:
                break
    return made


def _fork_job(state: State, forked: State, job: Job, mine: Mapping[Pod, Pod]) -> None:
    made = copy(job)
    made.pods = list(mine.values())
    made.specs, made.specs_at = job.specs.copy(), job.specs_at.copy()
    made.counts = job.counts.copy()
    made.counts_of = {config: counts.copy() for config, counts in job.counts_of.items()}
    made.exempt, made.departed = job.exempt.copy(), job.departed.copy()
    made.volumes, made.secrets = job.volumes.copy(), job.secrets.copy()
    made.workflows = [*job.workflows[:-1], _workflow(job.workflows[-1])]
    forked.jobs[job.id] = made
    forked.names[job.spec.name] = [job.id]
    forked.volumes = {volume: copy(state.volumes[volume]) for volume in job.volumes.values()}
    if job.id in state.rollouts:
        # It is given up with the workflow that it belongs to.
        forked.rollouts[job.id] = state.rollouts[job.id]


def _workflow(workflow: Workflow) -> Workflow:
    return msgspec.structs.replace(workflow, log=workflow.log.copy(), current=workflow.current.copy())


def _fork_groups(state: State, forked: State, job: Job, mine: Mapping[Pod, Pod]) -> None:
    if not job.counts[PodState.READY] and not job.counts[PodState.PLACING]:
        return
    for key, group in state.groups.items():
        if key[0] == job.id:
            fresh, tried = (
                OrderedDict((mine[pod], None) for pod in line) for line in (group.fresh, group.tried)
            )
            forked.groups[key] = msgspec.structs.replace(group, fresh=fresh, tried=tried)
