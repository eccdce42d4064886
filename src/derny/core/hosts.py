"""Hosts: decide and apply. The life of a host: seen when its agent registers, lost when the agent falls
silent, seen again when it comes back.

A host that is lost keeps its row and what its pods hold there, until their agents, or the master in their
place, say what became of the pods. (Behaviour, scheduler §7.)
"""

from derny.core.commands import HostSeen, LoseHosts, SeeHosts
from derny.core.events import HostsLost, HostsSeen
from derny.core.state import State
from derny.model.records import Host


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
        row = state.table.add(seen.name, seen.capacity, seen.ports, seen.labels)
        state.hosts[seen.name] = Host(
            seen.name, seen.agent_id, seen.ip, seen.capacity, seen.ports, seen.labels, row, fds=seen.fds
        )
        state.table.set_placeable(row, True)
    state.tree.set_capacity(state.table.total_capacity())


def apply_lost(state: State, event: HostsLost, at: float) -> None:
    for name in event.hosts:
        host = state.hosts[name]
        host.lost = True
        state.table.set_placeable(host.row, False)
    state.tree.set_capacity(state.table.total_capacity())


def _is_news(state: State, seen: HostSeen) -> bool:
    known = state.hosts.get(seen.name)
    return (
        known is None
        or known.lost
        or seen
        != HostSeen(
            known.name, known.agent_id, known.ip, known.capacity, known.ports, known.labels, known.fds
        )
    )
