"""The fleet that a daemon simulates: hosts by number and shape, or by a topology file.

One rule: a description gives the same hosts, in the same order, on every start. A topology file is YAML
(or JSON) with `groups:` of hosts and, if wished, `periods:`, `preemption:` and more; examples/topology.yaml
shows every key. Whatever is wrong is a SpecError that names the place, the value and what is accepted.
Called by `app` and the command line.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address
from itertools import product
from math import prod
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from derny.client import amounts
from derny.client.yaml_tree import Item, SpecError, folded, read, suggestion
from derny.core.commands import HostSeen
from derny.edge import connection
from derny.model.agents import (
    AMOUNT_MAX,
    DEFAULT_CAPACITY,
    DEFAULT_PORTS,
    PORT_MAX,
    RESERVED_LABELS,
    is_host_name,
)
from derny.model.ids import HostName
from derny.model.periods import Limits, Periods
from derny.model.resources import FDS, MILLI, Resources, whole_units
from derny.model.rules import DEFAULT_PREEMPTING, DEFAULT_RULES, Policy, Preempting, Rules

Labels = tuple[tuple[str, str], ...]
Span = tuple[float, float]
"""The least and the most of a latency, in seconds."""

REVOCABLE_PART: Final = 2
"""One in so many of its cpus a host offers once more to revocable pods unless told otherwise: as if its
containers used half of what they have. Peloton's development clusters offer slack too; there the agents
measure it (behaviour, scheduler §7.6)."""
DEFAULT_LATENCIES: Final[Mapping[str, Span]] = {
    "start_s": (0.1, 0.3),
    "kill_s": (0.1, 0.3),
    "registration_s": (0.0, 0.0),
}
"""What a container of a small image takes on a quiet host; all hosts are there from the start."""

_HOSTS_MAX: Final = Limits().hosts_max
_FIRST_IP: Final = "10.0.0.1"
_YEAR_S: Final = 365 * 24 * 3600
_COUNT_MAX: Final = 1000
_LIMIT_MAX: Final = 2**31 - 1

_RANGE: Final = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


class HostGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts alike but for their names and addresses: the first has `ip`, the next ones count up from it."""

    names: tuple[HostName, ...]
    capacity: Resources
    ip: str = _FIRST_IP
    ports: tuple[int, int] = DEFAULT_PORTS
    labels: Labels = ()
    fds: int = FDS


class Fleet(msgspec.Struct, frozen=True):
    """All hosts that the simulated agents stand for."""

    groups: tuple[HostGroup, ...]

    def hosts(self) -> list[HostSeen]:
        """Every host as its agent registers it, group by group.

        Each has its name as the label `hostname`, for constraints (behaviour, scheduler §6.5).
        """
        return [
            HostSeen(
                name=name,
                agent_id=f"agent-{name}",
                ip=str(IPv4Address(group.ip) + index),
                capacity=group.capacity,
                ports=group.ports,
                labels=(("hostname", name), *group.labels),
                fds=group.fds,
            )
            for group in self.groups
            for index, name in enumerate(group.names)
        ]


class Topology(NamedTuple):
    """What a topology file says; what it leaves out has its default. Latencies are by kind, in seconds."""

    fleet: Fleet
    periods: Periods
    latencies: Mapping[str, Span]
    limits: Limits = Limits()
    edge: connection.Limits = connection.Limits()
    rules: Rules = DEFAULT_RULES
    preempting: Preempting = DEFAULT_PREEMPTING


def fleet_of_shape(count: int, shape: str = "", hosts_max: int = _HOSTS_MAX) -> Fleet:
    """`count` hosts host-0, host-1, … of a shape like `cpu=8,mem=32Gi`.

    Raises SpecError in the words of the flags --hosts and --host-shape.
    """
    if not 1 <= count <= hosts_max:
        raise SpecError(f"--hosts is {count}; expected a number from 1 to {hosts_max}")
    names = tuple(HostName(f"host-{index}") for index in range(count))
    return Fleet((HostGroup(names=names, capacity=_capacity_of_shape(shape)),))


