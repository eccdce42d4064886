"""Why pods of a job do not run, alike ones together, so that a hundred thousand take a short answer.

One rule: pods are alike that are of one template, where they stand is the same, and what is owed to them; the
first of them speaks for all, and only it is explained (`answers.pod_explanation`). The job is gone through in
slices, so what is told is of no one moment. Called by `api.pod_insight`.
"""

from typing import NamedTuple

from derny.core.instances import Range, add
from derny.core.state import State
from derny.model.ids import HostName, JobId
from derny.model.records import Job, Pod
from derny.model.states import POD_TERMINAL, PodState


class Likeness(NamedTuple):
    """What pods have in common that are alike; `state` is INITIALIZED for instances not begun yet."""

    template: int
    state: PodState
    goal: PodState
    superseded: bool = False
    failed: bool = False
    first_in_line: bool = False
    own_host: HostName | None = None


Alike = dict[Likeness, list[Range]]
"""The instances of each sort, as ranges with both ends."""


def gather(state: State, job: JobId, first: int, most: int, alike: Alike) -> int | None:
    """Add the pods from `first` on, at most so many, that do not run; where to go on, None at the end.
    NotFound."""
    found = state.job(job)
    count = max(len(found.pods), found.spec.instance_count)
    for instance in range(first, min(first + most, count)):
        if (each := likeness(state, found, instance)) is not None:
            add(alike.setdefault(each, []), instance)
    return first + most if first + most < count else None


def likeness(state: State, job: Job, instance: int) -> Likeness | None:
    """What sort of pod an instance is; None for one that runs, as it should."""
    if instance >= len(job.pods):
        return Likeness(id(job.spec.template(instance)), PodState.INITIALIZED, PodState.RUNNING)
    pod = job.pods[instance]
    if pod.state is pod.goal is PodState.RUNNING and not pod.superseded:
        return None
    return Likeness(
        id(pod.template),
        pod.state,
        pod.goal,
        pod.superseded,
        pod.failures > 0 and pod.state in POD_TERMINAL,
        pod.state is PodState.PENDING and _is_first(state, job, pod),
        _own_host(state, pod),
    )


def _is_first(state: State, job: Job, pod: Pod) -> bool:
    queue = state.tree.pools[job.spec.pool].queues[state.tree.queue_of(pod.template)]
    return next(iter(queue.front()[1])) is pod


def _own_host(state: State, pod: Pod) -> HostName | None:
    """The host that it waits for, apart from others: one in place, or with its volume."""
    if pod.template.volume is not None and (volume := state.volume(pod)) is not None:
        return volume.host
    hold = state.holds.of.get(pod)
    return None if hold is None else state.table.name_of[hold.row]
