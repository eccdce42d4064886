"""HostService: the hosts of the cluster, their maintenance and their pools.

One rule: as in `api.jobs`, nothing is decided here. A host whose agent is lost is told as UNKNOWN, but
only to those who ask for all hosts; one in maintenance keeps that state, for it may well be silent.
Registered by `app`. (API reference, host_svc.proto; behaviour, scheduler §7.2.)
"""

import asyncio
from functools import partial
from typing import Final

from derny.answers import queries
from derny.answers.queries import HostView
from derny.api import wire_out
from derny.api.reply import made
from derny.core import commands
from derny.core.commands import CompleteMaintenance, StartMaintenance
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import HostName, HostPoolName
from derny.model.periods import Limits
from derny.model.states import HostState
from derny.proto.peloton.api.v1alpha.host import HostPoolInfo, svc
from derny.runtime.loop import Loop

HOSTS_PER_LOOK: Final = 1000
"""A millisecond or two of work between two awaits."""
HOST_BYTES: Final = 100
"""About what one host takes in an answer."""

_MATCHING = frozenset({HostState.UP, HostState.DRAINING, HostState.DRAINED, HostState.DOWN})
"""States that can be asked for; INVALID and UNKNOWN match nothing."""


class HostService(svc.HostServiceBase):
    """The hosts of the daemon."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits

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

    async def start_maintenance(self, message: svc.StartMaintenanceRequest) -> svc.StartMaintenanceResponse:
        await self._loop.submit(StartMaintenance(self._named(message)))
        return svc.StartMaintenanceResponse(message.hostname)

    async def complete_maintenance(
        self, message: svc.CompleteMaintenanceRequest
    ) -> svc.CompleteMaintenanceResponse:
        await self._loop.submit(CompleteMaintenance(self._named(message)))
        return svc.CompleteMaintenanceResponse(message.hostname)

    async def list_host_pools(self, message: svc.ListHostPoolsRequest) -> svc.ListHostPoolsResponse:
        pools = await self._loop.read(queries.host_pools)
        return await made(sum(len(names) + 1 for _, names in pools) * HOST_BYTES, _pools, pools)

    async def create_host_pool(self, message: svc.CreateHostPoolRequest) -> svc.CreateHostPoolResponse:
        await self._loop.submit(commands.CreateHostPool(HostPoolName(message.name)))
        return svc.CreateHostPoolResponse()

    async def delete_host_pool(self, message: svc.DeleteHostPoolRequest) -> svc.DeleteHostPoolResponse:
        await self._loop.submit(commands.DeleteHostPool(HostPoolName(message.name)))
        return svc.DeleteHostPoolResponse()

    async def change_host_pool(self, message: svc.ChangeHostPoolRequest) -> svc.ChangeHostPoolResponse:
        await self._loop.submit(
            commands.ChangeHostPool(
                HostName(message.hostname),
                HostPoolName(message.source_pool),
                HostPoolName(message.destination_pool),
            )
        )
        return svc.ChangeHostPoolResponse()

    def _named(self, message: svc.StartMaintenanceRequest | svc.CompleteMaintenanceRequest) -> list[HostName]:
        """The hosts of both fields: one of them is the reference's, the other the released one's."""
        names = [*message.hostnames, *([message.hostname] if message.hostname else [])]
        if not names:
            raise Invalid("hostname is empty and hostnames too; expected the name of a host")
        if len(names) > self._limits.hosts_per_call_max:
            raise Exhausted(
                f"hostnames has {len(names)} entries; expected at most {self._limits.hosts_per_call_max}"
                " (limit hosts_per_call_max), and another call for more"
            )
        return [HostName(name) for name in names]


def _pools(pools: list[tuple[HostPoolName, list[HostName]]]) -> svc.ListHostPoolsResponse:
    return svc.ListHostPoolsResponse([HostPoolInfo(name, list(hosts)) for name, hosts in pools])


def _hosts(views: list[HostView]) -> svc.QueryHostsResponse:
    return svc.QueryHostsResponse([wire_out.host_info(view) for view in views])