def load_topology(path: Path, hosts_max: int = _HOSTS_MAX) -> Topology:
    """The topology that a file describes; SpecError when it can't be read or anything in it is wrong."""
    documents = read(path)
    if len(documents) > 1:
        raise SpecError(f"{documents[1].place}: a second document; expected one topology in a file")
    parts = documents[0].fields(("groups", "periods", "latencies", "limits", "placement", "preemption"))
    if "groups" not in parts:
        raise SpecError(f"{documents[0].place}: groups is missing; expected a list of groups of hosts")
    limits, edge = _limits(parts["limits"]) if "limits" in parts else (Limits(), connection.Limits())
    return Topology(
        _fleet(parts["groups"], hosts_max),
        _periods(parts["periods"]) if "periods" in parts else Periods(),
        _latencies(parts["latencies"]) if "latencies" in parts else DEFAULT_LATENCIES,
        limits,
        edge,
        _rules(parts["placement"]) if "placement" in parts else DEFAULT_RULES,
        _preempting(parts["preemption"]) if "preemption" in parts else DEFAULT_PREEMPTING,
    )


# Capacities.


class _Kind(NamedTuple):
    """How one kind of resource is written: its field in Resources, its reader, and what is accepted."""

    field: str
    read: Callable[[str], float | None]
    expected: str


_CPU_EXPECTED: Final = "a number of cpus such as 8, 0.5 or 500m"
_SIZE_EXPECTED: Final = "a size such as 32Gi or 512Mi, or a number of MB"
_KINDS: Final = {
    "cpu": _Kind("cpu", amounts.cpus, _CPU_EXPECTED),
    "mem": _Kind("memory", amounts.megabytes, _SIZE_EXPECTED),
    "disk": _Kind("disk", amounts.megabytes, _SIZE_EXPECTED),
    "gpu": _Kind("gpu", amounts.number, "a number of gpus such as 4"),
    "revocable_cpu": _Kind("revocable_cpu", amounts.cpus, _CPU_EXPECTED),
}


def _units(kind: _Kind, text: str) -> int | None:
    """The amount in thousandths; None when it is not one that a host may have."""
    value = kind.read(text)
    return whole_units(value) if value is not None and 0 <= value <= AMOUNT_MAX / MILLI else None


