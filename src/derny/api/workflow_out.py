"""Views of workflows become messages.

One rule: all ranges have inclusive ends, as clients of public servers expect them in answers; the protos say
so. Times are UTC, events have whole seconds. Called by `wire_out`, `api.jobs` and `api.workflows`.
(Behaviour, jobs §2.17, §8.10, §8.11.)
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from derny.answers.workflow_views import WorkflowStatusView, WorkflowView
from derny.api.times import rfc3339, whole_seconds
from derny.core import workflow_log
from derny.core.instances import Range, packed, ranges
from derny.core.workflow_log import Moment
from derny.model.errors import Exhausted
from derny.model.states import WorkflowType as Type
from derny.proto.peloton.api.v1alpha.job.stateless import (
    RestartSpec,
    UpdateSpec,
    WorkflowEvent,
    WorkflowInfo,
    WorkflowInfoInstanceWorkflowEvents,
    WorkflowState,
    WorkflowStatus,
    WorkflowType,
)
from derny.proto.peloton.api.v1alpha.job.stateless.svc import GetReplaceJobDiffResponse
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, OpaqueData
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange

INSTANCE_EVENTS_MAX = 100_000
"""In one answer: so many fit in the 4 MiB that clients accept."""


def size_of(view: WorkflowView) -> int:
    """About how much work a workflow is to be told of, in bytes; without the events of its instances."""
    return len(view.log) + 4 * len(view.status.current) + 8 * (len(view.updated) + len(view.restarted))


def workflow_status(view: WorkflowStatusView) -> WorkflowStatus:
    """How far a workflow is."""
    return WorkflowStatus(
        type=WorkflowType(view.type),
        state=WorkflowState(view.state),
        num_instances_completed=view.done,
        num_instances_remaining=view.remaining,
        num_instances_failed=view.failed,
        instances_current=list(view.current),
        version=EntityVersion(view.version),
        prev_version=EntityVersion(view.prev_version),
        creation_time=rfc3339(view.created_at),
        update_time=rfc3339(view.updated_at),
        prev_state=WorkflowState(view.prev_state),
        completion_time=rfc3339(view.completed_at),
    )


def workflow_info(view: WorkflowView) -> WorkflowInfo:
    """A workflow, what was asked of it, and its own events; those of its instances are another matter."""
    info = WorkflowInfo(
        status=workflow_status(view.status),
        opaque_data=OpaqueData(view.opaque) if view.opaque else None,
        events=workflow_events(view.status.type, workflow_log.own_events(view.log)),
    )
    asked = view.spec
    if view.status.type is Type.RESTART:
        info.restart_ranges = _ranges(view.restarted)
        info.restart_batch_size = asked.batch_size
        info.restart_spec = RestartSpec(asked.batch_size, _ranges(view.restarted), asked.in_place)
        return info
    info.update_spec = UpdateSpec(
        asked.batch_size,
        asked.rollback_on_failure,
        asked.max_instance_retries,
        asked.max_tolerable_instance_failures,
        asked.start_paused,
        asked.in_place,
        asked.start_pods,
    )
    info.instances_added = _ranges(view.added)
    info.instances_removed = _ranges(view.removed)
    info.instances_updated = _ranges(view.updated)
    return info


def workflow_infos(views: Sequence[WorkflowView], with_instances: bool, limit: int) -> list[WorkflowInfo]:
    """As `workflow_info`, with the events of the instances if asked for, at most `limit` of each, 0 for all.

    Exhausted: these are more than an answer has room for.
    """
    infos = [workflow_info(view) for view in views]
    room = INSTANCE_EVENTS_MAX
    for view, info in zip(views, infos, strict=True) if with_instances else ():
        found = list(workflow_log.events_by_range(view.log, limit))
        room -= sum((last - first + 1) * len(moments) for (first, last), moments in found)
        if room < 0:
            raise Exhausted(
                f"the workflows have more than {INSTANCE_EVENTS_MAX} events of instances, the most that an"
                " answer has room for; set updates_limit or instance_events_limit, or call GetWorkflowEvents"
            )
        info.instance_events = _instance_events(view, found)
    return infos


def workflow_events(kind: Type, moments: Iterable[Moment]) -> list[WorkflowEvent]:
    """What happened, in the order given."""
    return [
        WorkflowEvent(WorkflowType(kind), whole_seconds(at), WorkflowState(state)) for at, state in moments
    ]


def difference(
    added: Range | None, removed: Range | None, updated: list[int], last: int
) -> GetReplaceJobDiffResponse:
    """What a configuration would do. `last`: the number of instances that both configurations have."""
    changed = frozenset(updated)
    unchanged = [instance for instance in range(last) if instance not in changed]
    return GetReplaceJobDiffResponse(
        _ranges([added] if added else []),
        _ranges([removed] if removed else []),
        _ranges(ranges(packed(updated))),
        _ranges(ranges(packed(unchanged))),
    )


def _instance_events(
    view: WorkflowView, found: list[tuple[Range, list[Moment]]]
) -> list[WorkflowInfoInstanceWorkflowEvents]:
    events: dict[int, list[WorkflowEvent]] = {}
    for alike, moments in found:
        events.update(dict.fromkeys(_numbers([alike]), workflow_events(view.status.type, moments)))
    listed = _numbers(view.added, view.removed, view.updated, view.restarted)
    # Those that the way back has left alone are in no list any more.
    order = dict.fromkeys(instance for instance in chain(listed, events) if instance in events)
    return [WorkflowInfoInstanceWorkflowEvents(instance, events[instance]) for instance in order]


def _numbers(*lists: list[Range]) -> Iterator[int]:
    for first, last in chain.from_iterable(lists):
        yield from range(first, last + 1)


def _ranges(found: Iterable[Range]) -> list[InstanceIdRange]:
    return [InstanceIdRange(first, last) for first, last in found]
