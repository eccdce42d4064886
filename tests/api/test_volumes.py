"""VolumeService as clients see it: a volume from its first pod to its deletion."""

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.model.states import TaskState
from derny.proto.peloton.api.v1alpha.job.stateless.svc import DeleteJobRequest, StopJobRequest
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, PodName, VolumeId
from derny.proto.peloton.api.v1alpha.pod import PersistentVolumeSpec, PodState
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest, StopPodRequest
from derny.proto.peloton.api.v1alpha.volume import VolumeState
from derny.proto.peloton.api.v1alpha.volume.svc import (
    DeleteVolumeRequest,
    GetVolumeRequest,
    ListVolumesRequest,
    VolumeServiceStub,
)

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
POD = PodName(f"{JOB}-0")


@pytest.fixture
def volumes(counter):
    return VolumeServiceStub(counter.channel)


async def create(counter, job_message, pod_message, count=1):
    pod = pod_message()
    pod.volume = PersistentVolumeSpec("/data", 100)
    await counter.create(job_message(count=count, default_spec=pod))


async def listed(volumes):
    return (await volumes.list_volumes(ListVolumesRequest(JobId(JOB)))).volumes


async def status(counter):
    return (await counter.pods.get_pod(GetPodRequest(POD))).current.status


async def test_a_pod_gets_a_volume_on_its_host_and_comes_back_to_it(
    counter, volumes, job_message, pod_message
):
    await create(counter, job_message, pod_message)
    first = await status(counter)
    (volume,) = (await listed(volumes)).values()
    assert (volume.volume_id, volume.hostname) == (first.volume_id, first.host)
    assert (volume.state, volume.desired_state) == (VolumeState.CREATED, VolumeState.CREATED)
    assert (volume.pod_name, volume.size_mb, volume.container_path) == (POD, 100, "/data")
    assert volume.create_time.endswith("Z")
    await counter.report(f"{JOB}-0-1", TaskState.FAILED)
    await counter.after(60)
    second = await status(counter)
    assert (second.pod_id.value, second.host, second.volume_id) == (
        f"{JOB}-0-2",
        first.host,
        first.volume_id,
    )


async def test_the_disk_of_a_volume_counts_in_the_usage_of_the_pool(
    counter, volumes, job_message, pod_message
):
    await create(counter, job_message, pod_message, count=2)
    pool = counter.machine.state.tree.root
    assert pool.allocation.disk == 2 * (100 + 10) * 1000


async def test_a_volume_is_deleted_once_nobody_uses_it(counter, volumes, job_message, pod_message):
    await create(counter, job_message, pod_message)
    (volume_id,) = await listed(volumes)
    request = DeleteVolumeRequest(VolumeId(volume_id))
    with pytest.raises(GRPCError, match="in use by pod") as refused:
        await volumes.delete_volume(request)
    assert refused.value.status is Status.FAILED_PRECONDITION
    await counter.pods.stop_pod(StopPodRequest(POD))
    await counter.after(1)
    assert (await status(counter)).state == PodState.KILLED
    await volumes.delete_volume(request)
    told = (await volumes.get_volume(GetVolumeRequest(VolumeId(volume_id)))).result
    assert (told.state, told.desired_state) == (VolumeState.DELETED, VolumeState.DELETED)
    await volumes.delete_volume(request)


async def test_volumes_go_with_their_job(counter, volumes, job_message, pod_message):
    await create(counter, job_message, pod_message)
    (volume_id,) = await listed(volumes)
    await counter.jobs.stop_job(StopJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    await counter.after(2)
    await counter.jobs.delete_job(DeleteJobRequest(JobId(JOB), EntityVersion("1-2-1")))
    await counter.after(2)
    with pytest.raises(GRPCError) as refused:
        await volumes.get_volume(GetVolumeRequest(VolumeId(volume_id)))
    assert refused.value.status is Status.NOT_FOUND


async def test_what_does_not_exist_is_not_found_and_what_is_unset_is_told(counter, volumes):
    for call, request, status_ in (
        (volumes.get_volume, GetVolumeRequest(VolumeId("no")), Status.NOT_FOUND),
        (volumes.delete_volume, DeleteVolumeRequest(VolumeId("no")), Status.NOT_FOUND),
        (volumes.list_volumes, ListVolumesRequest(JobId(JOB)), Status.NOT_FOUND),
        (volumes.get_volume, GetVolumeRequest(), Status.INVALID_ARGUMENT),
        (volumes.delete_volume, DeleteVolumeRequest(), Status.INVALID_ARGUMENT),
        (volumes.list_volumes, ListVolumesRequest(), Status.INVALID_ARGUMENT),
    ):
        with pytest.raises(GRPCError) as refused:
            await call(request)
        assert refused.value.status is status_