def _completed(found: Mapping[str, int]) -> Resources:
    capacity = DEFAULT_CAPACITY._replace(**found)
    if "revocable_cpu" in found:
        return capacity
    return capacity._replace(revocable_cpu=capacity.cpu // REVOCABLE_PART)


def _capacity_of_shape(shape: str) -> Resources:
    found: dict[str, int] = {}
    names = {folded(name): name for name in _KINDS}
    for part in filter(None, shape.split(",")):
        written, _, text = (side.strip() for side in part.partition("="))
        if folded(written) not in names:
            raise SpecError(f"--host-shape: {written!r} is no kind of resource{suggestion(written, _KINDS)}")
        kind = _KINDS[names[folded(written)]]
        units = _units(kind, text)
        if units is None:
            raise SpecError(f"--host-shape: {written} is {text!r}; expected {kind.expected}")
        if kind.field in found:
            raise SpecError(f"--host-shape: {written} is given twice; expected each kind once")
        found[kind.field] = units
    return _completed(found)


def _capacity(item: Item) -> Resources:
    found: dict[str, int] = {}
    for name, value in item.fields(_KINDS).items():
        kind = _KINDS[name]
        units = _units(kind, value.text(kind.expected))
        if units is None:
            raise value.wrong(kind.expected)
        found[kind.field] = units
    return _completed(found)


# Groups of hosts.


def _fleet(groups_item: Item, hosts_max: int) -> Fleet:
    groups: list[HostGroup] = []
    group_of: dict[str, str] = {}
    next_ip = IPv4Address(_FIRST_IP)
    for item in groups_item.items():
        group = _group(item, next_ip, hosts_max - len(group_of))
        for name in group.names:
            if name in group_of:
                raise SpecError(f"{item.place}: host {name!r} is in {group_of[name]} and in {item.name}")
            group_of[name] = item.name
        groups.append(group)
        next_ip = IPv4Address(int(IPv4Address(group.ip)) + len(group.names))
    if not groups:
        raise groups_item.wrong("at least one group of hosts")
    return Fleet(tuple(groups))


def _group(item: Item, next_ip: IPv4Address, hosts_left: int) -> HostGroup:
    parts = item.fields(("name", "count", "resources", "ports", "ip", "attributes", "fds"))
    if "name" not in parts:
        raise SpecError(
            f"{item.place}: {item.name}.name is missing; expected a name or a pattern host{{0..2}}"
        )
    names = _names(parts["name"], parts.get("count"), hosts_left)
    return HostGroup(
        names=names,
        capacity=_capacity(parts["resources"]) if "resources" in parts else _completed({}),
        ip=_first_ip(parts["ip"], len(names)) if "ip" in parts else str(next_ip),
        ports=_ports(parts["ports"]) if "ports" in parts else DEFAULT_PORTS,
        labels=_labels(parts["attributes"]) if "attributes" in parts else (),
        fds=parts["fds"].whole(0, FDS) if "fds" in parts else FDS,
    )


def _names(item: Item, count_item: Item | None, hosts_left: int) -> tuple[HostName, ...]:
    """host{0..2} is host0, host1, host2; {00..11} keeps zeros; a plain name with a count gets -0, -1, ..."""
    expected = "a host name of letters, digits, dots and dashes, with ranges like {0..2} or {00..11}"
    pattern = item.text(expected)
    ranges = _RANGE.findall(pattern)
    if any(int(low) > int(high) for low, high in ranges):
        raise item.wrong("ranges that count up, like {0..2}")
    total = prod(int(high) - int(low) + 1 for low, high in ranges)
    if count_item is not None:
        count = count_item.whole(1, _HOSTS_MAX)
        if ranges and count != total:
            raise count_item.wrong(f"{total}, the number of names in {pattern!r}, or no count")
        if not ranges:
            total, pattern, ranges = count, f"{pattern}-{{0..{count - 1}}}", [("0", str(count - 1))]
    if total > hosts_left:
        raise SpecError(f"{item.place}: {item.name} gives {total} hosts; expected at most {hosts_left} more")
    names = ["".join(parts) for parts in product(*_alternatives(_RANGE.split(pattern)[::3], ranges))]
    if not (is_host_name(names[0]) and is_host_name(names[-1])):
        raise item.wrong(expected)
    return tuple(map(HostName, names))


def _alternatives(literals: list[str], ranges: list[tuple[str, str]]) -> list[list[str]]:
    """For each part of a pattern what may stand there: a literal, or the numbers of a range."""
    parts = [[literals[0]]]
    for (low, high), literal in zip(ranges, literals[1:], strict=True):
        width = max(len(low), len(high)) if low.startswith("0") and len(low) > 1 else 0
        parts += [[f"{number:0{width}d}" for number in range(int(low), int(high) + 1)], [literal]]
    return parts


def _first_ip(item: Item, count: int) -> str:
    try:
        first = IPv4Address(item.text())
        _ = first + count  # the next group may count on from here
    except AddressValueError:
        raise item.wrong("the IPv4 address of the first host, with room for the others above it") from None
    return str(first)


def _ports(item: Item) -> tuple[int, int]:
    expected = "a range of ports such as 31000-32000 or [31000, 32000]"
    if item.is_list:
        ends = [end.whole(1, PORT_MAX) for end in item.items()]
    else:
        texts = item.text(expected).split("-")
        ends = [int(text) if re.fullmatch(" *[0-9]{1,5} *", text) else 0 for text in texts]
    if len(ends) != 2 or not 1 <= ends[0] <= ends[1] <= PORT_MAX:
        raise item.wrong(expected)
    return ends[0], ends[1]


# Attributes.


def _labels(item: Item) -> Labels:
    """One label per value: as Peloton makes host labels of Mesos attributes (scheduler §6.5)."""
    labels: list[tuple[str, str]] = []
    for key, value in item.entries():
        name = key.text()
        if name in RESERVED_LABELS:
            raise SpecError(f"{key.place}: {key.name} is no attribute; {RESERVED_LABELS[name]}")
        labels += [(name, text) for text in _attribute(value)]
    return tuple(labels)


def _attribute(item: Item) -> list[str]:
    """A list is a SET, a number without quotes a SCALAR, other text TEXT; {type, value} says it outright."""
    if not item.is_mapping:
        return _values_of_type("SET" if item.is_list else "SCALAR" if item.is_plain_number else "TEXT", item)
    parts = item.fields(("type", "value"))
    if len(parts) != 2:
        raise item.wrong("text, a number, a list, or a mapping with both type and value")
    kind = parts["type"].text().upper()
    if kind not in ("TEXT", "SCALAR", "SET", "RANGES"):
        raise parts["type"].wrong("TEXT, SCALAR, SET or RANGES")
    return _values_of_type(kind, parts["value"])


def _values_of_type(kind: str, value: Item) -> list[str]:
    if kind == "SET":
        return [item.text() for item in value.items()]
    if kind == "RANGES":
        return []  # Peloton makes no labels of them
    return [f"{value.number():.6f}" if kind == "SCALAR" else value.text()]


# Placement.


def _rules(item: Item) -> Rules:
    """How hosts are chosen; see `model.rules` for what each key means."""
    parts = item.fields(Rules._fields)
    switches = {name: value.truth() for name, value in parts.items() if name != "policy"}
    policy = DEFAULT_RULES.policy
    if "policy" in parts:
        known = {policy.value: policy for policy in Policy}
        written = parts["policy"].text(" or ".join(known))
        if written not in known:
            raise parts["policy"].wrong(" or ".join(known))
        policy = known[written]
    return DEFAULT_RULES._replace(policy=policy, **switches)


# Times.


def _periods(item: Item) -> Periods:
    kinds = {field.name: msgspec.inspect.type_info(field.type) for field in msgspec.structs.fields(Periods)}
    values: dict[str, float] = {}
    for name, value in _timed(item, kinds).items():
        kind = kinds[name]
        if isinstance(kind, msgspec.inspect.IntType):
            values[name] = value.whole(kind.ge or 0, _COUNT_MAX)
        else:
            assert isinstance(kind, msgspec.inspect.FloatType)
            values[name] = _seconds(value, zero_allowed=kind.gt is None)
    periods = msgspec.structs.replace(Periods(), **values)
    if periods.lost_agent_timeout_s <= periods.heartbeat_s:
        raise SpecError(
            f"{item.place}: lost_agent_timeout is no longer than heartbeat; every agent would be lost"
        )
    if periods.restart_backoff_max_s < periods.restart_backoff_first_s:
        raise SpecError(f"{item.place}: restart_backoff_max is less than restart_backoff_first")
    return periods


def _preempting(item: Item) -> Preempting:
    """Whether pods are preempted; see `model.rules` for what each key means."""
    return Preempting(**{name: value.truth() for name, value in item.fields(Preempting._fields).items()})


def _latencies(item: Item) -> Mapping[str, Span]:
    found = {name: _span(value) for name, value in _timed(item, DEFAULT_LATENCIES).items()}
    return {**DEFAULT_LATENCIES, **found}


def _limits(item: Item) -> tuple[Limits, connection.Limits]:
    """The daemon's limits and those of its connections: one section, since their names are all different."""
    edge = [name for name in connection.Limits.__struct_fields__ if not name.endswith("_s")]
    found = {
        name: value.whole(1, _LIMIT_MAX)
        for name, value in item.fields([*Limits.__struct_fields__, *edge]).items()
    }
    return (
        msgspec.structs.replace(Limits(), **{name: n for name, n in found.items() if name not in edge}),
        msgspec.structs.replace(
            connection.Limits(), **{name: n for name, n in found.items() if name in edge}
        ),
    )


def _timed(item: Item, names: Iterable[str]) -> dict[str, Item]:
    """The values by full name: `entitlement: 5s` and `entitlement_s: 5` are the same."""
    full = {name.removesuffix("_s"): name for name in names}
    also = {name: short for short, name in full.items()}
    return {full[short]: value for short, value in item.fields(full, also=also).items()}


def _span(item: Item) -> Span:
    expected = "one duration, or the least and the most as 100ms..300ms or [0.1, 0.3]"
    if item.is_list:
        ends = [_seconds(end, zero_allowed=True) for end in item.items()]
    else:
        read_ends = [amounts.duration_s(text.strip()) for text in item.text(expected).split("..")]
        ends = [end for end in read_ends if end is not None and 0 <= end <= _YEAR_S]
        if len(ends) < len(read_ends):
            raise item.wrong(expected)
    if len(ends) not in (1, 2) or ends[0] > ends[-1]:
        raise item.wrong(expected)
    return ends[0], ends[-1]


def _seconds(item: Item, *, zero_allowed: bool) -> float:
    more = "" if zero_allowed else "more than zero, "
    expected = f"a duration such as 300ms, 5s or 2m, or a number of seconds, {more}at most a year"
    value = amounts.duration_s(item.text(expected))
    if value is None or not 0 <= value <= _YEAR_S or not (value or zero_allowed):
        raise item.wrong(expected)
    return value
