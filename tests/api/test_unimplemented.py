"""Every method of the contract answers: those of later releases with a plain sentence, never with OK."""

import inspect

import pytest
from grpclib.client import ServiceMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from derny.api.admin import AdminService
from derny.api.hosts import HostService
from derny.api.jobs import JobService
from derny.api.pods import PodService
from derny.api.pools import ResourcePoolService
from derny.api.volumes import VolumeService
from derny.api.watch import WatchService
from derny.model.errors import Unimplemented
from derny.model.periods import Limits

SERVICES = [
    JobService,
    PodService,
    ResourcePoolService,
    HostService,
    VolumeService,
    WatchService,
    AdminService,
]
SERVED = {
    "CreateJob",
    "GetJob",
    "ListJobs",
    "ListPods",
    "StartJob",
    "StopJob",
    "DeleteJob",
    "GetJobIDFromJobName",
    "ReplaceJob",
    "PatchJob",
    "RestartJob",
    "PauseJobWorkflow",
    "ResumeJobWorkflow",
    "AbortJobWorkflow",
    "GetWorkflowEvents",
    "ListJobUpdates",
    "ListJobWorkflows",
    "GetReplaceJobDiff",
    "StartPod",
    "StopPod",
    "RestartPod",
    "QueryJobs",
    "QueryPods",
    "GetPod",
    "BrowsePodSandbox",
    "RefreshPod",
    "GetPodCache",
    "DeletePodEvents",
    "RefreshJob",
    "GetJobCache",
    "StartMaintenance",
    "CompleteMaintenance",
    "ListHostPools",
    "CreateHostPool",
    "DeleteHostPool",
    "ChangeHostPool",
    "GetPodEvents",
    "CreateResourcePool",
    "UpdateResourcePool",
    "DeleteResourcePool",
    "GetResourcePool",
    "LookupResourcePoolID",
    "QueryResourcePools",
    "ListVolumes",
    "GetVolume",
    "DeleteVolume",
    "QueryHosts",
    "Lockdown",
    "RemoveLockdown",
    "Watch",
    "Cancel",
}


def methods(kind):
    return kind(None, Limits()).__mapping__().items()


def is_own(handler) -> bool:
    """Whether the service has the method itself, and not the bare refusal of its generated base."""
    name = handler.func.__name__.rpartition("__rpc_")[2]
    return not inspect.getmodule(getattr(type(handler.func.__self__), name)).__name__.startswith(
        "derny.proto"
    )


LATER = {
    path: handler
    for kind in SERVICES
    for path, handler in methods(kind)
    if path.rpartition("/")[2] not in SERVED
}


def test_what_is_served_is_what_this_release_promises():
    served = {p.rpartition("/")[2] for kind in SERVICES for p, h in methods(kind) if inspect.ismethod(h.func)}
    assert served == SERVED
    assert all(is_own(h) for kind in SERVICES for p, h in methods(kind) if inspect.ismethod(h.func))


@pytest.mark.asyncio
@pytest.mark.parametrize("path", LATER)
async def test_a_method_of_a_later_release_says_so(counter, path):
    handler = LATER[path]
    streams = handler.cardinality is Cardinality.UNARY_STREAM
    method: ServiceMethod = (UnaryStreamMethod if streams else UnaryUnaryMethod)(
        counter.channel, path, handler.request_type, handler.reply_type
    )
    with pytest.raises(GRPCError) as refused:
        await method(handler.request_type())
    service, name = path.removeprefix("/").split("/")
    assert refused.value.status is Status.UNIMPLEMENTED
    assert f"{service.rpartition('.')[2]}.{name} is not served yet" in refused.value.message
    assert "it comes with " in refused.value.message


def test_a_refusal_is_raised_before_the_request_is_read():
    handler = next(iter(LATER.values()))
    with pytest.raises(Unimplemented):
        handler.func(None).send(None)
