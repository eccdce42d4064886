"""Hosts: decide and apply. The life of a host: seen when its agent registers, lost when the agent falls
silent, seen again when it comes back. What pods hold of it is `placement.hosts`; maintenance is
`core.maintenance`.

A host that is lost keeps its row and what its pods hold there, until their agents, or the master in their
place, say what became of the pods. (Behaviour, scheduler §7.)
"""

from derny.core.commands import HostSeen, LoseHosts, SeeHosts
from derny.core.events import HostsLost, HostsSeen
from derny.core.state import State
from derny.model.errors import NotFound
from derny.model.ids import HostName
from derny.model.records import Host, Pod
from derny.model.states import HostState

NAMED_MAX = 10
"""Unknown hosts that a refusal names; it counts the others."""


def decide_see(state: State, command: SeeHosts, at: float) -> list[HostsSeen]:
    """Only what is news: an agent that registers again unchanged is none."""
    news = [seen for seen in command.hosts if _is_news(state, seen)]
    return [HostsSeen(news)] if news else []


def decide_lose(state: State, command: LoseHosts, at: float) -> list[HostsLost]:
    """Only hosts that are known and not lost already."""
    lost = [name for name in command.hosts if name in state.hosts and not state.hosts[name].lost]
    return [HostsLost(lost)] if lost else []


def apply_seen(state: State, event: HostsSeen, at: float) -> None:
    for seen in event.hosts:
        host = state.hosts.get(seen.name)
        row = state.table.add(seen.name, seen.capacity, seen.ports, fds=seen.fds)
        if host is None:
            host = state.hosts[seen.name] = Host(
                seen.name, seen.agent_id, seen.ip, seen.capacity, seen.ports, seen.labels, row, fds=seen.fds
            )
            state.host_pools[host.pool][seen.name] = None
        host.agent_id, host.ip, host.labels = seen.agent_id, seen.ip, seen.labels
        host.capacity, host.ports, host.fds = seen.capacity, seen.ports, seen.fds
        host.lost = False
        show_labels(state, host)
        show_placeable(state, host)
    state.tree.set_capacity(state.table.total_capacity())


def apply_lost(state: State, event: HostsLost, at: float) -> None:
    for name in event.hosts:
        state.hosts[name].lost = True
        show_placeable(state, state.hosts[name])
    state.tree.set_capacity(state.table.total_capacity())


def labels_of(host: Host) -> tuple[tuple[str, str], ...]:
    """What constraints and clients see: its name, its pool and its agent's attributes (behaviour, scheduler
    §6.5, §7.2 and item 20 of §10)."""
    attributes = (label for label in host.labels if label[0] not in ("hostname", "host_pool"))
    return (("hostname", host.name), ("host_pool", host.pool), *attributes)


def show_labels(state: State, host: Host) -> None:
    """Let placement see the host's labels as they are now."""
    state.table.set_labels(host.row, labels_of(host))


def show_placeable(state: State, host: Host) -> None:
    """Only a host in service whose agent is there takes pods. Looks at the host again, since both count for
    its next step."""
    state.table.set_placeable(host.row, host.state is HostState.UP and not host.lost)
    state.dirty_hosts[host.name] = None


def give_back(state: State, pod: Pod) -> None:
    """A run has ended: what it held of its host is free again. The last one that leaves ends a drain."""
    assert pod.host is not None
    host = state.hosts[pod.host]
    state.table.credit(host.row, pod.template.footprint, pod.ports, pod.template.fds)
    if pod.template.labels:
        state.table.pod_labels.remove(pod.job, pod.template.labels, host.row, pod.instance)
    del host.pods[pod]
    if not host.pods and host.state is HostState.DRAINING:
        state.dirty_hosts[host.name] = None


def known(state: State, names: list[HostName]) -> list[HostName]:
    """The hosts named, each once; NotFound names those that nobody has ever seen."""
    unknown = [name for name in dict.fromkeys(names) if name not in state.hosts]
    if unknown:
        more = f" and {len(unknown) - NAMED_MAX} more" if len(unknown) > NAMED_MAX else ""
        told = ", ".join(repr(name) for name in unknown[:NAMED_MAX])
        raise NotFound(f"no host is called {told}{more}; nothing has been changed")
    return list(dict.fromkeys(names))


def _is_news(state: State, seen: HostSeen) -> bool:
    host = state.hosts.get(seen.name)
    if host is None:
        return True
    if host.state is HostState.DOWN and host.goal is HostState.DOWN:
        return False  # It registers again when it is taken out of maintenance.
    return host.lost or seen != HostSeen(
        host.name, host.agent_id, host.ip, host.capacity, host.ports, host.labels, host.fds
    )
