"""HostService: the hosts of the cluster.

One rule: as in `api.jobs`, nothing is decided here. A host whose agent is lost is told as UNKNOWN, but
only to those who ask for all hosts. Registered by `app`. (API reference, host_svc.proto; behaviour,
scheduler §7.2.)
"""

import asyncio
from functools import partial
from typing import Final

from derny.api import wire_out
from derny.api.contract import Methods, without
from derny.api.reply import made
from derny.core import queries
from derny.core.queries import HostView
from derny.model.periods import Limits
from derny.model.states import HostState
from derny.proto.peloton.api.v1alpha.host import svc
from derny.runtime.loop import Loop

HOSTS_PER_LOOK: Final = 1000
"""A millisecond or two of work between two awaits."""
HOST_BYTES: Final = 100
"""About what one host takes in an answer."""

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
        asked = {int(state) for state in message.host_states}
        wanted = _MATCHING & asked if asked else frozenset(HostState)
        names = await self._loop.read(queries.host_names)
        views: list[HostView] = []
        for first in range(0, len(names), HOSTS_PER_LOOK):
            some = names[first : first + HOSTS_PER_LOOK]
            found = await self._loop.read(partial(queries.hosts_of, names=some))
            views += [view for view in found if view.state in wanted]
            await asyncio.sleep(0)
        return await made(len(views) * HOST_BYTES, _hosts, views)


def _hosts(views: list[HostView]) -> svc.QueryHostsResponse:
    return svc.QueryHostsResponse([wire_out.host_info(view) for view in views])
