"""WatchService: streams of what changes, and their end.

One rule: the revision of a message says that its reader has had everything up to there, so whoever resumes
from the last one it got misses nothing. The first one says where the watch begins; one that begins in the
past is told the server's revision by the last of the past, or by a message without objects. Objects that
changed together come together; where a message has no room for them all, the revision comes with the last of
them, and the one before it with the others. Who is told what is `runtime.watch`'s business. Registered by
`app`. (API reference, watch_svc.proto; behaviour, jobs §4.)
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import anyio

from derny.answers import queries
from derny.answers.queries import JobView, PodView
from derny.api import wire_in, wire_out
from derny.api.codec import delimited, encode
from derny.api.gates import Methods
from derny.core.state import State
from derny.edge.off_loop import off_loop
from derny.model.errors import Exhausted
from derny.model.ids import JobId, parse_pod_name, pod_name
from derny.model.periods import Limits
from derny.model.specs import Labels
from derny.proto.peloton.api.v1alpha.peloton import JobId as JobIdMessage
from derny.proto.peloton.api.v1alpha.peloton import Label, PodName
from derny.proto.peloton.api.v1alpha.watch import svc
from derny.runtime.commits import AnyChange, Commit
from derny.runtime.interest import JobFilter, PodFilter
from derny.runtime.loop import Loop

MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""Of the objects in one message; clients accept 4 MiB unless they are told otherwise."""
EFFORT_PER_SLICE: Final = 64
"""Pods encoded between two chances for others: some milliseconds."""
EFFORT_BYTES: Final = 512
"""Of a job's spec, which is decoded for its summary: as much effort as a pod."""
PARTING_S: Final = 30.0
"""How long a message under way may take once its watch has ended. Cut short, it would hide the reason from
the client; it holds no place among the watches any more, and nothing but itself."""

_JOBS_FIELD, _PODS_FIELD = 3, 5
_WATCH = "/peloton.api.v1alpha.watch.svc.WatchService/Watch"


class _Wanted(NamedTuple):
    """What a request asks for: the filters, and what they name, each once and in its order."""

    job_filter: JobFilter | None
    pod_filter: PodFilter | None
    jobs: list[JobId]
    pods: list[tuple[JobId, int]]


class WatchService(svc.WatchServiceBase):
    """Streams of what changes."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._encoding = asyncio.Lock()

    def __mapping__(self) -> Methods:
        methods: Methods = super().__mapping__()
        # The generated one would hear of a watch's end only once the message under way has got through.
        methods[_WATCH] = methods[_WATCH]._replace(func=self._watch)
        return methods

    async def cancel(self, message: svc.CancelRequest) -> svc.CancelResponse:
        self._loop.watches.cancel(message.watch_id)
        return svc.CancelResponse()

    async def _watch(self, stream: Any) -> None:
        """Serve a call of Watch; `stream` is grpclib's."""
        request: svc.WatchRequest = await stream.recv_message()
        wanted = _wanted(request, self._limits)
        with (
            self._loop.watches.open(wanted.job_filter, wanted.pod_filter, request.start_revision) as watch,
            anyio.CancelScope() as sending,
        ):
            watch.when_ended = partial(_let_part, sending)
            # It looks at this very moment, so what it doesn't find will be told of once it is there.
            first = await self._loop.read(partial(_missing, wanted=wanted))
            first.watch_id, first.revision = watch.id, watch.position
            await stream.send_message(first)
            while True:
                commit = await watch.next()
                fields = await self._fields(commit)
                for message in _messages(watch.id, watch.position, commit.revision, fields):
                    await stream.send_message(message)
        # Its reader was stuck in a message when the watch was ended: this raises why.
        await watch.next()

    async def _fields(self, commit: Commit) -> list[bytes]:
        """The objects of a commit as fields of a response. Many are encoded for one watch at a time, since
        the others may need the same."""
        if sum(not change.encoded for change in commit.changes) <= EFFORT_PER_SLICE:
            return await _encoded(commit.changes)
        async with self._encoding:
            return await _encoded(commit.changes)


def _let_part(sending: anyio.CancelScope) -> None:
    sending.deadline = anyio.current_time() + PARTING_S


async def _encoded(changes: Sequence[AnyChange]) -> list[bytes]:
    """Each change as a field; those that nobody has needed yet are encoded, with pauses."""
    fields: list[bytes] = []
    effort = 0
    for change in changes:
        view = change.view
        if not change.encoded and isinstance(view, JobView):
            effort += 1 + len(view.spec.wire) // EFFORT_BYTES
            change.encoded = await off_loop(len(view.spec.wire), _job_field, view)
        elif not change.encoded and isinstance(view, PodView):
            effort += 1
            change.encoded = _pod_field(view, change.at)
        # Kept here too: the history forgets encodings in time.
        fields.append(change.encoded)
        if effort >= EFFORT_PER_SLICE:
            effort = 0
            await asyncio.sleep(0)
    return fields


def _job_field(view: JobView) -> bytes:
    return delimited(_JOBS_FIELD, encode(wire_out.job_summary(view)))


def _pod_field(view: PodView, at: float) -> bytes:
    return delimited(_PODS_FIELD, encode(wire_out.pod_summary(view, at)))


def _messages(watch: int, before: int, revision: int, fields: list[bytes]) -> Iterator[bytes]:
    """The objects of a commit as responses: nearly always one."""
    part: list[bytes] = []
    size = 0
    for field in fields:
        if part and size + len(field) > MESSAGE_BYTES:
            yield _message(watch, before, part)
            part, size = [], 0
        part.append(field)
        size += len(field)
    yield _message(watch, revision, part)


def _message(watch: int, revision: int, fields: list[bytes]) -> bytes:
    return b"".join((encode(svc.WatchResponse(watch, revision)), *fields))


def _wanted(request: svc.WatchRequest, limits: Limits) -> _Wanted:
    """What a request asks for; Invalid: an id or a name that is none; Exhausted: too many of them."""
    of_jobs, of_pods = request.stateless_job_filter, request.pod_filter
    job_filter = pod_filter = None
    jobs: list[JobId] = []
    pods: list[tuple[JobId, int]] = []
    if of_jobs is not None:
        where = "stateless_job_filter.job_ids"
        jobs += [JobId(wire_in.required_id(message, where)) for message in of_jobs.job_ids]
        job_filter = JobFilter(frozenset(jobs), _labels(of_jobs.labels))
    if of_pods is not None:
        pods += [parse_pod_name(message.value) for message in of_pods.pod_names]
        job = JobId(wire_in.text_of(of_pods.job_id)) or None
        pod_filter = PodFilter(job, frozenset(pods), _labels(of_pods.labels))
        jobs += [job] if job is not None else []
    count = len(jobs) + len(pods) + sum(len(one.labels) for one in (job_filter, pod_filter) if one)
    if count > limits.watch_names_max:
        raise Exhausted(
            f"the filters have {count} ids, names and labels, more than {limits.watch_names_max} (limit"
            " watch_names_max)"
        )
    return _Wanted(job_filter, pod_filter, list(dict.fromkeys(jobs)), list(dict.fromkeys(pods)))


def _labels(messages: Sequence[Label]) -> Labels:
    return tuple(dict.fromkeys((label.key, label.value) for label in messages))


def _missing(state: State, wanted: _Wanted) -> svc.WatchResponse:
    return svc.WatchResponse(
        stateless_jobs_not_found=[JobIdMessage(job) for job in queries.missing_jobs(state, wanted.jobs)],
        pods_not_found=[PodName(pod_name(*pod)) for pod in queries.missing_pods(state, wanted.pods)],
    )
