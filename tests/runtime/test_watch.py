"""Whoever watches sees what the journal says, whatever they want and whenever they come; how watches end."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import JOB, Daemon, Seen, a_daemon, a_job, a_pod_view, a_template, everything, job_id
from derny.answers.queries import Changes, JobView, PodView
from derny.core import commands
from derny.core.machine import Machine
from derny.journal import codec
from derny.journal.store import Journal
from derny.model.errors import Cancelled, Overrun, Refusal
from derny.model.periods import Limits, Periods
from derny.runtime.clock import ManualClock
from derny.runtime.commits import Commit
from derny.runtime.interest import JobFilter, PodFilter
from derny.runtime.watch import Watch, Watches

Key = object
View = JobView | PodView

RED, BLUE = ("color", "red"), ("color", "blue")


class Want(NamedTuple):
    """Two filters, and what they mean in other words."""

    jobs: JobFilter | None
    pods: PodFilter | None
    is_wanted: Callable[[View], bool]


def of_job(view: View, wanted: bool) -> bool:
    return isinstance(view, JobView) and wanted


WANTS = [
    Want(JobFilter(), PodFilter(), lambda view: True),
    Want(JobFilter(), None, lambda view: isinstance(view, JobView)),
    Want(
        JobFilter(frozenset({job_id(1), job_id(2)})),
        None,
        lambda view: isinstance(view, JobView) and view.id in (job_id(1), job_id(2)),
    ),
    Want(
        JobFilter(labels=(RED,)),
        PodFilter(job_id(1)),
        lambda view: RED in view.spec.labels if isinstance(view, JobView) else view.job == job_id(1),
    ),
    Want(
        None,
        PodFilter(pods=frozenset({(job_id(1), 0), (job_id(2), 1)})),
        lambda view: (
            isinstance(view, PodView) and (view.job, view.instance) in ((job_id(1), 0), (job_id(2), 1))
        ),
    ),
    Want(
        None,
        PodFilter(labels=(BLUE, RED)),
        lambda view: isinstance(view, PodView) and {RED, BLUE} <= set(view.template.labels),
    ),
    Want(
        None,
        PodFilter(job_id(2), labels=(RED,)),
        lambda view: isinstance(view, PodView) and view.job == job_id(2) and RED in view.template.labels,
    ),
]


def key_of(view: View) -> Key:
    return view.id if isinstance(view, JobView) else (view.job, view.instance)


def views(commit: Commit) -> dict[Key, View]:
    found = [change.view for change in commit.changes]
    assert len({key_of(view) for view in found}) == len(found), "each object once"
    return {key_of(view): view for view in found}


# The journal's word for it.


async def changes_in(journal: Journal) -> dict[int, dict[Key, tuple[View, bool]]]:
    """By revision: what looks different after a turn, and whether it is gone (then as it was before)."""
    machine, before = Machine(Periods(), Limits()), Seen({}, {})
    found: dict[int, dict[Key, tuple[View, bool]]] = {}
    async for chunk in journal.read():
        for revision, at, blob in chunk:
            machine.replay(at, codec.decode(blob))
            after = everything(machine.state)
            found[revision] = {**differences(before.jobs, after.jobs), **differences(before.pods, after.pods)}
            before = after
    return found


def differences(before: dict[Key, View], after: dict[Key, View]) -> dict[Key, tuple[View, bool]]:  # type: ignore[type-arg]  # of one kind at a time
    gone: dict[Key, tuple[View, bool]] = {
        key: (view, True) for key, view in before.items() if key not in after
    }
    return gone | {key: (view, False) for key, view in after.items() if before.get(key) != view}


def check_told(
    told: list[tuple[int, dict[Key, View]]],
    begun: int,
    want: Want,
    changes: dict[int, dict[Key, tuple[View, bool]]],
) -> None:
    """A reader has been told of exactly these changes that it wants, whole, once and in order."""
    expected = {
        revision: {key: change for key, change in changed.items() if want.is_wanted(change[0])}
        for revision, changed in changes.items()
        if revision > begun
    }
    assert [revision for revision, _ in told] == [revision for revision, wanted in expected.items() if wanted]
    for revision, seen in told:
        assert seen.keys() == expected[revision].keys()
        for key, (view, is_gone) in expected[revision].items():
            if is_gone:
                assert seen[key].state.name == "DELETED"
                assert seen[key].revision > view.revision
            else:
                assert seen[key] == view


# A daemon that is crashed at random, and its readers.


class Reader:
    """Somebody who watches, now and then loses the connection, and resumes."""

    def __init__(self, want: Want, begun: int) -> None:
        self.want = want
        self.begun = begun
        self.position = begun
        self.told: list[tuple[int, dict[Key, View]]] = []
        self._watch: Watch | None = None
        self._open = ExitStack()

    def connect(self, watches: Watches) -> None:
        if self._watch is None:
            self._watch = self._open.enter_context(
                watches.open(self.want.jobs, self.want.pods, self.position)
            )

    def leave(self) -> None:
        self._open.close()
        self._watch = None

    async def read(self, most: int) -> None:
        """At most so many messages of those that are there."""
        for _ in range(most if self._watch is not None else 0):
            assert self._watch is not None
            commit = await within(self._watch.next)
            if commit is None:
                return
            assert commit.revision > self.position
            self.position = commit.revision
            if commit.changes:
                self.told.append((commit.revision, views(commit)))


async def within(wait: Callable[[], Awaitable[Commit]]) -> Commit | None:
    """What a wait comes to, if it needs nobody else to come to an end."""
    waiting = asyncio.ensure_future(wait())
    for _ in range(100):
        await asyncio.sleep(0)
        if waiting.done():
            return waiting.result()
    waiting.cancel()
    await asyncio.wait([waiting])
    return None


class Story:
    """A daemon that keeps its journal in a directory, with all that happens to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lives = 0
        self.clock = ManualClock()
        self.readers: dict[int, Reader] = {}

    async def begin(self) -> None:
        await self._live(self._folder / "0")
        begun = asyncio.create_task(self.daemon.begin())
        await self.rest(2)
        await begun

    async def _live(self, directory: Path) -> None:
        journal = await Journal.open(directory)
        self.daemon: Daemon = a_daemon(journal, self.clock, hosts=2)
        await self.daemon.loop.recover()
        self._running = asyncio.create_task(self.daemon.loop.run())

    async def rest(self, seconds: float = 0.0) -> None:
        """Let time pass, and all that is due."""
        end = self.clock.now() + seconds
        while True:
            await asyncio.wait_for(self.clock.idle.wait(), 60)
            for _ in range(5):
                await asyncio.sleep(0)
            if self.clock.idle.is_set():
                due = self.clock.next
                if due is None or due > end:
                    break
                self.clock.advance(max(due, self.clock.now()))
        if end > self.clock.now():
            self.clock.advance(end)
            await self.rest()

    async def tell(self, command: commands.Command) -> None:
        with suppress(Refusal):
            await self.daemon.loop.submit(command)

    async def crash(self) -> None:
        """All that is left of this life is the directory as it is."""
        self._lives += 1
        image = self._folder / str(self._lives)
        shutil.copytree(self._folder / str(self._lives - 1), image)
        await self.end()
        await self._live(image)

    async def end(self) -> None:
        for reader in self.readers.values():
            reader.leave()
        self._running.cancel()
        await asyncio.wait([self._running])
        await self.daemon.journal.close()


