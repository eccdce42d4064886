"""Messages become commands and model values; all that clients get wrong is said here, and said well.

One rule: the first fault in the order of the contract is refused in one sentence that names the field, its
value and what would be accepted; and what this release can't do is refused, never dropped. Pure functions, no
awaits. What depends on the state (pools, versions, what exists) is refused by the deciders of `core`. Called
by the services of this room. (Behaviour, jobs §2.1, §9.3, §9.4; scheduler §1.1.)
"""

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import msgspec

from derny.api import pod_in, pod_spec
from derny.api.codec import field_bytes, wire_bytes
from derny.api.constraints import constraint_of
from derny.api.container_in import NAME_MAX, check_amount
from derny.api.digests import job_digest, pod_digest
from derny.core.commands import UpdatePool
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import JobId, PoolId, is_uuid
from derny.model.periods import Limits
from derny.model.resources import KINDS, whole_units
from derny.model.specs import JobSpec, PodTemplate, PoolResource, PoolSpec
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec as JobMessage
from derny.proto.peloton.api.v1alpha.job.stateless.svc import CreateJobRequest
from derny.proto.peloton.api.v1alpha.pod import PodSpec
from derny.proto.peloton.api.v1alpha.respool import (
    CreateResourcePoolRequest,
    ReservationType,
    ResourcePoolSpec,
    ResourceSpec,
    SchedulingPolicy,
    UpdateResourcePoolRequest,
)

POOL_AMOUNT_MAX = 1e12
"""Of one resource of one pool."""
SHARE_MIN = 1e-9
"""Of a share that is one: beside those that floats can just write, all others would be the same."""

_SPEC_FIELD = 2
"""Number of the field `spec` in CreateJobRequest, CreateResourcePoolRequest and UpdateResourcePoolRequest."""


class _Id(Protocol):
    value: str


def required_id(field: _Id | None, name: str) -> str:
    """What an id of the contract holds; Invalid when it is unset or empty."""
    if field is None or not field.value:
        raise Invalid(f"{name} is unset; expected an id")
    return field.value


def new_id(field: _Id | None, name: str) -> str | None:
    """The id that a client chose for what it creates, as it is spelled; None when it chose none."""
    if field is None or not field.value:
        return None
    if not is_uuid(field.value):
        raise Invalid(f"{name} {field.value!r} is not a UUID; expected one as RFC 4122 writes it, or none")
    return field.value


def existing_job(field: _Id | None) -> JobId:
    """The id of the job that a request is about; Invalid when it is unset."""
    return JobId(required_id(field, "job_id"))


def text_of(field: _Id | None) -> str:
    """What an id or a version of the contract holds; unset is empty."""
    return field.value if field is not None else ""


def pool_of(request: CreateJobRequest) -> PoolId:
    """The pool that a request wants its job in; Invalid when it names none."""
    if request.spec is None:
        raise Invalid("spec is unset; expected the job's configuration")
    return PoolId(required_id(request.spec.respool_id, "spec.respool_id"))


def created_job(request: CreateJobRequest, limits: Limits) -> JobSpec:
    """The job that a request asks for; Invalid, Unimplemented. The id is `new_id`'s business."""
    if request.spec is None:
        raise Invalid("spec is unset; expected the job's configuration")
    return job_spec(request.spec, field_bytes(wire_bytes(request), _SPEC_FIELD), limits)


def job_spec(message: JobMessage, wire: bytes, limits: Limits) -> JobSpec:
    """A job's configuration; `wire` is the message as the client sent it."""
    _check_name(message.name)
    _check_size(len(wire), limits.spec_bytes_max, "spec_bytes_max")
    pool = required_id(message.respool_id, "spec.respool_id")
    _check_job(message, limits)
    sla = message.sla
    revocable = sla is not None and sla.revocable
    preemptible = sla is not None and sla.preemptible
    numbers: dict[PodTemplate, int] = {}
    template_of: dict[int, int] = {}
    for instance, where, pod in _distinct_pods(message):
        pod_in.check_extent(f"instance {instance}: {where}", pod, limits)
        pod_in.check(f"instance {instance}: {where}", instance, pod, sla)
        constraint = constraint_of(pod.constraint, f"{where}.constraint", limits)
        template = pod_in.template(pod, revocable, preemptible, constraint)
        template = msgspec.structs.replace(template, digest=pod_digest(pod, revocable))
        if number := numbers.setdefault(template, len(numbers)):
            template_of[instance] = number
    return JobSpec(
        message.name,
        PoolId(pool),
        message.instance_count,
        wire,
        tuple(numbers),
        template_of,
        sla.priority if sla is not None else 0,
        revocable,
        sla.maximum_unavailable_instances if sla is not None else 0,
        pod_spec.labels_of(message.labels),
        job_digest(message, numbers, template_of),
    )


