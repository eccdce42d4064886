"""HostService: the hosts of the cluster.

One rule: as in `api.jobs`, nothing is decided here. A host whose agent is lost is told as UNKNOWN, but
only to those who ask for all hosts. Registered by `app`. (API reference, host_svc.proto; behaviour,
scheduler §7.2.)
"""

from derny.api import wire_out
from derny.api.contract import Methods, without
from derny.core import queries
from derny.model.periods import Limits
from derny.model.states import HostState
from derny.proto.peloton.api.v1alpha.host import svc
from derny.runtime.loop import Loop

_MATCHING = frozenset({HostState.UP, HostState.DRAINING, HostState.DRAINED, HostState.DOWN})
"""States that can be asked for; INVALID and UNKNOWN match nothing."""

_LATER = {
    **dict.fromkeys(("StartMaintenance", "CompleteMaintenance"), "maintenance of hosts"),
    **dict.fromkeys(("ListHostPools", "CreateHostPool", "DeleteHostPool", "ChangeHostPool"), "host pools"),
}


class HostService(svc.HostServiceBase):
    """The hosts of the daemon."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop

    def __mapping__(self) -> Methods:
        return without(super().__mapping__(), _LATER)

    async def query_hosts(self, message: svc.QueryHostsRequest) -> svc.QueryHostsResponse:
        views = await self._loop.read(queries.all_hosts)
        asked = {int(state) for state in message.host_states}
        wanted = _MATCHING & asked if asked else frozenset(HostState)
        return svc.QueryHostsResponse([wire_out.host_info(view) for view in views if view.state in wanted])
