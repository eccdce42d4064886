"""Which jobs a query asks for, and in which order. Pure: the slices and pages are made by `api.queries`.

One rule: a job has to meet all criteria that are given. What the machine itself has no use for (owner,
labels, description) stays in the client's bytes; whoever asks hands it in as `JobTexts`, and only for jobs
that meet the rest. (API reference, stateless.proto: QuerySpec; behaviour, jobs §2.14.)
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from derny.answers.ordering import Key, OrderBy, part
from derny.core.state import State
from derny.model.errors import Invalid, NotFound
from derny.model.ids import JobId, PoolId
from derny.model.specs import JobSpec, Labels
from derny.model.states import JobState

JOB_ENDED: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.KILLED})


class Span(NamedTuple):
    """From `first` up to and without `end`, in seconds since the epoch."""

    first: float
    end: float


class JobTexts(NamedTuple):
    """What is looked for in the client's own words."""

    owner: str = ""
    description: str = ""
    labels: Labels = ()


class JobCriteria(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs have to meet; what is empty or None asks nothing."""

    states: frozenset[JobState] = frozenset()
    pools: frozenset[PoolId] | None = None
    name: str = ""
    """A part of the name."""
    created: Span | None = None
    completed: Span | None = None
    owner: str = ""
    labels: Labels = ()
    """Each with this key and this value."""
    keywords: tuple[tuple[str, ...], ...] = ()
    """Each, as `pieces_of` has it, somewhere in the owner, the name, a label or the description."""

    @property
    def asks_texts(self) -> bool:
        return bool(self.owner or self.labels or self.keywords)


class JobRow(NamedTuple):
    """What a job is judged and sorted by. `place` counts jobs in order of creation."""

    place: int
    id: JobId
    spec: JobSpec
    state: JobState
    created_at: float
    started_at: float
    completed_at: float
    updated_at: float


SORTED_BY: dict[str, Callable[[JobRow, JobTexts], float | str]] = {
    "creation_time": lambda row, texts: row.created_at,
    "start_time": lambda row, texts: row.started_at,
    "completion_time": lambda row, texts: row.completed_at,
    "update_time": lambda row, texts: row.updated_at,
    "name": lambda row, texts: row.spec.name,
    "owner": lambda row, texts: texts.owner,
    "instance_count": lambda row, texts: row.spec.instance_count,
    "respool_id": lambda row, texts: row.spec.pool,
    "state": lambda row, texts: row.state,
    # There is one type of jobs in this API.
    "job_type": lambda row, texts: 0,
}
"""Fields that a query can sort by. Times are 0 where the thing has not happened."""

NEWEST_FIRST: Final = (OrderBy("creation_time", True),)


def pools_at(state: State, path: str) -> frozenset[PoolId]:
    """The pool at a path, and all below it, where its jobs are; Invalid when there is none."""
    try:
        pool = state.tree.lookup(path)
    except (NotFound, Invalid) as error:
        raise Invalid(f"respool: {error}; expected the path of a resource pool such as /pool") from None
    return frozenset([found.id for found in state.tree.walk(pool.id)])


def rows(state: State, criteria: JobCriteria, ids: Sequence[JobId], first: int) -> list[JobRow]:
    """Those of the jobs that still exist and meet all criteria that ask no texts. `first` is the place of
    the first."""
    found: list[JobRow] = []
    for place, job_id in enumerate(ids, first):
        job = state.jobs.get(job_id)
        if job is None or (criteria.states and job.state not in criteria.states):
            continue
        spec = job.spec
        if criteria.pools is not None and spec.pool not in criteria.pools:
            continue
        if criteria.name not in spec.name or not _is_in(job.created_at, criteria.created):
            continue
        ended_at = job.state_at if job.state in JOB_ENDED else 0.0
        if criteria.completed is not None and not (ended_at and _is_in(ended_at, criteria.completed)):
            continue
        found.append(
            JobRow(place, job_id, spec, job.state, job.created_at, job.started_at, ended_at, job.updated_at)
        )
    return found


def is_met(criteria: JobCriteria, row: JobRow, texts: JobTexts) -> bool:
    """Whether the job meets the criteria that ask for its texts."""
    if criteria.owner and criteria.owner != texts.owner:
        return False
    if not all(label in texts.labels for label in criteria.labels):
        return False
    if not criteria.keywords:
        return True
    words = [
        row.spec.name,
        texts.owner,
        texts.description,
        *(word for label in texts.labels for word in label),
    ]
    lowered = [word.lower() for word in words]
    return all(any(_occurs(keyword, word) for word in lowered) for keyword in criteria.keywords)


def key_of(order: Sequence[OrderBy], row: JobRow, texts: JobTexts) -> Key:
    """Where the job stands in the order; of equals the newer one comes first."""
    return (*(part(SORTED_BY[by.field](row, texts), by.descending) for by in order), -row.place)


def _is_in(at: float, span: Span | None) -> bool:
    return span is None or span.first <= at < span.end


def pieces_of(keyword: str) -> tuple[str, ...]:
    """What has to occur, in this order, where `*` stands for any text and case does not matter."""
    return tuple(filter(None, keyword.lower().split("*")))


def _occurs(pieces: Sequence[str], lowered: str) -> bool:
    at = 0
    for piece in pieces:
        found = lowered.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True
