"""What has changed lately: the latest commits, as views, for watches to begin from.

One rule: a bounded number of changes is kept, whole commits of them, and the same turns leave the same
history behind, whether they were lived or replayed. So a watch resumes across restarts and sees what it would
have seen live. Encodings are the counter's: here they are bytes kept beside a view, so that an object is
encoded once for all its watchers. Filled by `runtime.watch`.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator
from operator import attrgetter
from typing import Final, Generic, TypeVar

import msgspec

from derny.answers.queries import Changes, JobView, PodView
from derny.model.ids import JobId
from derny.model.states import JobState, PodState

View = TypeVar("View", JobView, PodView)

TRIMS: Final = 8
"""How many parts the history is forgotten in: one at a time, so that it costs next to nothing."""


class Change(msgspec.Struct, Generic[View], eq=False, gc=False):
    """A job or a pod in the state that it changed to, and when."""

    view: View
    at: float
    encoded: bytes = b""
    """The counter's, once somebody has needed it."""


AnyChange = Change[JobView] | Change[PodView]


class Commit(msgspec.Struct, eq=False, frozen=True):
    """What one durable turn has changed, or what of it a watch is to be told."""

    revision: int
    jobs: list[Change[JobView]]
    pods: list[Change[PodView]]
    total: int = 0
    """All changes since the journal began, up to these; in the history alone."""
    concerns: frozenset[JobId] = frozenset()
    """The jobs that they are of; in the history alone."""

    @property
    def changes(self) -> list[AnyChange]:
        """All of them, jobs first, as in a response."""
        return [*self.jobs, *self.pods]

    @property
    def size(self) -> int:
        """How many."""
        return len(self.jobs) + len(self.pods)


_revision_of = attrgetter("revision")
_total_of = attrgetter("total")


class History:
    """The latest commits that changed anything."""

    def __init__(self, changes_max: int) -> None:
        self.revision = 0
        """The latest turn of all."""
        self.forgotten = 0
        """The last revision whose changes are gone; what follows it is here."""
        self._changes_max = changes_max
        self._commits: list[Commit] = []
        self._total = 0
        self._trimmed_at = 0

    def add(self, revision: int, at: float, changes: Changes) -> Commit:
        """Keep what the latest turn has changed."""
        jobs = [Change(view, at) for view in changes.jobs]
        pods = [Change(view, at) for view in changes.pods]
        self.revision = revision
        self._total += len(jobs) + len(pods)
        concerns = frozenset({*(view.id for view in changes.jobs), *(view.job for view in changes.pods)})
        commit = Commit(revision, jobs, pods, self._total, concerns)
        if commit.size:
            self._commits.append(commit)
        return commit

    def after(self, revision: int) -> Iterator[Commit]:
        """The kept commits that follow a revision, in order; to be read in one go."""
        for index in range(bisect_right(self._commits, revision, key=_revision_of), len(self._commits)):
            yield self._commits[index]

    @property
    def middle(self) -> int:
        """The last revision of the older half: what is known up to it only had better be brought up to
        date."""
        older = self._before(self._total - self._changes_max // 2)
        return self._commits[older - 1].revision if older else self.forgotten

    def trim(self) -> bool:
        """Forget what is too much, once there is enough of it; returns whether there was.

        Encodings are forgotten after half the time: by then they have been sent, and few resume from there.
        """
        if self._total - self._trimmed_at < max(self._changes_max // TRIMS, 1):
            return False
        aged = self._before(self._trimmed_at - self._changes_max // 2)
        for commit in self._commits[aged : self._before(self._total - self._changes_max // 2)]:
            for change in commit.changes:
                change.encoded = b""
        old = self._before(self._total - self._changes_max)
        if old:
            self.forgotten = self._commits[old - 1].revision
            del self._commits[:old]
        self._trimmed_at = self._total
        return True

    def _before(self, total: int) -> int:
        """How many of the kept commits there were when so many changes had happened."""
        return bisect_right(self._commits, total, key=_total_of)


def merged(commits: Iterable[Commit]) -> Commit:
    """Several commits in one: of each object the latest change, in the order of these."""
    revision = 0
    jobs: dict[Hashable, Change[JobView]] = {}
    pods: dict[Hashable, Change[PodView]] = {}
    for commit in commits:
        revision = commit.revision
        for job in commit.jobs:
            _put(jobs, job.view.id, job, job.view.state is JobState.DELETED)
        for pod in commit.pods:
            _put(pods, (pod.view.job, pod.view.instance), pod, pod.view.state is PodState.DELETED)
    return Commit(revision, list(jobs.values()), list(pods.values()))


def _put(latest: dict[Hashable, Change[View]], key: Hashable, change: Change[View], is_last: bool) -> None:
    latest.pop(key, None)
    # What comes under the same name after an end is another object, and does not take the end's place.
    latest[id(change) if is_last else key] = change
