"""VolumeService: registered, and not served yet by this release.

One rule: every method of the contract answers, if only with a plain sentence. Registered by `app`. (API
reference, volume_svc.proto.)
"""

from derny.api.contract import Methods, without
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha.volume import svc
from derny.runtime.loop import Loop

_LATER = dict.fromkeys(("ListVolumes", "GetVolume", "DeleteVolume"), "persistent volumes")


class VolumeService(svc.VolumeServiceBase):
    """Persistent volumes."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop

    def __mapping__(self) -> Methods:
        return without(super().__mapping__(), _LATER)
