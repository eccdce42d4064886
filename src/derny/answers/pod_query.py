"""Which pods of a job a query asks for, and in which order. Pure: pages are made by `api.queries`.

One rule: a pod has to meet all criteria that are given, in its current run. (API reference, pod.proto:
QuerySpec; behaviour, jobs §2.13.)
"""

from collections.abc import Callable, Sequence
from math import inf

import msgspec

from derny.answers.ordering import Key, OrderBy, part
from derny.core.state import State
from derny.model.ids import JobId, pod_name
from derny.model.records import Pod
from derny.model.states import PodState


class PodCriteria(msgspec.Struct, frozen=True, kw_only=True):
    """What pods have to meet; what is empty asks nothing."""

    states: frozenset[PodState] = frozenset()
    names: frozenset[str] = frozenset()
    """Of the pod, or of one of its containers."""
    hosts: frozenset[str] = frozenset()


SORTED_BY: dict[str, Callable[[Pod], float | str]] = {
    # By the start of the run, as Peloton does; pods that have not started come after all others.
    "creation_time": lambda pod: pod.started_at or inf,
    "start_time": lambda pod: pod.started_at or inf,
    "host": lambda pod: pod.host or "",
    "instance_id": lambda pod: pod.instance,
    # Pods of one job have the same name but for the instance number.
    "name": lambda pod: pod.instance,
    "message": lambda pod: pod.message,
    "reason": lambda pod: pod.reason,
    "state": lambda pod: pod.state,
}
"""Fields that a query can sort by; states in the order of the contract."""


def ranked(
    state: State, job: JobId, criteria: PodCriteria, order: Sequence[OrderBy], first: int, end: int
) -> list[tuple[Key, int]]:
    """Keys and instances of the pods with `first` <= instance < `end` that meet the criteria; NotFound.

    Of equals the lower instance comes first.
    """
    keys = [(SORTED_BY[by.field], by.descending) for by in order]
    return [
        ((*(part(value(pod), descending) for value, descending in keys), pod.instance), pod.instance)
        for pod in state.job(job).pods[first:end]
        if _is_met(criteria, pod)
    ]


def _is_met(criteria: PodCriteria, pod: Pod) -> bool:
    if criteria.states and pod.state not in criteria.states:
        return False
    if criteria.hosts and pod.host not in criteria.hosts:
        return False
    names = criteria.names
    return (
        not names
        or pod_name(pod.job, pod.instance) in names
        or any(container.name in names for container in pod.template.containers)
    )