Step = Callable[[Story], Awaitable[None]]
numbers, readers = st.integers(1, 3), st.integers(0, 4)


def create(number: int, count: int, colors: int, run: str) -> Step:
    labels = (((), ()), ((RED,), ()), ((), (RED,)), ((BLUE,), (BLUE, RED)))[colors]
    spec = msgspec.structs.replace(
        a_job(count, template=a_template(run=run, labels=labels[1])), labels=labels[0]
    )
    return lambda story: story.tell(commands.CreateJob(job_id(number), spec))


def change(number: int, kind: type[commands.StartJob | commands.StopJob | commands.DeleteJob]) -> Step:
    async def step(story: Story) -> None:
        job = story.daemon.state.jobs.get(job_id(number))
        if job is not None:
            version = f"{job.config}-{job.desired}-{job.workflow}"
            forced = kind is commands.DeleteJob
            await story.tell(kind(job.id, version, True) if forced else kind(job.id, version))  # type: ignore[call-arg]  # DeleteJob alone

    return step


def watch(number: int, want: Want) -> Step:
    async def step(story: Story) -> None:
        reader = story.readers.setdefault(number, Reader(want, story.daemon.loop.revision))
        reader.connect(story.daemon.loop.watches)

    return step


def leave(number: int) -> Step:
    async def step(story: Story) -> None:
        if number in story.readers:
            story.readers[number].leave()

    return step


