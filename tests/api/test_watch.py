"""Watching as clients see it: who is told what, revisions and resuming, and every way that a watch ends."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from api.conftest import JOB, LIMITS, Counter, a_job, a_pod, serving
from derny.api import watch, wire_out
from derny.core.commands import StartJob, StopJob
from derny.model.ids import JobId as JobText
from derny.model.states import TaskState
from derny.proto.peloton.api.v1alpha.job.stateless import JobState
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    DeleteJobRequest,
    GetJobRequest,
    ListPodsRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, Label, PodName
from derny.proto.peloton.api.v1alpha.pod import PodState
from derny.proto.peloton.api.v1alpha.watch import PodFilter, StatelessJobFilter
from derny.proto.peloton.api.v1alpha.watch.svc import CancelRequest, WatchRequest, WatchResponse

pytestmark = pytest.mark.asyncio

OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
ALL_JOBS, ALL_PODS = StatelessJobFilter(), PodFilter()


class Reader:
    """A client's end of a watch, whose first message has been read; more once it is asked for."""

    def __init__(self, stream: AsyncGenerator[WatchResponse], first: WatchResponse) -> None:
        self.first = first
        self.id = first.watch_id
        self._stream = stream
        self._messages: list[WatchResponse] = []
        self._reading: asyncio.Task[None] | None = None

    async def all(self, counter: Counter) -> list[WatchResponse]:
        """What comes until everything is at rest."""
        reading = self._read()
        await counter.rest()
        quiet, seen = 0, 0
        while quiet < 100 and not reading.done():
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._messages) == seen else 0
            seen = len(self._messages)
        found, self._messages = self._messages, []
        return found

    async def ended(self) -> GRPCError:
        """How the watch ends; what comes before that is read."""
        with pytest.raises(GRPCError) as ended:
            await asyncio.wait_for(self._read(), 20)
        return ended.value

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._stream.aclose()

    def _read(self) -> "asyncio.Task[None]":
        if self._reading is None:
            self._reading = asyncio.create_task(self._gather())
        return self._reading

    async def _gather(self) -> None:
        async for message in self._stream:
            self._messages.append(message)


@asynccontextmanager
async def watching(
    counter: Counter,
    jobs: StatelessJobFilter | None = None,
    pods: PodFilter | None = None,
    start: int = 0,
) -> AsyncIterator[Reader]:
    stream = counter.watches.watch(WatchRequest(start, jobs, pods))
    reader = Reader(stream, await asyncio.wait_for(anext(stream), 20))
    try:
        yield reader
    finally:
        await reader.close()


async def refused(counter: Counter, *request: object) -> GRPCError:
    with pytest.raises(GRPCError) as refused:
        async with watching(counter, *request):  # type: ignore[arg-type]  # spelled as `watching` has them
            pass
    return refused.value


async def delete(counter: Counter, job: str = JOB, version: str = "1-1-1") -> None:
    await counter.jobs.delete_job(DeleteJobRequest(JobId(job), EntityVersion(version), force=True))
    await counter.rest()


async def gone(counter: Counter) -> None:
    """Return once no watch is open, which takes no more than that the server hears of it."""
    for _ in range(20):
        await asyncio.sleep(0)
        if not counter.loop.watches.count:
            return
    pytest.fail("a client that went away still holds its place")


def pods_in(messages: list[WatchResponse]) -> set[str]:
    return {pod.pod_name.value for message in messages for pod in message.pods}


def jobs_in(messages: list[WatchResponse]) -> set[str]:
    return {job.job_id.value for message in messages for job in message.stateless_jobs}


# What a watch is told.


async def test_the_first_message_has_the_id_and_the_revision_and_nothing_else(counter: Counter) -> None:
    await counter.create(a_job())
    async with watching(counter, ALL_JOBS, ALL_PODS) as reader, watching(counter, ALL_JOBS) as other:
        assert reader.first == WatchResponse(watch_id=reader.id, revision=counter.loop.revision)
        assert reader.id and other.id and reader.id != other.id


