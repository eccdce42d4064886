"""Read-only answers about workflows, as views; a room of `answers.queries` of its own.

One rule: as there, a view is made of values. The status is small and goes with every summary of a job; the
instances and the log of a workflow are copied as the packed bytes they are, to be read off the loop. (API
reference: WorkflowStatus, WorkflowInfo; behaviour, jobs §8.11.)
"""

from itertools import islice

import msgspec

from derny.core import jobs, workflows
from derny.core.instances import Range, ranges, span
from derny.core.state import State
from derny.core.workflow_plan import changed_instances
from derny.model.ids import JobId, entity_version
from derny.model.records import Job, Workflow
from derny.model.specs import JobSpec, WorkflowSpec
from derny.model.states import WorkflowState, WorkflowType

CURRENT_MAX = 100
"""Instances in progress that the status in a summary names: a creation all at once has as many as the job."""


class WorkflowStatusView(msgspec.Struct, frozen=True):
    """How far a workflow is. Times are 0.0 where the thing has not happened."""

    type: WorkflowType
    state: WorkflowState
    prev_state: WorkflowState
    done: int
    remaining: int
    failed: int
    current: tuple[int, ...]
    """Ascending; of many, some."""
    version: str
    prev_version: str
    created_at: float
    updated_at: float
    completed_at: float


class WorkflowView(msgspec.Struct, frozen=True):
    """A workflow, what was asked of it, and what happened. Ranges have both their ends."""

    status: WorkflowStatusView
    spec: WorkflowSpec
    opaque: str
    added: list[Range]
    updated: list[Range]
    removed: list[Range]
    restarted: list[Range]
    log: bytes
    """To be read by `core.workflow_log`."""


class DiffView(msgspec.Struct, frozen=True):
    """What a configuration would do to a slice of a job's instances; instances ascend."""

    added: Range | None
    removed: Range | None
    updated: list[int]
    end: int
    """The first instance that has not been looked at."""
    complete: bool


def status_of(job: Job, most: int = CURRENT_MAX) -> WorkflowStatusView:
    """How far the latest workflow of a job is; at most so many of the instances in progress."""
    return _status(job.workflows[-1], most)


def workflows_of(state: State, job: JobId, limit: int = 0) -> list[WorkflowView]:
    """The workflows of a job, newest first, at most `limit`, 0 for all that are kept; NotFound."""
    found = state.job(job).workflows[::-1]
    return [_view(workflow) for workflow in found[: limit or None]]


def spec_bytes(state: State, job: JobId, version: str) -> bytes:
    """The bytes of a job's configuration as its client sent it; NotFound, WrongVersion."""
    return jobs.at_version(state, job, version).spec.wire


def diff(state: State, job: JobId, version: str, spec: JobSpec, first: int, most: int) -> DiffView:
    """What `spec` would do to the instances from `first` on, at most so many of those that exist.

    NotFound; WrongVersion before Invalid: what is fixed differs. Asked slice by slice, a change in between is
    refused as another version.
    """
    found = jobs.at_version(state, job, version)
    workflows.check_fixed(state, found, spec)
    # A diff is asked for without secrets, as is a replace that leaves them as they are.
    spec = msgspec.structs.replace(spec, secrets=found.spec.secrets)
    exist, count = len(found.pods), spec.instance_count
    last = min(exist, count)
    end = min(first + most, last)
    return DiffView(
        (exist, count - 1) if exist < count else None,
        (count, exist - 1) if count < exist else None,
        changed_instances(found, spec, first, end),
        end,
        end >= last,
    )


def _status(workflow: Workflow, most: int) -> WorkflowStatusView:
    return WorkflowStatusView(
        workflow.type,
        workflow.state,
        workflow.prev_state,
        workflow.done,
        max(workflow.total - workflow.done - workflow.failed, 0),
        workflow.failed,
        tuple(sorted(islice(workflow.current, most))),
        entity_version(*workflow.version),
        entity_version(*workflow.prev_version),
        workflow.created_at,
        workflow.updated_at,
        workflow.completed_at,
    )


def _view(workflow: Workflow) -> WorkflowView:
    restart = workflow.type is WorkflowType.RESTART
    return WorkflowView(
        _status(workflow, len(workflow.current)),
        workflow.spec,
        workflow.opaque,
        ranges(span(*workflow.added)),
        [] if restart else ranges(workflow.updated),
        ranges(span(*workflow.removed)),
        [(first, end - 1) for first, end in workflow.asked],
        bytes(workflow.log),
    )
