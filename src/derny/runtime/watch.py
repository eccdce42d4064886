"""Watches: who is told what changes.

One rule: a watch is told of every commit after the revision at which it began, as far as it concerns it:
whole, once and in order, out of the history or as it happens. Only a reader that lags is told less: the
latest of each object. The loop publishes each turn once it is durable, and so nobody sees what a crash could
take back; replay fills the same history, so that watches resume across restarts. Opened by `api.watch`. (API
reference, watch_svc.proto; behaviour, jobs §4.)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from secrets import randbits
from typing import Final

from derny.answers.queries import Changes, JobView, PodView
from derny.model.errors import Cancelled, Exhausted, Invalid, NotFound, Overrun, Refusal, TooOld
from derny.model.ids import JobId
from derny.model.periods import Limits
from derny.runtime.commits import Commit, History, merged
from derny.runtime.interest import (
    LOOKS_PER_SLICE,
    Index,
    JobFilter,
    PodFilter,
    keys_of_job,
    keys_of_pod,
)

WAKES_PER_SLICE: Final = 50
"""Readers woken at once: each makes and sends a message then, for a tenth of a millisecond or so."""


class Watch:
    """One reader of what happens. Made by `Watches.open`."""

    def __init__(
        self, watches: "Watches", number: int, jobs: JobFilter | None, pods: PodFilter | None, begin: int
    ) -> None:
        self.id = number
        self.jobs = jobs
        self.pods = pods
        self.position = begin
        """The revision up to which the reader has had everything."""
        self.live_since: int | None = None
        """The revision after which the watch is told what happens; None while it reads the history."""
        self.scanned = begin
        """How far it has read the history."""
        self.when_ended: Callable[[], None] = lambda: None
        """Called when others end the watch: its reader may be stuck, and not come to ask."""
        of_jobs = [wanted.of_jobs for wanted in (jobs, pods) if wanted is not None]
        self.only: frozenset[JobId] | None = frozenset().union(*of_jobs) if all(of_jobs) else None
        """The only jobs that can concern it, if it is about some; what concerns none of them is skipped."""
        self._watches = watches
        self._given = begin
        self._pending: deque[Commit] = deque()
        self._pending_changes = 0
        self._awake = asyncio.Event()
        self._ended: Callable[[], Refusal] | None = None

    async def next(self) -> Commit:
        """What has changed next. One without objects says how far there is nothing to be told.

        To ask for more is to say that all before has reached the reader. Raises Cancelled; Overrun: too far
        behind.
        """
        self.position = self._given
        while self._ended is None:
            commit = await self._watches.missed_by(self) if self.live_since is None else self._take()
            if commit is not None:
                self._given = commit.revision
                return commit
            if self.live_since is not None and not self._pending:
                self._awake.clear()
                await self._awake.wait()
        raise self._ended()

    def selected(self, commit: Commit) -> Commit:
        """What of a commit concerns the watch."""
        jobs, pods = self.jobs, self.pods
        return Commit(
            commit.revision,
            [change for change in commit.jobs if jobs.matches(change.view)] if jobs is not None else [],
            [change for change in commit.pods if pods.matches(change.view)] if pods is not None else [],
        )

    def tell(self, commit: Commit) -> None:
        """Let it wait for the reader."""
        self._pending.append(commit)
        self._pending_changes += commit.size
        self._awake.set()

    @property
    def waits_since(self) -> int | None:
        """The revision of the first that waits for the reader, if anything does."""
        return self._pending[0].revision if self._pending else None

    def end(self, refusal: Callable[[], Refusal]) -> None:
        """Let nothing come any more but this refusal, which is made when it is raised."""
        self._ended = refusal
        self._pending.clear()
        self._awake.set()
        self.when_ended()

    def _take(self) -> Commit | None:
        if not self._pending:
            return None
        if self._pending_changes > self._watches.lag_max and len(self._pending) > 1:
            commit = merged(self._pending)
            self._pending.clear()
            self._pending_changes = 0
        else:
            commit = self._pending.popleft()
            self._pending_changes -= commit.size
        return commit


class Watches:
    """All watches of a daemon, and the history that they begin from."""

    def __init__(self, limits: Limits) -> None:
        self.lag_max = limits.watch_lag_max
        self._limits = limits
        self._history = History(limits.watch_history_max)
        self._open: dict[int, Watch] = {}
        self._of_jobs: Index[JobView, Watch] = Index(keys_of_job)
        self._of_pods: Index[PodView, Watch] = Index(keys_of_pod)
        # They begin anywhere, so that an id of an earlier daemon means nothing to this one.
        self._numbers = count(1 + randbits(62))
        self._looking_back = asyncio.Lock()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def open(self, jobs: JobFilter | None, pods: PodFilter | None, start: int) -> Iterator[Watch]:
        """A watch of all that follows revision `start`, for the length of the block; 0 is now.

        Raises Invalid: no filter, or a revision of the future; TooOld: one that is not kept; Exhausted:
        watches_max.
        """
        self._check(jobs, pods, start)
        watch = Watch(self, next(self._numbers), jobs, pods, start or self._history.revision)
        self._open[watch.id] = watch
        if watch.position == self._history.revision:
            self._go_live(watch)
        try:
            yield watch
        finally:
            self._close(watch)

    def cancel(self, number: int) -> None:
        """End a watch; NotFound."""
        watch = self._open.get(number)
        if watch is None:
            raise NotFound(f"watch_id {number} is not the id of an open watch")
        self._close(watch)
        watch.end(lambda: Cancelled(f"watch {number} was cancelled"))

    def remember(self, revision: int, at: float, changes: Changes) -> None:
        """A turn of the journal, before anybody watches."""
        self._history.add(revision, at, changes)
        self._history.trim()

    async def publish(self, revision: int, at: float, changes: Changes) -> None:
        """Tell a durable turn to those whom it concerns; others get their chance all the while."""
        commit = self._history.add(revision, at, changes)
        if self._open:
            jobs = await self._of_jobs.select(commit.jobs)
            pods = await self._of_pods.select(commit.pods)
            for number, watch in enumerate({**jobs, **pods}, 1):
                # In a pause it may have been closed, or have read this very commit in the history.
                if watch.id in self._open and watch.live_since is not None and watch.live_since < revision:
                    watch.tell(Commit(revision, jobs.get(watch, []), pods.get(watch, [])))
                if number % WAKES_PER_SLICE == 0:
                    await asyncio.sleep(0)
        if self._history.trim():
            await self._tend()

    async def missed_by(self, watch: Watch) -> Commit | None:
        """The next in the history that concerns the watch. None: not found yet, or there is none, and the
        watch is live now.

        After a restart all watches may come back at once: their looks take turns, one in each round of the
        event loop.
        """
        async with self._looking_back:
            await asyncio.sleep(0)
            return self._look_back(watch) if watch.id in self._open else None

    def _look_back(self, watch: Watch) -> Commit | None:
        if watch.scanned < self._history.forgotten:
            self._let_go(watch)
            return None
        looks = 0
        for commit in self._history.after(watch.scanned):
            watch.scanned = commit.revision
            concerned = watch.only is None or not watch.only.isdisjoint(commit.concerns)
            found = watch.selected(commit) if concerned else None
            if found is not None and found.size:
                return found
            looks += commit.size if concerned else 1
            if looks >= LOOKS_PER_SLICE:
                return None
        self._go_live(watch)
        # The last of the past may not have concerned it: it is told that it is up to date, and with what.
        return self._nothing_until_now() if watch.position < self._history.revision else None

    def _nothing_until_now(self) -> Commit:
        return Commit(self._history.revision, [], [])

    def _check(self, jobs: JobFilter | None, pods: PodFilter | None, start: int) -> None:
        if jobs is None and pods is None:
            raise Invalid("neither stateless_job_filter nor pod_filter is set; expected one or both")
        newest, oldest = self._history.revision, self._history.forgotten
        if start > newest:
            raise Invalid(
                f"start_revision {start} is newer than the server's revision {newest}; expected at most that,"
                " or 0 to begin now"
            )
        if 0 < start < oldest:
            raise TooOld(
                f"start_revision {start} is too old: the oldest that is kept is {oldest} (limit"
                " watch_history_max); look at everything anew and begin now, with 0"
            )
        if self.count >= self._limits.watches_max:
            raise Exhausted(f"there are {self.count} watches, the most allowed (limit watches_max)")

    def _go_live(self, watch: Watch) -> None:
        watch.live_since = self._history.revision
        if watch.jobs is not None:
            self._of_jobs.add(watch, watch.jobs)
        if watch.pods is not None:
            self._of_pods.add(watch, watch.pods)

    def _close(self, watch: Watch) -> None:
        self._open.pop(watch.id, None)
        if watch.jobs is not None:
            self._of_jobs.remove(watch, watch.jobs)
        if watch.pods is not None:
            self._of_pods.remove(watch, watch.pods)

    async def _tend(self) -> None:
        """See to the live watches that would soon be unable to resume: let go of readers that are far
        behind, and tell those that nothing has concerned for long how far that is so."""
        middle, woken = self._history.middle, 0
        for watch in list(self._open.values()):
            if watch.live_since is None or watch.id not in self._open:
                continue
            if watch.waits_since is not None and watch.waits_since <= middle:
                self._let_go(watch)
            elif watch.waits_since is None and watch.position < middle:
                watch.tell(self._nothing_until_now())
                woken += 1
                if woken % WAKES_PER_SLICE == 0:
                    await asyncio.sleep(0)

    def _let_go(self, watch: Watch) -> None:
        self._close(watch)
        watch.end(lambda: self._overrun(watch))

    def _overrun(self, watch: Watch) -> Overrun:
        oldest = self._history.forgotten
        if watch.position >= oldest:
            advice = f"watch again with start_revision {watch.position}"
        else:
            advice = f"what followed revision {watch.position} is gone, so look at everything anew"
        return Overrun(f"watch {watch.id} overflowed: its reader is too far behind; {advice}")
