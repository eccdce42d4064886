"""Host pools: decide and apply. Named groups of hosts; every host is in exactly one, at first in `default`.

Which pool a host is in is one of its labels, `host_pool`, and nothing else: pods that run are left alone
when it changes. Called by `core.machine`. (API reference, host_svc.proto; behaviour, scheduler §7.2.)
"""

from derny.core import hosts
from derny.core.commands import ChangeHostPool, CreateHostPool, DeleteHostPool
from derny.core.events import HostPoolChanged, HostPoolCreated, HostPoolDeleted
from derny.core.state import State
from derny.model.errors import Exhausted, Exists, Invalid, NotFound
from derny.model.ids import DEFAULT_HOST_POOL
from derny.model.periods import Limits

NAME_MAX = 255
"""Characters in a pool's name: it is repeated in the labels of each of its hosts."""


def decide_create(state: State, command: CreateHostPool, at: float, limits: Limits) -> list[HostPoolCreated]:
    name = command.pool
    if not name.strip() or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"name is {name[:NAME_MAX]!r}; expected 1 to {NAME_MAX} printable characters")
    if name in state.host_pools:
        raise Exists(f"host pool {name!r} already exists")
    if len(state.host_pools) >= limits.host_pools_max:
        raise Exhausted(f"there are {len(state.host_pools)} host pools already (limit host_pools_max)")
    return [HostPoolCreated(name)]


def decide_delete(state: State, command: DeleteHostPool, at: float) -> list[HostPoolDeleted]:
    name = command.pool
    if name == DEFAULT_HOST_POOL:
        raise Invalid(f"name is {name!r}, where hosts of deleted pools go; expected another host pool")
    if name not in state.host_pools:
        raise NotFound(f"host pool {name!r} does not exist")
    return [HostPoolDeleted(name)]


def decide_change(state: State, command: ChangeHostPool, at: float) -> list[HostPoolChanged]:
    """Checked in the order of the spec: the host, the source, the destination."""
    (name,) = hosts.known(state, [command.host])
    host = state.hosts[name]
    if host.pool != command.source:
        raise Invalid(
            f"sourcePool is {command.source!r}; host {name!r} is in {host.pool!r}, nothing has been changed"
        )
    if command.destination == host.pool:
        return []
    if command.destination not in state.host_pools:
        raise Invalid(f"destinationPool {command.destination!r} does not exist")
    return [HostPoolChanged(name, command.destination)]


def apply_created(state: State, event: HostPoolCreated, at: float) -> None:
    state.host_pools[event.pool] = {}


def apply_deleted(state: State, event: HostPoolDeleted, at: float) -> None:
    members = state.host_pools.pop(event.pool)
    state.host_pools[DEFAULT_HOST_POOL].update(members)
    for name in members:
        state.hosts[name].pool = DEFAULT_HOST_POOL
    # Placement sees their labels change in slices: there may be a hundred thousand.
    state.moved_hosts.extend(members)


def apply_changed(state: State, event: HostPoolChanged, at: float) -> None:
    host = state.hosts[event.host]
    del state.host_pools[host.pool][host.name]
    state.host_pools[event.pool][host.name] = None
    host.pool = event.pool
    hosts.show_labels(state, host)
