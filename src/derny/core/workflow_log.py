"""What happened in a workflow, packed: states of the workflow itself, and of many instances at once.

One rule: an entry says since when which instances are in which state; one without instances is the
workflow's own. It takes thirteen bytes and eight for each range of instances, so that ten workflows of a job
of 100,000 pods stay small. Written by `core.workflows`; read off the loop, from a copy, since reading looks
at all of it. (Behaviour, jobs §8.10.)
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from operator import itemgetter
from struct import Struct

from derny.core.instances import Range, contains, ranges
from derny.model.states import WorkflowState

_HEAD = Struct("<dBI")

Moment = tuple[float, WorkflowState]
"""When, and the state from then on."""


def append(log: bytearray, at: float, state: WorkflowState, instances: bytes = b"") -> None:
    """Write down a state of the workflow, or of a packed set of instances."""
    log += _HEAD.pack(at, state, len(instances)) + instances


def own_events(log: bytes) -> list[Moment]:
    """The states of the workflow itself, latest first."""
    return [(at, state) for at, state, instances in _entries(log) if not instances][::-1]


def events_of(log: bytes, instance: int, limit: int = 0) -> list[Moment]:
    """The states of one instance, latest first, repetitions left out; of the latest `limit` entries, 0 for
    all."""
    found = [
        (at, state) for at, state, instances in _entries(log) if instances and contains(instances, instance)
    ]
    return _collapsed(found, limit)


def events_by_range(log: bytes, limit: int = 0) -> Iterator[tuple[Range, list[Moment]]]:
    """As `events_of`, for every instance that occurs: ranges of alike ones, both ends included, ascending."""
    moments: list[Moment] = []
    edges: dict[int, list[int]] = {}
    for at, state, instances in _entries(log):
        for first, last in ranges(instances):
            edges.setdefault(first, []).append(len(moments))
            edges.setdefault(last + 1, []).append(len(moments))
        moments.append((at, state))
    open_now: set[int] = set()
    for first, end in pairwise(sorted(edges)):
        open_now.symmetric_difference_update(edges[first])
        if open_now:
            yield (first, end - 1), _collapsed([moments[entry] for entry in sorted(open_now)], limit)


def _entries(log: bytes) -> Iterator[tuple[float, WorkflowState, bytes]]:
    place = 0
    while place < len(log):
        at, state, size = _HEAD.unpack_from(log, place)
        place += _HEAD.size + size
        yield at, WorkflowState(state), log[place - size : place]


def _collapsed(moments: list[Moment], limit: int) -> list[Moment]:
    """Latest first, and of equal states in a row the latest."""
    latest = moments[::-1][: limit or None]
    return [next(alike) for _state, alike in groupby(latest, key=itemgetter(1))]
