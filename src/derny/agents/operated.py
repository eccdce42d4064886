"""Simulated agents that an operator can disturb: add and remove them, stop and start them, cut the link.

One rule: whatever an operator does is also a note (`NoteAgents`), which the journal keeps and `Reconcile`
gives back after a restart of the daemon, so that a restart undoes none of it. What the fleet's description
says comes first, the notes change it. Called by `api.simulation`, through its Protocol, and made by `app`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from derny.agents.link import Link
from derny.agents.simulated import REASON_AGENT_REMOVED, Host, SimulatedAgents
from derny.agents.task import Latencies
from derny.core.commands import HostSeen, LoseHosts, ReconnectAgents, SeeHosts
from derny.core.effects import Reconcile
from derny.model.errors import Exists
from derny.model.ids import HostName
from derny.model.states import AgentState, TaskState

REASON_AGENT_RESTARTED: Final = "REASON_AGENT_RESTARTED"

Notes = dict[str, bytes]
Labels = tuple[tuple[str, str], ...]

_LINK: Final = "link"
_AGENT: Final = "agent/"


class AgentNote(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """What an operator has done to one agent since its fleet was described."""

    removed: bool = False
    added: HostSeen | None = None
    labels: Labels | None = None
    lost_at: float | None = None
    """It is silent; when the master gives it up."""


class AgentView(msgspec.Struct, frozen=True):
    """An agent as an operator sees it."""

    seen: HostSeen
    state: AgentState
    tasks: int
    """Runs that it has, from their launch to their end."""
    running: int


class OperatedAgents(SimulatedAgents):
    """The agents of a described fleet, and what an operator makes of them."""

    def __init__(self, hosts: Sequence[HostSeen], seed: int, latencies: Latencies, at: float) -> None:
        super().__init__(hosts, seed, latencies, at)
        self._described = hosts
        self._notes: dict[HostName, AgentNote] = {}

    def names(self) -> list[HostName]:
        """All agents, those of the description first."""
        return list(self._hosts)

    def heard(self) -> list[HostName]:
        """Those that have registered or will by themselves, and be heard of it."""
        if self._link.is_down:
            return []
        return [name for name, host in self._hosts.items() if not (host.silent or host.down)]

    def hosts(self) -> list[HostSeen]:
        """What all agents register with, in the same order."""
        return [host.seen for host in self._hosts.values()]

    def views(self, names: Iterable[HostName], at: float) -> list[AgentView]:
        """Those of the named agents that still exist."""
        self._advance(at)
        return [_view(self._hosts[name]) for name in names if name in self._hosts]

    def is_link_up(self) -> bool:
        """Whether anything passes between the daemon and the agents."""
        return not self._link.is_down

    def add(self, hosts: Sequence[HostSeen], at: float) -> Notes:
        """New agents, which register in a while. Exists: one of them is there already; none is added."""
        for seen in hosts:
            if seen.name in self._hosts:
                raise Exists(f"hostname {seen.name!r} has an agent already; no agent has been added")
        self._advance(at)
        self._begin(hosts, {}, at)
        return self._note({seen.name: AgentNote(added=seen) for seen in hosts})

    def remove(self, name: HostName, at: float) -> Notes:
        """An agent leaves for good, and the master gives up its tasks at once. NotFound."""
        self._advance(at)
        host = self._host(name)
        self._lose_tasks(host, at, "The agent was removed", REASON_AGENT_REMOVED)
        if host.registered:
            self._news.append(LoseHosts([name]))
        host.due_at = math.inf
        del self._hosts[name]
        return self._note({name: AgentNote(removed=True)})

    def stop(self, name: HostName, at: float) -> Notes:
        """An agent is cut off: it works on, but isn't heard. NotFound; nothing for one that is."""
        self.stop_agent(name, at)
        return self._note_silence(self._host(name))

    def start(self, name: HostName, at: float) -> Notes:
        """An agent is heard again. NotFound; nothing for one that is heard."""
        self.start_agent(name, at)
        return self._note_silence(self._host(name))

    def restart(self, name: HostName, at: float) -> Notes:
        """An agent's machine is switched off and on: its tasks are gone, and it is heard. NotFound."""
        self._advance(at)
        host = self._host(name)
        self._lose_tasks(host, at, "The agent was restarted", REASON_AGENT_RESTARTED)
        self.start_agent(name, at)
        return self._note_silence(host)

    def set_labels(self, name: HostName, labels: Labels, at: float) -> Notes:
        """An agent registers anew with other attributes, `hostname` among them. Its tasks go on. NotFound."""
        self._advance(at)
        host = self._host(name)
        host.seen = msgspec.structs.replace(host.seen, labels=labels)
        if host.registered:
            self._news.append(SeeHosts([host.seen]))
        note = self._notes.get(name, AgentNote())
        if note.added is not None:
            note = msgspec.structs.replace(note, added=host.seen)
        else:
            note = msgspec.structs.replace(note, labels=labels)
        return self._note({name: note})

    def cut_link(self, at: float) -> Notes:
        """No launch, kill or report passes from now on. Agents and the master go on."""
        self._advance(at)
        self._link.cut(at)
        return {_LINK: msgspec.msgpack.encode(self._link)}

    def restore_link(self, at: float) -> Notes:
        """Everything passes again, reports that were held back first."""
        self._advance(at)
        if self._link.is_down:
            self._link.restore(at)
            self._outbox.release()
            self._news.append(ReconnectAgents())
        return {_LINK: msgspec.msgpack.encode(self._link)}

    def _note_silence(self, host: Host) -> Notes:
        name = host.seen.name
        note = self._notes.get(name, AgentNote())
        lost_at = None
        if host.silent:
            lost_at = host.due_at if host.due_at < math.inf else note.lost_at or self._now
        return self._note({name: msgspec.structs.replace(note, lost_at=lost_at)})

    def _note(self, notes: Mapping[HostName, AgentNote]) -> Notes:
        self._notes.update(notes)
        return {_AGENT + name: msgspec.msgpack.encode(note) for name, note in notes.items()}

    def _reconcile(self, order: Reconcile, at: float) -> None:
        if order.notes:
            self._recall(order.notes, at)
        super()._reconcile(order, at)

    def _recall(self, notes: Mapping[str, bytes], at: float) -> None:
        """Be born again, as the notes have it: nothing that was said in between has been heard yet."""
        if _LINK in notes:
            self._link = msgspec.msgpack.decode(notes[_LINK], type=Link)
        self._notes = {
            HostName(key.removeprefix(_AGENT)): msgspec.msgpack.decode(note, type=AgentNote)
            for key, note in notes.items()
            if key.startswith(_AGENT)
        }
        self._hosts, self._news = {}, []
        silent = {name: note.lost_at for name, note in self._notes.items() if note.lost_at is not None}
        self._begin(_as_noted(self._described, self._notes), silent, at)


def _as_noted(described: Sequence[HostSeen], notes: Mapping[HostName, AgentNote]) -> list[HostSeen]:
    hosts = {seen.name: seen for seen in described}
    for name, note in notes.items():
        if note.removed:
            hosts.pop(name, None)
        elif note.added is not None:
            hosts[name] = note.added
        elif note.labels is not None and name in hosts:
            hosts[name] = msgspec.structs.replace(hosts[name], labels=note.labels)
    return list(hosts.values())


def _view(host: Host) -> AgentView:
    running = sum(task.state is TaskState.RUNNING for task in host.tasks.values())
    return AgentView(host.seen, _state(host), len(host.tasks), running)


def _state(host: Host) -> AgentState:
    if host.down:
        return AgentState.DOWN
    if host.silent:
        return AgentState.SILENT if host.registered else AgentState.LOST
    return AgentState.REGISTERED if host.registered else AgentState.REGISTERING
