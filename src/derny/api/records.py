"""What lists and pages are made of: records encoded a slice at a time, in turn with all other long looks.

One rule: no slice takes more than a few milliseconds, so what is large is translated off the loop. Each
record is the field 1 of its response (ListJobs, ListPods, QueryJobs and QueryPods agree in that), so that
responses are records joined. A list is no snapshot: each record tells of the moment of its slice. Called by
`api.jobs` for streams and by `api.queries` for pages.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from derny.answers import queries
from derny.answers.queries import JobView, PodView
from derny.api import wire_out
from derny.api.codec import decode, delimited, encode
from derny.api.paging import slices
from derny.core.state import State
from derny.edge.off_loop import off_loop
from derny.model.errors import NotFound
from derny.model.ids import JobId
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.pod import PodInfo
from derny.runtime.loop import Loop

PER_SLICE: Final = 25
"""Two or three milliseconds of work."""
JOBS_PER_MESSAGE: Final = 100
PODS_PER_MESSAGE: Final = 250
MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Of one message of a stream; clients accept 4 MiB unless they are told otherwise."""
SMALL_BYTES: Final = 4 * 1024
"""Of a job's spec that is read on the loop, with others in the same slice."""


async def all_jobs(loop: Loop) -> AsyncIterator[bytes]:
    """Messages of ListJobs: the jobs that there are now, in order of creation, without those that are
    deleted meanwhile."""
    gathered: list[bytes] = []
    size = 0
    async for record in jobs(loop, await loop.read(queries.job_ids)):
        if len(gathered) == JOBS_PER_MESSAGE or (gathered and size + len(record) > MESSAGE_BYTES):
            yield b"".join(gathered)
            gathered, size = [], 0
        gathered.append(record)
        size += len(record)
    if gathered:
        yield b"".join(gathered)


async def jobs(loop: Loop, ids: Sequence[JobId]) -> AsyncIterator[bytes]:
    """Summaries of those jobs that still exist, in the given order."""
    for first, end in slices(len(ids), PER_SLICE):
        for record in await loop.scan(partial(_small_jobs, ids=ids[first:end])):
            if isinstance(record, bytes):
                yield record
            else:
                yield await off_loop(len(record.spec.wire), _job, record)


def _small_jobs(state: State, ids: Sequence[JobId]) -> list[bytes | JobView]:
    """The records of jobs with small specs, the views of the others."""
    views = queries.jobs_of(state, ids)
    return [_job(view) if len(view.spec.wire) <= SMALL_BYTES else view for view in views]


def _job(view: JobView) -> bytes:
    return delimited(1, encode(wire_out.job_summary(view)))


async def pods_of_job(loop: Loop, job: JobId, first: int, end: int) -> AsyncIterator[bytes]:
    """Messages of ListPods: the pods with `first` <= instance < `end`, ascending; NotFound for no job."""
    gathered: list[bytes] = []
    while True:
        stop = min(first + PER_SLICE, end)
        look = partial(_pods, job=job, first=first, end=stop, now=loop.clock.now())
        some = await loop.scan(look)
        gathered += some
        ended = len(some) < PER_SLICE
        if gathered and (ended or len(gathered) >= PODS_PER_MESSAGE or _size(gathered) >= MESSAGE_BYTES):
            yield b"".join(gathered)
            gathered = []
        if ended:
            return
        first = stop


def _pods(state: State, job: JobId, first: int, end: int, now: float) -> list[bytes]:
    views = queries.pods_of(state, job, first, end)
    waits = queries.waiting_reasons(state, job, views)
    return [
        delimited(1, encode(wire_out.pod_summary(view, now, why)))
        for view, why in zip(views, waits, strict=True)
    ]


def _size(records: Sequence[bytes]) -> int:
    return sum(map(len, records))


async def pod_infos(
    loop: Loop, job: JobId, instances: Sequence[int], with_specs: bool
) -> AsyncIterator[bytes]:
    """Status and spec of those pods that still exist, in the given order; NotFound for no job.

    A pod whose configuration is no longer kept comes without its spec.
    """
    specs: dict[int, _Spec] = {}
    for first, end in slices(len(instances), PER_SLICE):
        look = partial(_infos, job=job, instances=instances[first:end], now=loop.clock.now())
        infos = await loop.scan(look)
        for config in {view.config for view, _info in infos if with_specs} - specs.keys():
            specs[config] = await _spec_of(loop, job, config)
        if all(specs[view.config].size <= SMALL_BYTES for view, _info in infos if with_specs):
            for record in await loop.scan(partial(_small_infos, infos=infos, specs=specs)):
                yield record
        else:
            for view, info in infos:
                yield await off_loop(specs[view.config].size, _pod, view, info, specs)


class _Spec(NamedTuple):
    """A configuration of a job; None when it is not kept. `size` is that of its encoding."""

    message: JobSpec | None
    size: int


async def _spec_of(loop: Loop, job: JobId, config: int) -> _Spec:
    try:
        found, _made_at = await loop.read(partial(queries.job_spec, job=job, version=config))
    except NotFound:
        return _Spec(None, 0)
    return _Spec(await off_loop(len(found.wire), decode, JobSpec, found.wire), len(found.wire))


def _infos(state: State, job: JobId, instances: Sequence[int], now: float) -> list[tuple[PodView, PodInfo]]:
    made = len(state.job(job).pods)
    views = [queries.pod_info(state, job, instance) for instance in instances if instance < made]
    waits = queries.waiting_reasons(state, job, views)
    return [
        (view, PodInfo(status=wire_out.pod_status(view, now, why)))
        for view, why in zip(views, waits, strict=True)
    ]


def _small_infos(
    state: State, infos: Sequence[tuple[PodView, PodInfo]], specs: Mapping[int, _Spec]
) -> list[bytes]:
    """In a slice not for the state's sake: others have their turns too."""
    return [_pod(view, info, specs) for view, info in infos]


def _pod(view: PodView, info: PodInfo, specs: Mapping[int, _Spec]) -> bytes:
    spec = specs[view.config].message if view.config in specs else None
    if spec is not None:
        info.spec = wire_out.pod_spec(spec, view.job, view.instance)
    return delimited(1, encode(info))
