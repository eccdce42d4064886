"""The part of JobService that is about workflows: replace, patch, restart, steer, and what has become of it.

One rule: as in `api.jobs`, of whose service these methods are, nothing is decided here. The reply of a
mutation has the version that its event gave the job; a repeat that caused none leaves the job at the version
that the request named. (API reference, stateless_svc.proto; behaviour, jobs §2.2-2.5, §2.11, §2.16, §2.17.)
"""

from functools import partial

from derny.answers import workflow_views
from derny.answers.workflow_views import WorkflowView
from derny.api import wire_in, wishes, workflow_in, workflow_out
from derny.api.codec import wire_bytes
from derny.api.reply import made
from derny.core import workflow_log
from derny.core.commands import AbortWorkflow, Command, PauseWorkflow, ResumeWorkflow
from derny.core.events import WorkflowStarted, WorkflowSteered
from derny.core.workflow_log import Moment
from derny.edge.off_loop import INLINE_MAX_BYTES, off_loop
from derny.model.ids import JobId, entity_version
from derny.model.periods import Limits
from derny.model.states import WorkflowType
from derny.proto.peloton.api.v1alpha.job.stateless import svc
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion
from derny.runtime.loop import Loop

COMPARED_AT_ONCE = 5_000
"""Pods that one slice of GetReplaceJobDiff compares: some milliseconds of work."""


class WorkflowMethods:
    """What JobService has of workflows."""

    _loop: Loop
    _limits: Limits

    async def replace_job(self, message: svc.ReplaceJobRequest) -> svc.ReplaceJobResponse:
        command = await wishes.replacement(self._limits, message)
        return svc.ReplaceJobResponse(await self._started(command, command.version))

    async def patch_job(self, message: svc.PatchJobRequest) -> svc.PatchJobResponse:
        job, version = workflow_in.uuid_of(message), wire_in.text_of(message.version)
        # No version comes twice: if the job is still at this one when it is replaced, this is what it had.
        base = await self._loop.read(partial(workflow_views.spec_bytes, job=job, version=version))
        size = len(base) + len(wire_bytes(message))
        command = await off_loop(size, workflow_in.patch, message, base, self._limits)
        return svc.PatchJobResponse(await self._started(command, version))

    async def restart_job(self, message: svc.RestartJobRequest) -> svc.RestartJobResponse:
        command = workflow_in.restart(message, self._limits)
        return svc.RestartJobResponse(await self._started(command, command.version))

    async def pause_job_workflow(self, message: svc.PauseJobWorkflowRequest) -> svc.PauseJobWorkflowResponse:
        return svc.PauseJobWorkflowResponse(await self._steered(PauseWorkflow, message))

    async def resume_job_workflow(
        self, message: svc.ResumeJobWorkflowRequest
    ) -> svc.ResumeJobWorkflowResponse:
        return svc.ResumeJobWorkflowResponse(await self._steered(ResumeWorkflow, message))

    async def abort_job_workflow(self, message: svc.AbortJobWorkflowRequest) -> svc.AbortJobWorkflowResponse:
        return svc.AbortJobWorkflowResponse(await self._steered(AbortWorkflow, message))

    async def _steered(
        self,
        command: type[PauseWorkflow | ResumeWorkflow | AbortWorkflow],
        message: svc.PauseJobWorkflowRequest | svc.ResumeJobWorkflowRequest | svc.AbortJobWorkflowRequest,
    ) -> EntityVersion:
        job, version = wire_in.existing_job(message.job_id), wire_in.text_of(message.version)
        opaque = workflow_in.opaque(message.opaque_data, self._limits)
        return await self._started(command(job, version, opaque), version)

    async def _started(self, command: Command, version: str) -> EntityVersion:
        for event in await self._loop.submit(command):
            assert isinstance(event, WorkflowStarted | WorkflowSteered)
            return EntityVersion(entity_version(*event.version))
        return EntityVersion(version)

    async def get_workflow_events(
        self, message: svc.GetWorkflowEventsRequest
    ) -> svc.GetWorkflowEventsResponse:
        job = workflow_in.uuid_of(message)
        (view,) = await self._loop.read(partial(workflow_views.workflows_of, job=job, limit=1))
        events = await off_loop(
            len(view.log), workflow_log.events_of, view.log, message.instance_id, message.limit
        )
        return _events(view.status.type, events)

    async def list_job_updates(self, message: svc.ListJobUpdatesRequest) -> svc.ListJobUpdatesResponse:
        views = await self._workflows(wire_in.existing_job(message.job_id), 0)
        return await made(sum(map(workflow_out.size_of, views)), _updates, views)

    async def list_job_workflows(self, message: svc.ListJobWorkflowsRequest) -> svc.ListJobWorkflowsResponse:
        views = await self._workflows(wire_in.existing_job(message.job_id), message.updates_limit)
        size = sum(map(workflow_out.size_of, views))
        if message.instance_events:
            # Of a hundred thousand instances that are alike the log says so in eight bytes.
            size += INLINE_MAX_BYTES
        return await made(size, _workflows, views, message)

    async def _workflows(self, job: JobId, limit: int) -> list[WorkflowView]:
        return await self._loop.read(partial(workflow_views.workflows_of, job=job, limit=limit))

    async def get_replace_job_diff(
        self, message: svc.GetReplaceJobDiffRequest
    ) -> svc.GetReplaceJobDiffResponse:
        job, version = workflow_in.uuid_of(message), wire_in.text_of(message.version)
        await self._loop.read(partial(workflow_views.spec_bytes, job=job, version=version))
        spec = await off_loop(len(wire_bytes(message)), workflow_in.new_job, message, self._limits)
        updated: list[int] = []
        compared, complete = 0, False
        while not complete:
            found = await self._loop.scan(
                partial(
                    workflow_views.diff,
                    job=job,
                    version=version,
                    spec=spec,
                    first=compared,
                    most=COMPARED_AT_ONCE,
                )
            )
            updated += found.updated
            compared, complete = found.end, found.complete
        return await made(
            compared * 8, workflow_out.difference, found.added, found.removed, updated, compared
        )


def _events(kind: WorkflowType, events: list[Moment]) -> svc.GetWorkflowEventsResponse:
    return svc.GetWorkflowEventsResponse(workflow_out.workflow_events(kind, events))


def _updates(views: list[WorkflowView]) -> svc.ListJobUpdatesResponse:
    return svc.ListJobUpdatesResponse(workflow_out.workflow_infos(views, False, 0))


def _workflows(
    views: list[WorkflowView], message: svc.ListJobWorkflowsRequest
) -> svc.ListJobWorkflowsResponse:
    return svc.ListJobWorkflowsResponse(
        workflow_out.workflow_infos(views, message.instance_events, message.instance_events_limit)
    )
