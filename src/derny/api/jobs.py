"""JobService: one method per RPC, each a request in, one wish or one look, a message out.

One rule: nothing is decided here. Requests become commands in `wire_in`, the machine decides, and the
reply of a mutation is made from the event that it caused. Streams look at the state slice by slice, so
that a job of a hundred thousand pods never holds the loop. Registered by `app`. (API reference,
stateless_svc.proto; behaviour, jobs §2.)
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final, cast

from derny.answers import queries, workflow_views
from derny.answers.workflow_views import WorkflowView
from derny.api import records, secrets, wire_in, wire_out, wishes, workflow_out
from derny.api.paging import instances_of
from derny.api.queries import query_jobs, query_pods
from derny.api.reply import made
from derny.api.workflows import WorkflowMethods
from derny.core.commands import Command, DeleteJob, RefreshPods, StartJob, StopJob
from derny.core.events import JobCreated, JobGoalSet, PodsRefreshed
from derny.core.state import State
from derny.model.ids import JobId, entity_version, parse_config_version
from derny.model.periods import Limits
from derny.model.specs import JobSpec
from derny.proto.peloton.api.v1alpha.job.stateless import JobInfo, svc
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion
from derny.proto.peloton.api.v1alpha.peloton import JobId as JobIdMessage
from derny.runtime.loop import Loop

PODS_PER_REFRESH: Final = 500
"""As many as a turn looks at."""

_FIRST_VERSION = entity_version(1, 1, 1)


class JobService(WorkflowMethods, svc.JobServiceBase):
    """The stateless jobs of the daemon."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits

    async def create_job(self, message: svc.CreateJobRequest) -> svc.CreateJobResponse:
        event, *_ = await self._loop.submit(await wishes.creation(self._loop, self._limits, message))
        assert isinstance(event, JobCreated)
        return svc.CreateJobResponse(JobIdMessage(event.job), EntityVersion(_FIRST_VERSION))

    async def start_job(self, message: svc.StartJobRequest) -> svc.StartJobResponse:
        job = wire_in.existing_job(message.job_id)
        version = await self._set_goal(StartJob(job, wire_in.text_of(message.version)))
        return svc.StartJobResponse(version)

    async def stop_job(self, message: svc.StopJobRequest) -> svc.StopJobResponse:
        job = wire_in.existing_job(message.job_id)
        version = await self._set_goal(StopJob(job, wire_in.text_of(message.version)))
        return svc.StopJobResponse(version)

    async def delete_job(self, message: svc.DeleteJobRequest) -> svc.DeleteJobResponse:
        job = wire_in.existing_job(message.job_id)
        await self._set_goal(DeleteJob(job, wire_in.text_of(message.version), message.force))
        return svc.DeleteJobResponse()

    async def _set_goal(self, command: Command) -> EntityVersion:
        (event,) = await self._loop.submit(command)
        assert isinstance(event, JobGoalSet)
        return EntityVersion(entity_version(*event.version))

    async def get_job(self, message: svc.GetJobRequest) -> svc.GetJobResponse:
        job = wire_in.existing_job(message.job_id)
        if message.version is not None and not message.summary_only:
            number = parse_config_version(message.version.value)
            spec, made_at = await self._loop.read(partial(queries.job_spec, job=job, version=number))
            return await made(len(spec.wire), _configuration, job, spec, number, made_at)
        if message.summary_only:
            view = await self._loop.read(partial(queries.job_info, job=job))
            return await made(len(view.spec.wire), _summary, view)
        view, workflow = await self._loop.read(partial(_with_workflow, job=job))
        size = len(view.spec.wire) + workflow_out.size_of(workflow)
        return await made(size, _whole, view, workflow)

    async def get_job_id_from_job_name(
        self, message: svc.GetJobIdFromJobNameRequest
    ) -> svc.GetJobIdFromJobNameResponse:
        found = await self._loop.read(partial(queries.job_ids_named, name=message.job_name))
        return svc.GetJobIdFromJobNameResponse([JobIdMessage(job) for job in found])

    async def refresh_job(self, message: svc.RefreshJobRequest) -> svc.RefreshJobResponse:
        job = wire_in.existing_job(message.job_id)
        first, ended = 0, False
        while not ended:
            (event,) = await self._loop.submit(RefreshPods(job, first, first + PODS_PER_REFRESH))
            assert isinstance(event, PodsRefreshed)
            first += PODS_PER_REFRESH
            ended = event.end < first
        return svc.RefreshJobResponse()

    async def get_job_cache(self, message: svc.GetJobCacheRequest) -> svc.GetJobCacheResponse:
        job = wire_in.existing_job(message.job_id)
        view = await self._loop.read(partial(queries.job_info, job=job))
        return await made(len(view.spec.wire), _cached, view)

    async def query_jobs(self, message: svc.QueryJobsRequest) -> svc.QueryJobsResponse:
        return await query_jobs(self._loop, self._limits, message)

    async def query_pods(self, message: svc.QueryPodsRequest) -> svc.QueryPodsResponse:
        return await query_pods(self._loop, self._limits, message)

    async def list_jobs(self, message: svc.ListJobsRequest) -> AsyncIterator[svc.ListJobsResponse]:
        async for encoded in records.all_jobs(self._loop):
            yield cast(svc.ListJobsResponse, encoded)

    async def list_pods(self, message: svc.ListPodsRequest) -> AsyncIterator[svc.ListPodsResponse]:
        job = wire_in.existing_job(message.job_id)
        first, end = instances_of(message.range)
        async for encoded in records.pods_of_job(self._loop, job, first, end):
            yield cast(svc.ListPodsResponse, encoded)


def _cached(view: queries.JobView) -> svc.GetJobCacheResponse:
    info = wire_out.job_info(view)
    return svc.GetJobCacheResponse(info.spec, info.status)


def _configuration(job: JobId, spec: JobSpec, number: int, made_at: float) -> svc.GetJobResponse:
    return svc.GetJobResponse(
        job_info=JobInfo(JobIdMessage(job), wire_out.job_spec(spec, number, made_at)),
        secrets=secrets.told(spec.secrets),
    )


def _summary(view: queries.JobView) -> svc.GetJobResponse:
    return svc.GetJobResponse(summary=wire_out.job_summary(view))


def _with_workflow(state: State, job: JobId) -> tuple[queries.JobView, WorkflowView]:
    return queries.job_info(state, job), workflow_views.workflows_of(state, job, 1)[0]


def _whole(view: queries.JobView, workflow: WorkflowView) -> svc.GetJobResponse:
    info, workflow_info = wire_out.job_info(view), workflow_out.workflow_info(workflow)
    assert info.status is not None
    # A summary names some of the instances in progress, this has all.
    info.status.workflow_status = workflow_info.status
    return svc.GetJobResponse(
        job_info=info, secrets=secrets.told(view.spec.secrets), workflow_info=workflow_info
    )