async def test_a_job_is_told_as_getjob_tells_it_with_revisions_that_increase(counter: Counter) -> None:
    async with watching(counter, ALL_JOBS) as reader:
        await counter.create(a_job(3, labels=[Label("team", "blue")]))
        messages = await reader.all(counter)
        assert {message.watch_id for message in messages} == {reader.id}
        revisions = [reader.first.revision, *(message.revision for message in messages)]
        assert revisions == sorted(set(revisions))
        versions = [message.stateless_jobs[0].status.revision.version for message in messages]
        assert versions == sorted(set(versions))
        got = await counter.jobs.get_job(GetJobRequest(JobId(JOB), summary_only=True))
        assert messages[-1].stateless_jobs == [got.summary]
        assert not pods_in(messages)


async def test_pods_are_told_as_listpods_tells_them_and_together(counter: Counter) -> None:
    async with watching(counter, pods=ALL_PODS) as reader:
        await counter.create(a_job(3))
        messages = await reader.all(counter)
        assert [len(message.pods) for message in messages] == [3] * len(messages)
        listed = [one async for one in counter.jobs.list_pods(ListPodsRequest(JobId(JOB)))]
        assert messages[-1].pods == listed[0].pods
        assert messages[-1].pods[0].status.state == PodState.RUNNING
        assert not jobs_in(messages)


async def test_both_filters_in_one_stream_and_what_changed_together_in_one_message(counter: Counter) -> None:
    async with watching(counter, ALL_JOBS, ALL_PODS) as reader:
        await counter.create(a_job(2))
        first, *_ = await reader.all(counter)
        assert [job.job_id.value for job in first.stateless_jobs] == [JOB]
        assert [pod.pod_name.value for pod in first.pods] == [f"{JOB}-0", f"{JOB}-1"]


async def test_what_is_removed_is_told_as_deleted_at_last(counter: Counter) -> None:
    await counter.create(a_job(2))
    async with watching(counter, ALL_JOBS, ALL_PODS) as reader:
        await delete(counter)
        messages = await reader.all(counter)
        assert messages[-1].stateless_jobs[-1].status.state == JobState.DELETED
        ends = {pod.pod_name.value: pod.status.state for message in messages for pod in message.pods}
        assert ends == {f"{JOB}-0": PodState.DELETED, f"{JOB}-1": PodState.DELETED}


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        (PodFilter(JobId(JOB)), {f"{JOB}-0", f"{JOB}-1"}),
        (PodFilter(JobId(JOB), [PodName(f"{JOB}-0")]), {f"{JOB}-0"}),
        (PodFilter(pod_names=[PodName(f"{JOB}-0"), PodName(f"{OTHER}-1")]), {f"{JOB}-0", f"{OTHER}-1"}),
        (PodFilter(JobId(JOB), [PodName(f"{JOB}-5")]), set()),
        (PodFilter(JobId(OTHER), [PodName(f"{JOB}-0")]), set()),
        (PodFilter(labels=[Label("k1", "v1")]), {f"{JOB}-0", f"{JOB}-1"}),
        (PodFilter(labels=[Label("k1", "v1"), Label("k2", "v2")]), {f"{JOB}-1"}),
        (PodFilter(JobId(OTHER), labels=[Label("k1", "v1")]), set()),
        (PodFilter(labels=[Label("k1", "v2")]), set()),
        (PodFilter(labels=[Label("team", "blue")]), set()),
        (ALL_PODS, {f"{JOB}-0", f"{JOB}-1", f"{OTHER}-0", f"{OTHER}-1"}),
    ],
)
async def test_a_pod_filter(counter: Counter, pods: PodFilter, told: set[str]) -> None:
    """Job and any of the names and all labels, these on the pod's spec and not on the job's."""
    both = a_pod()
    both.labels = [Label("k1", "v1"), Label("k2", "v2")]
    one = a_pod()
    one.labels = [Label("k1", "v1")]
    async with watching(counter, ALL_JOBS, pods) as reader:
        await counter.create(
            a_job(2, labels=[Label("team", "blue")], default_spec=one, instance_spec={1: both})
        )
        await counter.create(a_job(2), OTHER)
        assert pods_in(await reader.all(counter)) == told


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (StatelessJobFilter([JobId(JOB)]), {JOB}),
        (StatelessJobFilter([JobId(JOB), JobId(OTHER)]), {JOB, OTHER}),
        (StatelessJobFilter(labels=[Label("team", "blue")]), {JOB, OTHER}),
        (StatelessJobFilter(labels=[Label("team", "blue"), Label("tier", "1")]), {OTHER}),
        (StatelessJobFilter([JobId(JOB)], [Label("tier", "1")]), set()),
        (StatelessJobFilter(labels=[Label("k1", "v1")]), set()),
        (ALL_JOBS, {JOB, OTHER}),
    ],
)
async def test_a_job_filter(counter: Counter, jobs: StatelessJobFilter, told: set[str]) -> None:
    """Any of the ids and all labels, these on the job and not on its pods."""
    pod = a_pod()
    pod.labels = [Label("k1", "v1")]
    async with watching(counter, jobs, ALL_PODS) as reader:
        await counter.create(a_job(labels=[Label("team", "blue")], default_spec=pod))
        await counter.create(a_job(labels=[Label("tier", "1"), Label("team", "blue")]), OTHER)
        assert jobs_in(await reader.all(counter)) == told