def read(number: int, most: int) -> Step:
    async def step(story: Story) -> None:
        if number in story.readers:
            await story.readers[number].read(most)

    return step


def let_pass(seconds: float) -> Step:
    return lambda story: story.rest(seconds)


steps = st.one_of(
    st.builds(
        create,
        numbers,
        st.integers(0, 4),
        st.integers(0, 3),
        st.sampled_from(["sleep 1000000", "sleep 3", "sleep 2; exit 1"]),
    ),
    st.builds(change, numbers, st.sampled_from([commands.StartJob, commands.StopJob, commands.DeleteJob])),
    st.builds(change, numbers, st.just(commands.DeleteJob)),
    st.builds(watch, readers, st.sampled_from(WANTS)),
    st.builds(watch, readers, st.sampled_from(WANTS)),
    st.builds(watch, readers, st.sampled_from(WANTS)),
    st.builds(leave, readers),
    st.builds(read, readers, st.integers(1, 9)),
    st.builds(let_pass, st.sampled_from([0.0, 0.1, 1.0, 4.0])),
    st.builds(let_pass, st.sampled_from([0.0, 0.1, 1.0, 4.0])),
    st.just(Story.crash),
)


async def play(story: Story, happenings: list[Step]) -> None:
    await story.begin()
    for happening in happenings:
        await happening(story)
    await story.rest(5)
    for reader in story.readers.values():
        reader.connect(story.daemon.loop.watches)
        await reader.read(1_000_000)
    changes = await changes_in(story.daemon.journal)
    await story.end()
    for reader in story.readers.values():
        check_told(reader.told, reader.begun, reader.want, changes)


