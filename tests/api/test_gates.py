"""Gates at the counter: which method belongs to which, and what a closed one answers."""

import asyncio

import pytest
from grpclib.client import ServiceMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from derny.api.codec import GrpcCodec
from derny.api.gates import Guarded, gate_of
from derny.api.hosts import HostService
from derny.api.jobs import JobService
from derny.api.pods import PodService
from derny.api.pools import ResourcePoolService
from derny.api.volumes import VolumeService
from derny.api.watch import WatchService
from derny.model.periods import Limits
from derny.model.states import Gate
from derny.proto.peloton.api.v1alpha.admin.svc import Component, LockdownRequest, RemoveLockdownRequest
from derny.proto.peloton.api.v1alpha.host.svc import QueryHostsRequest
from derny.proto.peloton.api.v1alpha.job.stateless.svc import ListPodsRequest, ListPodsResponse

SERVICES = [JobService, PodService, ResourcePoolService, HostService, VolumeService, WatchService]
METHODS = {path: h for kind in SERVICES for path, h in kind(None, Limits()).__mapping__().items()}


async def call(counter, path):
    handler = METHODS[path]
    streams = handler.cardinality.server_streaming
    method: ServiceMethod = (UnaryStreamMethod if streams else UnaryUnaryMethod)(
        counter.channel, path, handler.request_type, handler.reply_type
    )
    return await method(handler.request_type())


def test_what_only_looks_is_reading_and_all_else_writing():
    reading = {path.rpartition("/")[2] for path in METHODS if gate_of(path) is Gate.READ}
    writing = {path.rpartition("/")[2] for path in METHODS} - reading
    assert writing == {
        *("CreateJob", "ReplaceJob", "PatchJob", "RestartJob", "StartJob", "StopJob", "DeleteJob"),
        *("PauseJobWorkflow", "ResumeJobWorkflow", "AbortJobWorkflow", "RefreshJob"),
        *("StartPod", "StopPod", "RestartPod", "RefreshPod", "DeletePodEvents"),
        *("CreateResourcePool", "UpdateResourcePool", "DeleteResourcePool"),
        *("StartMaintenance", "CompleteMaintenance"),
        *("CreateHostPool", "DeleteHostPool", "ChangeHostPool"),
        "DeleteVolume",
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("path", METHODS)
async def test_a_closed_gate_is_told_before_the_request_is_looked_at(counter, path):
    gate = gate_of(path)
    await counter.admin.lockdown(LockdownRequest([Component(gate)]))
    with pytest.raises(GRPCError) as refused:
        await call(counter, path)
    assert refused.value.status is Status.UNAVAILABLE
    assert f"gate {'Read' if gate is Gate.READ else 'Write'} is closed" in refused.value.message


@pytest.mark.asyncio
async def test_the_other_gates_stop_no_call(counter, job_message):
    others = [Component.GoalStateEngine, Component.Kill, Component.Launch, Component.Write]
    await counter.admin.lockdown(LockdownRequest(others))
    assert len((await counter.hosts.query_hosts(QueryHostsRequest())).host_infos) == 4
    await counter.admin.remove_lockdown(RemoveLockdownRequest([Component.Write]))
    await counter.admin.lockdown(LockdownRequest([Component.Read]))
    await counter.create(job_message())


class TwoMessages:
    """A service with one stream, whose second message waits until it is wanted."""

    PATH = "/test.Service/WatchTwo"

    def __init__(self):
        self.wanted = asyncio.Event()

    async def watch_two(self, stream):
        await stream.recv_message()
        await stream.send_message(ListPodsResponse())
        await self.wanted.wait()
        await stream.send_message(ListPodsResponse())

    def __mapping__(self):
        return {
            self.PATH: Handler(self.watch_two, Cardinality.UNARY_STREAM, ListPodsRequest, ListPodsResponse)
        }


@pytest.mark.asyncio
@pytest.mark.parametrize("closed", [False, True])
async def test_a_stream_that_has_begun_ends_when_reading_is_closed(counter, served, closed):
    service = TwoMessages()
    async with ChannelFor([served(Guarded(service, counter.loop))], codec=GrpcCodec()) as channel:
        method = UnaryStreamMethod(channel, TwoMessages.PATH, ListPodsRequest, ListPodsResponse)
        async with method.open() as stream:
            await stream.send_message(ListPodsRequest(), end=True)
            assert await stream.recv_message() is not None
            if closed:
                await counter.admin.lockdown(LockdownRequest([Component.Read]))
            service.wanted.set()
            if not closed:
                assert await stream.recv_message() is not None
                return
            with pytest.raises(GRPCError) as refused:
                await stream.recv_message()
                await stream.recv_trailing_metadata()
            assert refused.value.status is Status.UNAVAILABLE
