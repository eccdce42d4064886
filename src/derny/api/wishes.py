"""What CreateJob and ReplaceJob ask for, as commands: for those who do it, and for whoever only plans it.

One rule: both are refused the same things in the same order. Large requests are read in the thread. Called by
`api.jobs`, `api.workflows` and `api.job_plans`. (Behaviour, jobs §2.1, §2.2.)
"""

import uuid
from functools import partial

from derny.answers import queries
from derny.api import secrets, wire_in, workflow_in
from derny.api.codec import wire_bytes
from derny.core.commands import CreateJob, ReplaceJob
from derny.edge.off_loop import off_loop
from derny.model.ids import JobId
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha.job.stateless import svc
from derny.runtime.loop import Loop


async def creation(loop: Loop, limits: Limits, message: svc.CreateJobRequest) -> CreateJob:
    """A new job; ALREADY_EXISTS before all else, then what is wrong with its pool, then with the rest."""
    chosen = wire_in.new_id(message.job_id, "job_id")
    job = JobId(chosen or str(uuid.uuid4()))
    # A repeat is told so whatever else is wrong with it: it has been created, and that is what was asked.
    await loop.read(partial(queries.check_is_new, job=job))
    await loop.read(partial(queries.check_takes_jobs, pool=wire_in.pool_of(message)))
    return await off_loop(len(wire_bytes(message)), _created, job, message, limits)


async def replacement(limits: Limits, message: svc.ReplaceJobRequest) -> ReplaceJob:
    """A job's next configuration."""
    workflow_in.uuid_of(message)
    return await off_loop(len(wire_bytes(message)), workflow_in.replacement, message, limits)


def _created(job: JobId, message: svc.CreateJobRequest, limits: Limits) -> CreateJob:
    spec = wire_in.created_job(message, limits)
    assert message.spec is not None, "created_job has refused a request without one"
    return CreateJob(
        job,
        spec,
        workflow_in.creation(message.create_spec),
        workflow_in.opaque(message.opaque_data, limits) or "",
        secrets.wanted(message.secrets, message.spec, limits),
    )