def _check_job(message: JobMessage, limits: Limits) -> None:
    default = message.default_spec
    if default is not None:
        pod_in.check_served("spec.default_spec", default)
    for instance in sorted(message.instance_spec):
        if instance < message.instance_count:
            pod_in.check_served(f"spec.instance_spec[{instance}]", message.instance_spec[instance])
    if message.sla is not None and message.sla.revocable and not message.sla.preemptible:
        raise Invalid("spec.sla.revocable is true and preemptible false; revocable pods must be preemptible")
    if default is not None:
        pod_in.check_ports("spec.default_spec", default)
        constraint_of(default.constraint, "spec.default_spec.constraint", limits)
    if message.instance_count > limits.pods_per_job_max:
        raise Invalid(
            f"spec.instance_count: {message.instance_count} pods requested, at most {limits.pods_per_job_max}"
            " supported in one job (limit pods_per_job_max)"
        )


def _distinct_pods(message: JobMessage) -> Iterator[tuple[int, str, PodSpec]]:
    """Of each pod that may differ from the others: its instance, the name of its spec, its effective spec.

    Pods of the default spec come first: they share the first template. Two of them stand for all, since only
    instance 0 is special; the others follow in ascending order.
    """
    default, overrides = message.default_spec, message.instance_spec
    plain = (instance for instance in range(message.instance_count) if instance not in overrides)
    for instance in islice(plain, 2):
        if default is None:
            raise Invalid(
                f"instance {instance}: missing configuration; expected spec.default_spec or"
                f" spec.instance_spec[{instance}]"
            )
        yield instance, "spec.default_spec", default
    for instance in sorted(overrides):
        if instance < message.instance_count:
            pod = pod_spec.effective(default, overrides[instance])
            assert pod is not None, "an override is a spec"
            yield instance, f"spec.instance_spec[{instance}]", pod


def _check_name(name: str) -> None:
    if not name:
        raise Invalid("spec.name is empty; expected a name")
    if len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(
            f"spec.name {name[:40]!r} has {len(name)} characters; expected printable ones, at most {NAME_MAX}"
        )


def _check_size(size: int, most: int, limit: str) -> None:
    if size > most:
        raise Exhausted(f"spec has {size} bytes, more than {most} (limit {limit})")


def configured_pool(
    request: CreateResourcePoolRequest | UpdateResourcePoolRequest, limits: Limits
) -> PoolSpec:
    """The configuration that a request asks for, with all kinds; Invalid. The id is the caller's business."""
    if request.spec is None:
        raise Invalid("spec is unset; expected the pool's configuration")
    return pool_spec(request.spec, field_bytes(wire_bytes(request), _SPEC_FIELD), limits)


def updated_pool(request: UpdateResourcePoolRequest, limits: Limits) -> UpdatePool:
    """What a request wants to change; a forced one is about no more than the kinds that it has."""
    pool, spec = required_id(request.respool_id, "respool_id"), configured_pool(request, limits)
    if request.force and request.spec is not None:
        sent = {resource.kind for resource in request.spec.resources}
        given = tuple(resource for resource in spec.resources if resource.kind in sent)
        spec = msgspec.structs.replace(spec, resources=given)
    return UpdatePool(PoolId(pool), spec, request.force)


def pool_spec(message: ResourcePoolSpec, wire: bytes, limits: Limits) -> PoolSpec:
    """A pool's configuration with all kinds; `wire` is the message as the client sent it."""
    _check_name(message.name)
    _check_size(len(wire), limits.pool_spec_bytes_max, "pool_spec_bytes_max")
    parent = required_id(message.parent, "spec.parent")
    if message.policy not in (SchedulingPolicy.INVALID, SchedulingPolicy.PRIORITY_FIFO):
        raise Invalid(
            f"spec.policy {int(message.policy)} is unknown; expected SCHEDULING_POLICY_PRIORITY_FIFO"
        )
    given: dict[str, PoolResource] = {}
    for resource in message.resources:
        if resource.kind in given:
            raise Invalid(f"spec.resources has the kind {resource.kind!r} more than once; expected each once")
        given[resource.kind] = _pool_resource(resource)
    return PoolSpec(
        message.name,
        PoolId(parent),
        wire,
        tuple(given.get(kind) or PoolResource(kind) for kind in KINDS),
        message.controller_limit.max_percent if message.controller_limit is not None else None,
        message.slack_limit.max_percent if message.slack_limit is not None else None,
    )


def _pool_resource(resource: ResourceSpec) -> PoolResource:
    if resource.kind not in KINDS:
        raise Invalid(
            f"spec.resources has the unknown kind {resource.kind!r}; expected one of {', '.join(KINDS)}"
        )
    where = f"spec.resources[{resource.kind}]"
    for name in ("reservation", "limit", "share"):
        check_amount(f"{where}.{name}", getattr(resource, name), POOL_AMOUNT_MAX)
    if 0 < resource.share < SHARE_MIN:
        raise Invalid(f"{where}.share is {resource.share:g}; expected 0, or {SHARE_MIN:g} and more")
    if resource.type not in tuple(ReservationType):
        raise Invalid(f"{where}.type {int(resource.type)} is unknown; expected a ReservationType")
    return PoolResource(
        resource.kind,
        whole_units(resource.reservation),
        whole_units(resource.limit),
        resource.share,
        resource.type == ReservationType.STATIC,
    )
