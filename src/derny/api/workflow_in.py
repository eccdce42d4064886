"""Requests about workflows become commands: what clients want of an update, a restart or a creation.

One rule: as in `wire_in`, whose reading of a job's configuration serves them all; this module only says where
in each request it stands. Called by `api.jobs` and `api.workflows`. (Behaviour, jobs §2.2-2.5, §8.)
"""

from typing import Protocol

from derny.api import secrets, wire_in
from derny.api.codec import decode, encode, field_bytes, wire_bytes
from derny.api.patch import patched
from derny.core.commands import ReplaceJob, RestartJob
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import JobId, is_uuid
from derny.model.periods import Limits
from derny.model.specs import JobSpec, WorkflowSpec
from derny.proto.peloton.api.v1alpha.job.stateless import CreateSpec, UpdateSpec
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec as JobMessage
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    GetReplaceJobDiffRequest,
    PatchJobRequest,
    ReplaceJobRequest,
    RestartJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import JobId as JobIdMessage
from derny.proto.peloton.api.v1alpha.peloton import OpaqueData

_SPEC_FIELD = 3
"""Number of the field `spec` in all requests of this module that have one."""


class _Repeated(Protocol):
    job_id: JobIdMessage | None


def uuid_of(request: _Repeated) -> JobId:
    """The job that a request is about, where the contract wants its id to be well-formed; Invalid."""
    job = wire_in.existing_job(request.job_id)
    if not is_uuid(job):
        raise Invalid(f"job_id {job!r} is not a UUID; expected one as RFC 4122 writes it")
    return job


def creation(spec: CreateSpec | None) -> WorkflowSpec:
    """How CreateJob brings up the pods: all at once unless it says otherwise."""
    if spec is None:
        return WorkflowSpec()
    return WorkflowSpec(
        spec.batch_size,
        spec.max_instance_retries,
        spec.max_tolerable_instance_failures,
        start_paused=spec.start_paused,
    )


def update(spec: UpdateSpec | None) -> WorkflowSpec:
    """How ReplaceJob and PatchJob bring the pods to the new configuration."""
    if spec is None:
        return WorkflowSpec()
    return WorkflowSpec(
        spec.batch_size,
        spec.max_instance_retries,
        spec.max_tolerable_instance_failures,
        spec.rollback_on_failure,
        spec.start_paused,
        spec.in_place,
        spec.start_pods,
    )


def restart(request: RestartJobRequest, limits: Limits) -> RestartJob:
    """A restart. What the deprecated fields say counts where `restart_spec` says nothing. Exhausted: too many
    ranges."""
    spec = request.restart_spec
    batch_size = (spec.batch_size if spec is not None else 0) or request.batch_size
    ranges = (spec.ranges if spec is not None else []) or request.ranges
    if len(ranges) > limits.restart_ranges_max:
        raise Exhausted(
            f"ranges has {len(ranges)} entries; at most {limits.restart_ranges_max} are accepted (limit"
            " restart_ranges_max)"
        )
    return RestartJob(
        wire_in.existing_job(request.job_id),
        wire_in.text_of(request.version),
        WorkflowSpec(batch_size, in_place=spec is not None and spec.in_place),
        tuple((asked.from_, asked.to) for asked in ranges),
        opaque(request.opaque_data, limits) or "",
    )


def opaque(data: OpaqueData | None, limits: Limits) -> str | None:
    """What to hang on a workflow; None to keep what is there. Exhausted: too much."""
    if data is None:
        return None
    size = len(data.data.encode())
    if size > limits.opaque_bytes_max:
        raise Exhausted(
            f"opaque_data has {size} bytes; at most {limits.opaque_bytes_max} are accepted (limit"
            " opaque_bytes_max)"
        )
    return data.data


def replacement(request: ReplaceJobRequest, limits: Limits) -> ReplaceJob:
    """An update to a whole new configuration; Invalid, Exhausted, Unimplemented."""
    spec = new_job(request, limits)
    assert request.spec is not None, "new_job has refused a request without one"
    return _replacement(request, spec, request.spec, limits)


def patch(request: PatchJobRequest, base: bytes, limits: Limits) -> ReplaceJob:
    """An update to the configuration `base` with the given parts changed; as `replacement`."""
    if request.spec is None:
        raise Invalid("spec is unset; expected the parts of the job's configuration to change")
    message = patched(decode(JobMessage, base), request.spec)
    return _replacement(request, wire_in.job_spec(message, encode(message), limits), message, limits)


def new_job(request: ReplaceJobRequest | GetReplaceJobDiffRequest, limits: Limits) -> JobSpec:
    """The whole new configuration of a job; Invalid, Exhausted, Unimplemented."""
    if request.spec is None:
        raise Invalid("spec is unset; expected the job's whole configuration")
    return wire_in.job_spec(request.spec, field_bytes(wire_bytes(request), _SPEC_FIELD), limits)


def _replacement(
    request: ReplaceJobRequest | PatchJobRequest, spec: JobSpec, message: JobMessage, limits: Limits
) -> ReplaceJob:
    return ReplaceJob(
        wire_in.existing_job(request.job_id),
        wire_in.text_of(request.version),
        spec,
        update(request.update_spec),
        opaque(request.opaque_data, limits) or "",
        secrets.wanted(request.secrets, message, limits),
    )
