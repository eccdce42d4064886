"""Apply what spec files say to a daemon, and follow what becomes of it.

One rule: this is an ordinary client; it calls the same RPCs as everybody else. Called by the command line's
--apply.
"""

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

import anyio
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.client.specfile import Document, JobDocument, PoolDocument
from derny.client.yaml_tree import SpecError
from derny.proto.peloton.api.v1alpha.job.stateless import JobState
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    CreateJobRequest,
    GetJobIdFromJobNameRequest,
    GetJobRequest,
    JobServiceStub,
)
from derny.proto.peloton.api.v1alpha.peloton import JobId, ResourcePoolId
from derny.proto.peloton.api.v1alpha.respool import (
    CreateResourcePoolRequest,
    LookupResourcePoolIdRequest,
    ResourcePoolPath,
    ResourcePoolServiceStub,
)


class ApplyError(Exception):
    """The daemon refused a document; the message says which one, where it stands, and why."""

    def __init__(self, document: Document, refusal: GRPCError) -> None:
        super().__init__(
            f"{document.place}: {refusal.status.name}: {refusal.message or 'it does not say why'}"
        )
        self.status = refusal.status


class Applied(NamedTuple):
    """What became of one document. `made` is false where a thing of that name was there already."""

    kind: str
    name: str
    id: str
    made: bool


class Progress(NamedTuple):
    """How far a job has come: pods by state (the API's names, only those that occur), and how many it
    wants."""

    state: str
    pods: dict[str, int]
    wanted: int

    @property
    def is_running(self) -> bool:
        return self.pods.get("POD_STATE_RUNNING", 0) == self.wanted


def check_names(documents: Iterable[Document]) -> None:
    """SpecError if two documents make the same job or the same pool: the second would be passed over."""
    places: dict[tuple[str, str], str] = {}
    for document in documents:
        kind, name = named = _name(document)
        if named in places:
            raise SpecError(
                f"{document.place}: the {kind} {name} is at {places[named]} already; name it once"
            )
        places[named] = document.place


async def apply(channel: Channel, document: Document, default_pool: str) -> Applied:
    """Create what the document describes, unless a job or pool of that name exists; ApplyError if the daemon
    refuses."""
    try:
        if isinstance(document, PoolDocument):
            return await _apply_pool(ResourcePoolServiceStub(channel), document)
        return await _apply_job(channel, document, default_pool)
    except GRPCError as refusal:
        raise ApplyError(document, refusal) from refusal


async def follow(channel: Channel, job: str, every_s: float) -> AsyncIterator[Progress]:
    """The job's progress, again and again, for as long as there is such a job."""
    stub = JobServiceStub(channel)
    while True:
        try:
            answer = await stub.get_job(GetJobRequest(job_id=JobId(value=job), summary_only=True))
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                return
            raise
        status = answer.summary.status if answer.summary else None
        if answer.summary is not None and status is not None:
            pods = {name: count for name, count in status.pod_stats.items() if count}
            yield Progress(JobState(status.state).name or "", pods, answer.summary.instance_count)
        await anyio.sleep(every_s)


def _name(document: Document) -> tuple[str, str]:
    """What tells the thing a document makes from all others; a pool's name starts with its parent."""
    if isinstance(document, JobDocument):
        return "job", document.spec.name
    parent = document.spec.parent.value if document.spec.parent else document.parent
    return "pool", f"{parent.rstrip('/')}/{document.spec.name}"


async def _apply_pool(stub: ResourcePoolServiceStub, document: PoolDocument) -> Applied:
    spec = document.spec
    path = document.parent or "/"
    if spec.parent is None:
        spec.parent = await _pool_at(stub, path)
    known = await _found(stub, f"{path.rstrip('/')}/{spec.name}")
    if known is not None:
        return Applied("pool", spec.name, known.value, False)
    wanted = ResourcePoolId(value=document.id) if document.id else None
    answer = await stub.create_resource_pool(CreateResourcePoolRequest(respool_id=wanted, spec=spec))
    return Applied("pool", spec.name, answer.respool_id.value if answer.respool_id else "", True)


async def _apply_job(channel: Channel, document: JobDocument, default_pool: str) -> Applied:
    stub, spec = JobServiceStub(channel), document.spec
    if spec.respool_id is None:
        spec.respool_id = await _pool_at(ResourcePoolServiceStub(channel), document.pool or default_pool)
    try:
        named = await stub.get_job_id_from_job_name(GetJobIdFromJobNameRequest(job_name=spec.name))
        return Applied("job", spec.name, named.job_id[0].value, False)
    except GRPCError as error:
        if error.status is not Status.NOT_FOUND:
            raise
    wanted = JobId(value=document.id) if document.id else None
    request = CreateJobRequest(job_id=wanted, spec=spec, create_spec=document.create)
    answer = await stub.create_job(request)
    return Applied("job", spec.name, answer.job_id.value if answer.job_id else "", True)


async def _pool_at(stub: ResourcePoolServiceStub, path: str) -> ResourcePoolId | None:
    request = LookupResourcePoolIdRequest(path=ResourcePoolPath(value=path))
    return (await stub.lookup_resource_pool_id(request)).respool_id


async def _found(stub: ResourcePoolServiceStub, path: str) -> ResourcePoolId | None:
    try:
        return await _pool_at(stub, path)
    except GRPCError as error:
        if error.status is Status.NOT_FOUND:
            return None
        raise
