"""What a watch is interested in, and who is interested in a change.

One rule: a change meets only the watches that look for something that it has: its job, its name, a label. A
thousand watches of a pod each cost a change no more than one. Filters are made by the counter. (API
reference, watch.proto; behaviour, jobs §4.2.)
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from derny.answers.queries import JobView, PodView
from derny.model.ids import JobId
from derny.model.specs import Labels
from derny.runtime.commits import Change, View

LOOKS_PER_SLICE: Final = 2_000
"""Changes compared with filters between two chances for others: about a millisecond."""

Seen = TypeVar("Seen", bound=JobView | PodView, contravariant=True)
Reader = TypeVar("Reader", bound=Hashable)


class Filter(Protocol[Seen]):
    """Some objects of one kind."""

    @property
    def keys(self) -> Collection[Hashable]:
        """Each object that matches has one of these, as `keys_of_job` or `keys_of_pod` says; none if all
        match."""
        ...

    def matches(self, view: Seen) -> bool: ...


class JobFilter(msgspec.Struct, frozen=True):
    """Any of these jobs, with all of these labels; without either, any job."""

    ids: frozenset[JobId] = frozenset()
    labels: Labels = ()

    @property
    def keys(self) -> Collection[Hashable]:
        return self.ids or self.labels[:1]

    @property
    def of_jobs(self) -> Collection[JobId]:
        """The only jobs that can be concerned; none: any."""
        return self.ids

    def matches(self, view: JobView) -> bool:
        return (not self.ids or view.id in self.ids) and _has_all(view.spec.labels, self.labels)


class PodFilter(msgspec.Struct, frozen=True):
    """Any of these pods, of this job, with all of these labels on their spec; without any, any pod."""

    job: JobId | None = None
    pods: frozenset[tuple[JobId, int]] = frozenset()
    labels: Labels = ()

    @property
    def keys(self) -> Collection[Hashable]:
        return self.pods or ((self.job,) if self.job is not None else self.labels[:1])

    @property
    def of_jobs(self) -> Collection[JobId]:
        """The only jobs whose pods can be concerned; none: any."""
        return (self.job,) if self.job is not None else frozenset(job for job, _ in self.pods)

    def matches(self, view: PodView) -> bool:
        return (
            (self.job is None or view.job == self.job)
            and (not self.pods or (view.job, view.instance) in self.pods)
            and _has_all(view.template.labels, self.labels)
        )


def _has_all(labels: Labels, wanted: Labels) -> bool:
    return all(label in labels for label in wanted)


def keys_of_job(view: JobView) -> Iterable[Hashable]:
    """By what a job is looked for: its id, and each of its labels."""
    return dict.fromkeys((view.id, *view.spec.labels))


def keys_of_pod(view: PodView) -> Iterable[Hashable]:
    """By what a pod is looked for: its job, its name, and each of its labels."""
    return dict.fromkeys((view.job, (view.job, view.instance), *view.template.labels))


class Index(Generic[View, Reader]):
    """Readers by what their filters of one kind look for."""

    def __init__(self, keys_of: Callable[[View], Iterable[Hashable]]) -> None:
        self._keys_of: Callable[[View], Iterable[Hashable]] = keys_of
        self._of_all: dict[Reader, None] = {}
        self._of_key: dict[Hashable, dict[Reader, Filter[View]]] = {}

    def add(self, reader: Reader, wanted: Filter[View]) -> None:
        if not wanted.keys:
            self._of_all[reader] = None
        for key in wanted.keys:
            self._of_key.setdefault(key, {})[reader] = wanted

    def remove(self, reader: Reader, wanted: Filter[View]) -> None:
        self._of_all.pop(reader, None)
        for key in wanted.keys:
            of_key = self._of_key.get(key, {})
            of_key.pop(reader, None)
            if not of_key:
                self._of_key.pop(key, None)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is interested in anything."""
        return not self._of_all and not self._of_key

    async def select(self, changes: list[Change[View]]) -> dict[Reader, list[Change[View]]]:
        """What of these changes concerns whom. Pauses now and then, and readers may come and go
        meanwhile."""
        if not changes or self.is_empty:
            return {}
        found = dict.fromkeys(self._of_all, changes)
        looks = 0
        for change in changes if self._of_key else ():
            candidates = self.candidates(change.view)
            for reader, wanted in candidates:
                if wanted.matches(change.view):
                    found.setdefault(reader, []).append(change)
            looks += 1 + len(candidates)
            if looks >= LOOKS_PER_SLICE:
                looks = 0
                await asyncio.sleep(0)
        return found

    def candidates(self, view: View) -> list[tuple[Reader, Filter[View]]]:
        """Those with a condition that the object may fulfil, each once: a filter's keys are of one kind, and
        one object has one key of each, but for labels, of which a filter has one."""
        of_key = self._of_key
        return [pair for key in self._keys_of(view) if key in of_key for pair in of_key[key].items()]
