"""What CreateJob or ReplaceJob would do now: where pods would go, which would wait, and why. Nothing is
changed.

One rule: the wish is decided by the very deciders, so it is refused as it would be, and played through by
the machine itself on a fork of the state (`answers.trial`). Everything goes in slices, each as long as a turn
of the loop; a job that changes while its pods are copied is copied anew. Called by `api.job_plans`.
"""

from copy import copy
from typing import Final, NamedTuple

from derny.answers.fork import fork
from derny.answers.job_explanation import Likeness, likeness
from derny.answers.pod_explanation import (
    HostSearch,
    PodExplanation,
    counts_labels,
    explain_pod,
    needs_host,
    not_begun,
    template_of,
)
from derny.answers.trial import Trial
from derny.core import jobs, workflows
from derny.core.commands import CreateJob, ReplaceJob
from derny.core.events import Event, WorkflowStarted
from derny.core.instances import Range, add
from derny.core.machine import Terms
from derny.core.state import State
from derny.core.workflow_plan import changed_instances
from derny.model.ids import HostName
from derny.model.records import Job, Pod
from derny.model.specs import JobSpec
from derny.model.states import POD_ON_HOST, PodState

PER_SLICE: Final = 5_000
"""Pods copied, compared or read at once: some milliseconds."""

TRIES_MAX: Final = 4


class Waiting(NamedTuple):
    """Alike pods that would wait; the first of them is explained, but for the look at hosts if there is one
    to be made."""

    instances: list[Range]
    first: PodExplanation
    search: HostSearch | None


class JobPlan:
    """A dry run, slice by slice: `prepare` until it is done, `play` until it is over, `read` to the end;
    then the rest means something. `let_go` until that is done, and `end` in any case."""

    def __init__(self, terms: Terms, command: CreateJob | ReplaceJob, at: float) -> None:
        self.job = command.job
        self.repeats = False
        """The same update is under way already; nothing would change."""
        self.added: Range | None = None
        """First and last instance, as in `removed`."""
        self.removed: Range | None = None
        self.updated: list[Range] = []
        self.unchanged: list[Range] = []
        self.hosts: dict[HostName, list[Range]] = {}
        """Where pods would go that are added or updated."""
        self.placed = 0
        self._waiting: dict[Likeness | None, list[Range]] = {}
        self._terms = terms
        self._command = command
        self._at = at
        self._mine: dict[Pod, Pod] = {}
        """A copy of each pod of the job."""
        self._revision = -1
        self._tries = 0
        self._trial: Trial | None = None
        self._looked = 0

    @property
    def complete(self) -> bool:
        """Whether all was played through that is not waiting."""
        return self._trial is None or not self._trial.was_cut

    @property
    def waiting(self) -> int:
        """How many pods would wait."""
        return sum(last - first + 1 for ranges in self._waiting.values() for first, last in ranges)

    @property
    def sorts_waiting(self) -> int:
        """How many sorts of pods would wait."""
        return len(self._waiting)

    def let_go(self) -> bool:
        """One slice of letting go of the pods, once all has been told; whether there is another one."""
        for _ in range(min(PER_SLICE, len(self._mine))):
            self._mine.popitem()
        return self._trial is not None and (self._trial.let_go(PER_SLICE) or bool(self._mine))

    def end(self) -> None:
        """Let go of whatever is left."""
        if self._trial is not None:
            self._trial.end()

    def prepare(self, state: State) -> bool:
        """One slice of getting ready; whether there is another one. Raises what the wish would be refused
        with."""
        decided = self._decided(state)
        command = self._command
        if counts_labels(state, command.spec.templates, PER_SLICE):
            return True
        if isinstance(command, CreateJob):
            self.added = _span(0, command.spec.instance_count)
            self._begin(state, decided, None)
            return False
        job = state.jobs[command.job]
        started = next((event for event in decided if isinstance(event, WorkflowStarted)), None)
        if self._copied(job, job.spec if started is None else started.spec or job.spec):
            return True
        self.repeats = started is None
        if started is not None:
            self._begin(state, decided, job)
        return False

    def play(self) -> bool:
        """One turn of the trial; whether there is another one."""
        return self._trial is not None and self._trial.turn()

    def read(self) -> bool:
        """One slice of what came of it; whether there is another one."""
        if self._trial is None:
            return False
        state = self._trial.state
        job = state.jobs[self.job]
        touched = [*([self.added] if self.added else []), *self.updated]
        first, end = self._looked, self._looked + PER_SLICE
        for low, last in touched:
            for instance in range(max(low, first), min(last + 1, end)):
                self._see(state, job, instance)
        self._looked = end
        return end < max((last + 1 for _low, last in touched), default=0)

    def waits(self, number: int) -> Waiting:
        """One sort of pods that would wait, by number."""
        assert self._trial is not None
        state, terms = self._trial.state, self._terms
        alike, ranges = list(self._waiting.items())[number]
        instance = ranges[0][0]
        if alike is None:
            found = not_begun(state, state.jobs[self.job], instance)
        else:
            found = explain_pod(state, self.job, instance, self._at, terms.periods, terms.rules)
        search = None
        if needs_host(found):
            search = HostSearch(state, template_of(state, self.job, instance), terms.rules)
        return Waiting(ranges, found, search)

    def _decided(self, state: State) -> list[Event]:
        command, limits = self._command, self._terms.limits
        if isinstance(command, CreateJob):
            return jobs.decide_create(state, command, self._at, limits)
        return [*workflows.decide_replace(state, command, self._at, limits)]

    def _copied(self, job: Job, spec: JobSpec) -> bool:
        """Copy and compare the next pods of the job; whether more are to come."""
        if self._revision != job.revision:
            self._revision, self._mine = job.revision, {}
            self.updated, self.unchanged = [], []
            self._tries += 1
        first = len(self._mine)
        # One that never stands still is copied in one go.
        end = first + PER_SLICE if self._tries < TRIES_MAX else len(job.pods)
        self._mine |= {pod: copy(pod) for pod in job.pods[first:end]}
        updated = dict.fromkeys(changed_instances(job, spec, first, end))
        for instance in range(first, min(len(self._mine), spec.instance_count)):
            add(self.updated if instance in updated else self.unchanged, instance)
        self.added = _span(len(job.pods), spec.instance_count)
        self.removed = _span(spec.instance_count, len(job.pods))
        return end < len(job.pods)

    def _begin(self, state: State, decided: list[Event], job: Job | None) -> None:
        forked = fork(state, self._command.spec.templates, job, self._mine)
        self._trial = Trial(self._terms, forked, self.job, self._at)
        self._trial.begin(decided)

    def _see(self, state: State, job: Job, instance: int) -> None:
        pod = job.pods[instance] if instance < len(job.pods) else None
        begun = pod is not None and pod.desired_config == job.config
        if pod is not None and begun and _is_placed(job, pod):
            assert pod.host is not None
            add(self.hosts.setdefault(pod.host, []), instance)
            self.placed += 1
        else:
            alike = likeness(state, job, instance) if begun else None
            add(self._waiting.setdefault(alike, []), instance)


def _span(first: int, end: int) -> Range | None:
    return (first, end - 1) if first < end else None


def _is_placed(job: Job, pod: Pod) -> bool:
    on_host = pod.state in POD_ON_HOST and pod.state is not PodState.KILLING
    return on_host and pod.config == job.config
