"""SimulationService: disturbs the simulated agents and the link to them.

One rule: it is told apart from the contract by its package, `derny.simulation.v1`, so that clients of the
contract never meet it by accident. This room knows no agents: `Fleet` is what it needs of them, and `app`
hands it over. Each disturbance is done, then noted in the journal, then answered. Registered by `app`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address
from socket import inet_aton
from typing import Final, Protocol

from derny.answers import queries
from derny.api.container_in import check_amount
from derny.core.commands import HostSeen, NoteAgents
from derny.model.agents import (
    AMOUNT_MAX,
    DEFAULT_CAPACITY,
    DEFAULT_PORTS,
    PORT_MAX,
    RESERVED_LABELS,
    is_host_name,
)
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import HostName
from derny.model.periods import Limits
from derny.model.resources import MILLI, Resources, whole_units, wire_units
from derny.model.states import AgentState
from derny.proto.derny.simulation import v1
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.runtime.loop import Loop

AGENTS_PER_CALL: Final = 1000
"""So many register within some milliseconds; who wants more calls again."""
AGENTS_PER_LOOK: Final = 1000
NUMBERED_MAX: Final = len("host-999999999")
"""Longer names do not count as given by number."""
ATTRIBUTES_MAX: Final = 64
"""Of one agent; every listing of hosts repeats them."""
TEXT_MAX: Final = 255
"""Characters of a key or a value."""

_ADDRESS_MAX: Final = 2**32 - 1

Labels = tuple[tuple[str, str], ...]
Notes = dict[str, bytes]


class Agent(Protocol):
    """An agent as an operator sees it."""

    @property
    def seen(self) -> HostSeen: ...
    @property
    def state(self) -> AgentState: ...
    @property
    def tasks(self) -> int: ...
    @property
    def running(self) -> int: ...


class Fleet(Protocol):
    """All agents, to be disturbed. What changes something returns what is to be noted of it."""

    def names(self) -> list[HostName]: ...
    def hosts(self) -> list[HostSeen]: ...
    def views(self, names: Sequence[HostName], at: float) -> Sequence[Agent]: ...
    def is_link_up(self) -> bool: ...
    def add(self, hosts: Sequence[HostSeen], at: float) -> Notes: ...
    def remove(self, name: HostName, at: float) -> Notes: ...
    def stop(self, name: HostName, at: float) -> Notes: ...
    def start(self, name: HostName, at: float) -> Notes: ...
    def restart(self, name: HostName, at: float) -> Notes: ...
    def set_labels(self, name: HostName, labels: Labels, at: float) -> Notes: ...
    def cut_link(self, at: float) -> Notes: ...
    def restore_link(self, at: float) -> Notes: ...


class SimulationService(v1.SimulationServiceBase):
    """Faults of the simulated cluster."""

    def __init__(self, loop: Loop, limits: Limits, fleet: Fleet) -> None:
        self._loop = loop
        self._limits = limits
        self._fleet = fleet

    async def list_agents(self, message: v1.ListAgentsRequest) -> AsyncIterator[v1.ListAgentsResponse]:
        names = [HostName(name) for name in message.hostnames] or self._fleet.names()
        for first in range(0, max(len(names), 1), AGENTS_PER_LOOK):
            views = self._fleet.views(names[first : first + AGENTS_PER_LOOK], self._now)
            yield v1.ListAgentsResponse([_agent(view) for view in views], self._fleet.is_link_up())
            await asyncio.sleep(0)

    async def add_agents(self, message: v1.AddAgentsRequest) -> v1.AddAgentsResponse:
        capacity, ports = _capacity(message.shape), _ports(message.shape)
        labels = _labels(message.attributes)
        known = set(await self._loop.read(queries.host_names))
        # From here to the end nobody gets between, who would be given the same names.
        present = self._fleet.names()
        names = _new_names(message, present)
        known.update(present, names)
        if len(known) > self._limits.hosts_max:
            raise Exhausted(
                f"count is {len(names)}; with the hosts that have been seen so far there would be"
                f" {len(known)} (limit hosts_max is {self._limits.hosts_max})"
            )
        # The first address above all that are in use; at the end of all addresses it begins anew.
        highest = int.from_bytes(max((inet_aton(seen.ip) for seen in self._fleet.hosts()), default=b""))
        new = [
            HostSeen(
                name,
                f"agent-{name}",
                str(IPv4Address((highest + 1 + index) & _ADDRESS_MAX)),
                capacity,
                ports,
                (("hostname", name), *labels),
            )
            for index, name in enumerate(names)
        ]
        await self._note(self._fleet.add(new, self._now))
        return v1.AddAgentsResponse(list(names))

    async def remove_agent(self, message: v1.RemoveAgentRequest) -> v1.RemoveAgentResponse:
        await self._note(self._fleet.remove(HostName(message.hostname), self._now))
        return v1.RemoveAgentResponse()

    async def stop_agent(self, message: v1.StopAgentRequest) -> v1.StopAgentResponse:
        await self._note(self._fleet.stop(HostName(message.hostname), self._now))
        return v1.StopAgentResponse()

    async def start_agent(self, message: v1.StartAgentRequest) -> v1.StartAgentResponse:
        await self._note(self._fleet.start(HostName(message.hostname), self._now))
        return v1.StartAgentResponse()

    async def restart_agent(self, message: v1.RestartAgentRequest) -> v1.RestartAgentResponse:
        await self._note(self._fleet.restart(HostName(message.hostname), self._now))
        return v1.RestartAgentResponse()

    async def set_agent_attributes(
        self, message: v1.SetAgentAttributesRequest
    ) -> v1.SetAgentAttributesResponse:
        name = HostName(message.hostname)
        labels = (("hostname", name), *_labels(message.attributes))
        await self._note(self._fleet.set_labels(name, labels, self._now))
        return v1.SetAgentAttributesResponse()

    async def cut_link(self, message: v1.CutLinkRequest) -> v1.CutLinkResponse:
        await self._note(self._fleet.cut_link(self._now))
        return v1.CutLinkResponse()

    async def restore_link(self, message: v1.RestoreLinkRequest) -> v1.RestoreLinkResponse:
        await self._note(self._fleet.restore_link(self._now))
        return v1.RestoreLinkResponse()

    @property
    def _now(self) -> float:
        return self._loop.clock.now()

    async def _note(self, notes: Notes) -> None:
        """Keep what was done, so that a restart does not undo it. Wakes the loop, which has to look at the
        agents again."""
        await self._loop.submit(NoteAgents(notes))


def _new_names(message: v1.AddAgentsRequest, present: Sequence[HostName]) -> list[HostName]:
    count = message.count or 1
    if count > AGENTS_PER_CALL:
        raise Invalid(f"count is {count}; expected at most {AGENTS_PER_CALL}, and another call for more")
    if not message.name:
        used = [
            int(name[5:])
            for name in present
            if name.startswith("host-") and len(name) <= NUMBERED_MAX and name[5:].isdecimal()
        ]
        first = max(used, default=-1) + 1
        return [HostName(f"host-{first + index}") for index in range(count)]
    names = [message.name]
    if message.count:
        names = [f"{message.name}-{index}" for index in range(count)]
    if not is_host_name(names[-1]):
        raise Invalid(
            f"name is {message.name[:TEXT_MAX]!r}; expected a host name of letters, digits, dots and dashes"
        )
    return [HostName(name) for name in names]


def _capacity(shape: v1.Shape | None) -> Resources:
    shape = shape or v1.Shape()
    amounts = {
        "cpu": shape.cpu,
        "memory_mb": shape.memory_mb,
        "disk_mb": shape.disk_mb,
        "gpu": shape.gpu,
        "revocable_cpu": shape.revocable_cpu,
    }
    for name, amount in amounts.items():
        check_amount(f"shape.{name}", amount, AMOUNT_MAX / MILLI)
    found = Resources(*(whole_units(amount) for amount in amounts.values()))
    return found._replace(
        cpu=found.cpu or DEFAULT_CAPACITY.cpu,
        memory=found.memory or DEFAULT_CAPACITY.memory,
        disk=found.disk or DEFAULT_CAPACITY.disk,
    )


def _ports(shape: v1.Shape | None) -> tuple[int, int]:
    if shape is None or not (shape.first_port or shape.last_port):
        return DEFAULT_PORTS
    if not 1 <= shape.first_port <= shape.last_port <= PORT_MAX:
        raise Invalid(
            f"shape.first_port is {shape.first_port} and last_port {shape.last_port};"
            f" expected a range of ports within 1 to {PORT_MAX}"
        )
    return shape.first_port, shape.last_port


def _labels(attributes: Sequence[Label]) -> Labels:
    if len(attributes) > ATTRIBUTES_MAX:
        raise Invalid(f"attributes has {len(attributes)} entries; expected at most {ATTRIBUTES_MAX}")
    for index, label in enumerate(attributes):
        if label.key in RESERVED_LABELS:
            raise Invalid(
                f"attributes[{index}].key {label.key!r} is no attribute; {RESERVED_LABELS[label.key]}"
            )
        if max(len(label.key), len(label.value)) > TEXT_MAX:
            raise Invalid(f"attributes[{index}] is too long; expected at most {TEXT_MAX} characters each")
    return tuple((label.key, label.value) for label in attributes)


def _agent(view: Agent) -> v1.Agent:
    seen = view.seen
    cpu, memory, disk, gpu, revocable_cpu = (wire_units(amount) for amount in seen.capacity)
    return v1.Agent(
        hostname=seen.name,
        state=v1.AgentState(view.state),
        shape=v1.Shape(cpu, memory, disk, gpu, revocable_cpu, *seen.ports),
        attributes=[Label(key, value) for key, value in seen.labels if key != "hostname"],
        pods=view.tasks,
        pods_running=view.running,
    )