@given(st.lists(steps, min_size=10, max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_reader_sees_the_journals_changes_once_and_in_order(happenings: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Story(Path(folder)), happenings))


# Readers that lag, and those that nothing concerns.


def a_hub(history: int = 1000, lag: int = 1000) -> Watches:
    return Watches(Limits(watch_history_max=history, watch_lag_max=lag))


async def publish(hub: Watches, revision: int, *instances: int) -> None:
    await hub.publish(revision, 0.0, Changes([], [a_pod_view(n, revision) for n in instances]))


def told(commit: Commit | None) -> tuple[int, list[tuple[int, int]]]:
    assert commit is not None
    return commit.revision, [(change.view.instance, change.view.revision) for change in commit.pods]


@pytest.mark.asyncio
async def test_a_reader_is_told_one_by_one_until_it_lags_and_then_the_latest_only() -> None:
    hub = a_hub(lag=4)
    with hub.open(None, PodFilter(), 0) as reader:
        for revision in (1, 2, 3, 4):
            await publish(hub, revision, revision % 2)
        assert [told(await within(reader.next)) for _ in range(4)] == [
            (1, [(1, 1)]),
            (2, [(0, 2)]),
            (3, [(1, 3)]),
            (4, [(0, 4)]),
        ]
        for revision in (5, 6, 7, 8, 9):
            await publish(hub, revision, revision % 2)
        assert told(await within(reader.next)) == (9, [(0, 8), (1, 9)])
        assert await within(reader.next) is None


@pytest.mark.asyncio
async def test_a_commit_larger_than_the_lag_is_told_whole() -> None:
    hub = a_hub(lag=2)
    with hub.open(None, PodFilter(), 0) as reader:
        await publish(hub, 1, 0, 1, 2, 3)
        assert told(await within(reader.next)) == (1, [(0, 1), (1, 1), (2, 1), (3, 1)])


@pytest.mark.asyncio
async def test_a_reader_half_the_history_behind_is_let_go_and_can_resume() -> None:
    hub = a_hub(history=16)
    with hub.open(None, PodFilter(), 0) as reader:
        await publish(hub, 1, 0)
        await within(reader.next)
        for revision in range(2, 9):
            await publish(hub, revision, 0)
        assert hub.count == 1
        for revision in range(9, 13):
            await publish(hub, revision, 0)
        assert hub.count == 0
        with pytest.raises(Overrun, match=r"overflowed.*start_revision 1$"):
            await within(reader.next)
    with hub.open(None, PodFilter(), 1) as again:
        assert [told(await within(again.next))[0] for _ in range(11)] == list(range(2, 13))


@pytest.mark.asyncio
async def test_a_reader_that_falls_out_of_the_history_while_it_resumes_is_let_go() -> None:
    hub = a_hub(history=16)
    for revision in range(1, 9):
        await publish(hub, revision, 0)
    with hub.open(None, PodFilter(), 1) as reader:
        await within(reader.next)
        for revision in range(9, 40):
            await publish(hub, revision, 0)
        with pytest.raises(Overrun, match="what followed revision 2 is gone"):
            await within(reader.next)


@pytest.mark.asyncio
async def test_a_reader_that_nothing_concerns_is_told_how_far_so_that_it_can_resume() -> None:
    hub = a_hub(history=16)
    with hub.open(None, PodFilter(job_id(2)), 0) as reader:
        told_of = 0
        for revision in range(1, 100):
            await publish(hub, revision, 0)
            commit = await within(reader.next)
            if commit is not None:
                assert not commit.changes
                told_of = commit.revision
            assert told_of > revision - 16
            with hub.open(None, PodFilter(), told_of):
                pass


@pytest.mark.asyncio
async def test_whoever_comes_while_a_commit_is_told_sees_it_once_or_not_at_all() -> None:
    """Large commits are told with pauses, in which others begin from now, or catch up with the history."""
    hub = a_hub(history=100_000)
    await publish(hub, 1, 0)
    wanted = PodFilter(JOB)
    with hub.open(None, wanted, 0) as live:
        view = a_pod_view()
        many = [msgspec.structs.replace(view, instance=n) for n in range(6_000)]
        publishing = asyncio.create_task(hub.publish(2, 0.0, Changes([], many)))
        await asyncio.sleep(0)
        assert not publishing.done()
        with hub.open(None, wanted, 0) as now, hub.open(None, wanted, 1) as late:
            caught_up = await within(late.next)
            await publishing
            assert caught_up is not None and caught_up.size == 6_000
            assert (await live.next()).size == 6_000
            assert await within(now.next) is None
            assert await within(late.next) is None
            await publish(hub, 3, 0)
            assert [told(await within(reader.next)) for reader in (live, now, late)] == [(3, [(0, 3)])] * 3


@pytest.mark.asyncio
async def test_those_who_come_back_all_at_once_look_back_in_turns() -> None:
    """However many they are, one slice of the history is looked at in each round of the event loop."""
    hub = a_hub(history=100_000)
    view = a_pod_view()
    for revision in range(1, 12):
        many = [msgspec.structs.replace(view, instance=n) for n in range(1_000)]
        await hub.publish(revision, 0.0, Changes([], many))
    with ExitStack() as stack:
        # Of one pod that there is not: they have to look at all of it.
        wanted = PodFilter(pods=frozenset({(JOB, 1_000)}))
        watches = [stack.enter_context(hub.open(None, wanted, 1)) for _ in range(20)]
        reading = [asyncio.create_task(watch.next()) for watch in watches]
        lives = []
        while len(lives) < 20:
            before = sum(watch.scanned for watch in watches)
            await asyncio.sleep(0)
            assert sum(watch.scanned for watch in watches) - before <= 2
            lives = [watch for watch in watches if watch.live_since is not None]
        assert [told(await one) for one in reading] == [(11, [])] * 20
        await publish(hub, 12, 1_000)
        assert [told(await watch.next()) for watch in watches] == [(12, [(1_000, 12)])] * 20


@pytest.mark.asyncio
async def test_a_reader_that_resumes_is_told_with_what_it_is_up_to_date() -> None:
    hub = a_hub()
    for revision in range(1, 5):
        await publish(hub, revision, revision % 2)
    of_odd, of_even = (PodFilter(pods=frozenset({(JOB, instance)})) for instance in (1, 0))
    with (
        hub.open(None, of_odd, 1) as odd,
        hub.open(None, of_even, 1) as even,
        hub.open(None, of_odd, 4) as now,
    ):
        assert [told(await within(odd.next)) for _ in range(2)] == [(3, [(1, 3)]), (4, [])]
        # By what concerned it, where that is the last of all; or it began there.
        assert [told(await within(even.next)) for _ in range(2)] == [(2, [(0, 2)]), (4, [(0, 4)])]
        assert [await within(reader.next) for reader in (odd, even, now)] == [None] * 3
        await publish(hub, 5, 0, 1)
        assert [told(await within(reader.next))[0] for reader in (odd, even, now)] == [5, 5, 5]


@pytest.mark.asyncio
async def test_ids_of_watches_are_never_used_twice_and_mean_nothing_to_another_daemon() -> None:
    ids = []
    for hub in (a_hub(), a_hub()):
        for _ in range(100):
            with hub.open(JobFilter(), None, 0) as reader:
                ids.append(reader.id)
    assert len(set(ids)) == 200
    assert all(0 < number < 2**64 for number in ids)


@pytest.mark.asyncio
async def test_a_cancelled_reader_is_told_so_even_if_more_waits_for_it() -> None:
    hub = a_hub()
    with hub.open(None, PodFilter(), 0) as reader:
        await publish(hub, 1, 0)
        hub.cancel(reader.id)
        with pytest.raises(Cancelled, match=str(reader.id)):
            await within(reader.next)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_lagging_reader_never_goes_back_and_ends_up_to_date(data: st.DataObject) -> None:
    asyncio.run(lag(data))


class Laggard:
    """A reader of all pods that does as it is told when it has overflowed."""

    def __init__(self, hub: Watches) -> None:
        self._hub = hub
        self.truth: dict[int, int] = {}
        """What there is to be seen: the latest revision of each pod."""
        self.seen: dict[int, int] = {}
        self._begin(0)

    def _begin(self, start: int) -> None:
        self._open = self._hub.open(None, PodFilter(), start)
        self._watch = self._open.__enter__()
        self.position = self._watch.position

    def leave(self) -> None:
        self._open.__exit__(None, None, None)

    async def read(self) -> bool:
        """One message, if there is one."""
        try:
            commit = await within(self._watch.next)
        except Overrun as overrun:
            self.leave()
            resumable = not str(overrun).endswith("look at everything anew")
            assert not resumable or str(overrun).endswith(f"start_revision {self.position}")
            self._begin(self.position if resumable else 0)
            # Whoever begins anew has looked at everything first.
            self.seen = self.seen if resumable else dict(self.truth)
            return True
        if commit is not None:
            assert commit.revision > self.position
            self.position = commit.revision
            for change in commit.pods:
                assert change.view.revision > self.seen.get(change.view.instance, 0)
                self.seen[change.view.instance] = change.view.revision
        return commit is not None


async def lag(data: st.DataObject) -> None:
    hub = a_hub(history=data.draw(st.integers(8, 60)), lag=data.draw(st.integers(1, 12)))
    await publish(hub, 1)
    laggard = Laggard(hub)
    steps = data.draw(st.lists(st.one_of(st.none(), st.sets(st.integers(0, 4), min_size=1)), max_size=50))
    for revision, instances in enumerate(steps, 2):
        if instances is None:
            await laggard.read()
            await publish(hub, revision)
        else:
            await publish(hub, revision, *instances)
            laggard.truth |= dict.fromkeys(instances, revision)
    while await laggard.read():
        pass
    assert laggard.seen == laggard.truth
    laggard.leave()
