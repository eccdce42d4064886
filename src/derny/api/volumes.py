"""VolumeService: the persistent volumes of pods.

One rule: as in `api.jobs`, nothing is decided here; the life of a volume is in `core.volumes`. The contract
calls the service legacy, and public servers left it out; ours works. Registered by `app`. (API reference,
volume_svc.proto.)
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from derny.answers import queries
from derny.answers.queries import VolumeView
from derny.api import wire_in, wire_out
from derny.api.reply import made
from derny.core.commands import DeleteVolume
from derny.model.ids import VolumeId
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha.volume import svc
from derny.runtime.loop import Loop

VOLUME_BYTES: Final = 300
"""About what one volume takes in an answer."""


def _listed(volumes: Sequence[VolumeView]) -> svc.ListVolumesResponse:
    return svc.ListVolumesResponse({volume.id: wire_out.volume_info(volume) for volume in volumes})


class VolumeService(svc.VolumeServiceBase):
    """Persistent volumes."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop

    async def list_volumes(self, message: svc.ListVolumesRequest) -> svc.ListVolumesResponse:
        job = wire_in.existing_job(message.job_id)
        volumes = await self._loop.read(partial(queries.job_volumes, job=job))
        return await made(len(volumes) * VOLUME_BYTES, _listed, volumes)

    async def get_volume(self, message: svc.GetVolumeRequest) -> svc.GetVolumeResponse:
        volume = VolumeId(wire_in.required_id(message.volume_id, "volume_id"))
        view = await self._loop.read(partial(queries.volume_info, volume=volume))
        return svc.GetVolumeResponse(wire_out.volume_info(view))

    async def delete_volume(self, message: svc.DeleteVolumeRequest) -> svc.DeleteVolumeResponse:
        await self._loop.submit(DeleteVolume(VolumeId(wire_in.required_id(message.volume_id, "volume_id"))))
        return svc.DeleteVolumeResponse()