async def test_what_a_filter_names_and_does_not_exist_is_named_in_the_first_message(counter: Counter) -> None:
    await counter.create(a_job(2))
    jobs = StatelessJobFilter([JobId(OTHER), JobId(JOB), JobId("no uuid")])
    pods = PodFilter(pod_names=[PodName(f"{JOB}-{n}") for n in (7, 1)] + [PodName(f"{OTHER}-0")])
    async with watching(counter, jobs, pods) as reader:
        assert [job.value for job in reader.first.stateless_jobs_not_found] == [OTHER, "no uuid"]
        assert [pod.value for pod in reader.first.pods_not_found] == [f"{JOB}-7", f"{OTHER}-0"]
        await counter.create(a_job(1), OTHER)
        messages = await reader.all(counter)
        assert jobs_in(messages) == {OTHER}
        assert pods_in(messages) == {f"{OTHER}-0"}
        assert not any(m.stateless_jobs_not_found or m.pods_not_found for m in messages)


async def test_the_job_of_a_pod_filter_that_does_not_exist_is_named_too(counter: Counter) -> None:
    async with watching(counter, pods=PodFilter(JobId(OTHER))) as reader:
        assert [job.value for job in reader.first.stateless_jobs_not_found] == [OTHER]


async def test_an_object_is_encoded_once_for_all_its_watchers(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    summary = wire_out.pod_summary

    def counted(view, now):
        made.append((view.instance, view.revision))
        return summary(view, now)

    monkeypatch.setattr(wire_out, "pod_summary", counted)
    async with watching(counter, pods=ALL_PODS) as one, watching(counter, pods=PodFilter(JobId(JOB))) as two:
        begin = one.first.revision
        await counter.create(a_job(3))
        messages = await one.all(counter)
        assert [m.pods for m in await two.all(counter)] == [m.pods for m in messages]
    async with watching(counter, pods=ALL_PODS, start=begin) as late:
        assert [m.pods for m in await late.all(counter)] == [m.pods for m in messages]
    assert len(made) == len(set(made)) == sum(len(m.pods) for m in messages)


async def test_more_than_a_message_has_room_for_comes_in_parts_that_can_be_resumed_from(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever got only some of the parts resumes before them."""
    monkeypatch.setattr(watch, "MESSAGE_BYTES", 2000)
    async with watching(counter, pods=ALL_PODS) as reader:
        await counter.create(a_job(10))
        messages = await reader.all(counter)
        assert all(1 <= len(message.pods) < 10 for message in messages)
        revisions = [reader.first.revision, *(message.revision for message in messages)]
        assert revisions == sorted(revisions)
        first = next(n for n, message in enumerate(messages) if message.revision > revisions[0])
        assert [message.revision for message in messages[:first]] == [revisions[0]] * first
        assert sum(len(message.pods) for message in messages[: first + 1]) == 10


# Revisions.


async def test_a_watch_that_resumes_is_told_what_it_would_have_been_told_live(counter: Counter) -> None:
    async with watching(counter, ALL_JOBS, PodFilter(JobId(JOB))) as reader:
        await counter.create(a_job(3))
        await counter.create(a_job(3), OTHER)
        await counter.report(f"{JOB}-1-1", TaskState.FAILED)
        await delete(counter)
        live = await reader.all(counter)
    for position in [reader.first.revision, *(message.revision for message in live)]:
        async with watching(counter, ALL_JOBS, PodFilter(JobId(JOB)), start=position) as again:
            assert again.first.revision == position
            expected = [message for message in live if message.revision > position]
            told = await again.all(counter) if expected else []
            for message in told:
                message.watch_id = reader.id
            assert told == expected


async def test_a_watch_that_resumes_goes_on_live(counter: Counter) -> None:
    begin = counter.loop.revision
    await counter.create(a_job())
    async with watching(counter, ALL_JOBS, start=begin) as reader:
        assert jobs_in(await reader.all(counter)) == {JOB}
        await counter.create(a_job(), OTHER)
        assert jobs_in(await reader.all(counter)) == {OTHER}


async def test_a_revision_of_the_future_is_refused(counter: Counter) -> None:
    ahead = counter.loop.revision + 1
    error = await refused(counter, ALL_JOBS, None, ahead)
    assert error.status is Status.INVALID_ARGUMENT
    assert f"start_revision {ahead} is newer than the server's revision {ahead - 1}" in error.message


async def test_a_revision_too_old_is_refused_with_the_oldest_that_is_not() -> None:
    async with serving(limits=msgspec.structs.replace(LIMITS, watch_history_max=16)) as counter:
        begin = counter.loop.revision
        for number in range(10):
            await counter.create(a_job(), f"aaaaaaaa-0000-4000-8000-0000000001{number:02}")
        error = await refused(counter, ALL_JOBS, None, begin)
        assert error.status is Status.OUT_OF_RANGE
        words = error.message.split()
        oldest = int(words[words.index("kept") + 2])
        assert begin < oldest < counter.loop.revision
        assert (await refused(counter, ALL_JOBS, None, oldest - 1)).status is Status.OUT_OF_RANGE
        async with watching(counter, ALL_JOBS, start=oldest) as reader:
            assert jobs_in(await reader.all(counter))


# Refusals and ends.


async def test_a_watch_of_nothing_is_refused(counter: Counter) -> None:
    error = await refused(counter)
    assert error.status is Status.INVALID_ARGUMENT
    assert "stateless_job_filter" in error.message and "pod_filter" in error.message


@pytest.mark.parametrize(
    ("jobs", "pods", "words"),
    [
        (None, PodFilter(pod_names=[PodName("abc-1")]), "'abc-1' is not a pod name"),
        (StatelessJobFilter([JobId("")]), None, "stateless_job_filter.job_ids is unset"),
    ],
)
async def test_a_name_that_is_none_is_refused(
    counter: Counter, jobs: StatelessJobFilter | None, pods: PodFilter | None, words: str
) -> None:
    error = await refused(counter, jobs, pods)
    assert error.status is Status.INVALID_ARGUMENT
    assert words in error.message


async def test_too_many_names_are_refused() -> None:
    async with serving(limits=msgspec.structs.replace(LIMITS, watch_names_max=3)) as counter:
        pods = PodFilter(JobId(JOB), [PodName(f"{JOB}-{n}") for n in range(2)], [Label("k", "v")])
        error = await refused(counter, None, pods)
        assert error.status is Status.RESOURCE_EXHAUSTED
        assert "4 ids, names and labels" in error.message and "watch_names_max" in error.message


async def test_a_watch_too_many_is_refused_until_a_client_goes_away() -> None:
    async with serving(limits=msgspec.structs.replace(LIMITS, watches_max=2)) as counter:
        async with watching(counter, ALL_JOBS), watching(counter, pods=ALL_PODS):
            error = await refused(counter, ALL_JOBS)
            assert error.status is Status.RESOURCE_EXHAUSTED
            assert "watches_max" in error.message
        for _ in range(3):
            await gone(counter)
            async with watching(counter, ALL_JOBS), watching(counter, ALL_JOBS):
                pass


@pytest.mark.parametrize(("jobs", "pods"), [(ALL_JOBS, None), (None, ALL_PODS), (ALL_JOBS, ALL_PODS)])
async def test_cancel_ends_a_watch_of_either_kind(
    counter: Counter, jobs: StatelessJobFilter | None, pods: PodFilter | None
) -> None:
    async with watching(counter, jobs, pods) as reader:
        await counter.watches.cancel(CancelRequest(reader.id))
        ended = await reader.ended()
        assert ended.status is Status.CANCELLED
        assert str(reader.id) in ended.message
        with pytest.raises(GRPCError) as again:
            await counter.watches.cancel(CancelRequest(reader.id))
        assert again.value.status is Status.NOT_FOUND


async def test_cancel_of_an_unknown_watch_is_refused(counter: Counter) -> None:
    with pytest.raises(GRPCError) as refused:
        await counter.watches.cancel(CancelRequest(7))
    assert refused.value.status is Status.NOT_FOUND
    assert "7" in refused.value.message


async def test_a_cancelled_watch_frees_its_place() -> None:
    limits = msgspec.structs.replace(LIMITS, watches_max=1)
    async with serving(limits=limits) as counter, watching(counter, ALL_JOBS) as reader:
        await counter.watches.cancel(CancelRequest(reader.id))
        async with watching(counter, ALL_JOBS):
            pass


async def overflow(counter: Counter) -> None:
    """Change 400 pods until whoever does not read is let go, which is after some megabytes."""
    await counter.create(a_job(400))
    number = 0
    while counter.loop.watches.count:
        number += 1
        # Not by a call: what a reader leaves unread fills the window of the whole connection.
        command = StopJob if number % 2 else StartJob
        await counter.loop.submit(command(JobText(JOB), f"1-{number}-1"))
        await counter.rest()


async def test_a_reader_that_does_not_read_overflows_and_can_resume() -> None:
    async with serving(limits=msgspec.structs.replace(LIMITS, watch_history_max=4000)) as counter:
        async with watching(counter, pods=ALL_PODS) as reader:
            await overflow(counter)
            ended = await reader.ended()
        assert ended.status is Status.ABORTED
        assert "overflow" in ended.message
        position = int(ended.message.split()[-1])
        assert reader.first.revision < position < counter.loop.revision
        async with watching(counter, pods=ALL_PODS, start=position) as again:
            told = await again.all(counter)
            latest = {pod.pod_name.value: pod for message in told for pod in message.pods}
            listing = counter.jobs.list_pods(ListPodsRequest(JobId(JOB)))
            listed = [pod async for page in listing for pod in page.pods]
            assert latest == {pod.pod_name.value: pod for pod in listed}


async def test_a_reader_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PARTING_S", 0.01)
    limits = msgspec.structs.replace(LIMITS, watch_history_max=4000)
    async with serving(limits=limits) as counter, watching(counter, pods=ALL_PODS) as reader:
        await overflow(counter)
        await asyncio.sleep(0.1)
        # Half a message is no message: clients fail in their own ways.
        with pytest.raises(Exception, match="less data than expected"):
            await reader.ended()
