"""What a pod asks of a host, and each single thing that may keep it off one.

One rule: a filter is a mask over hosts, true where it refuses, in the order in which Peloton tests them
(behaviour, scheduler §6.3). `engine` counts room with the same masks where room is a matter of yes or no;
`explain` tells them all apart.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from derny.model.resources import Resources
from derny.model.rules import STATELESS_POOL, Rules
from derny.model.specs import (
    Condition,
    Constraint,
    LabelConstraint,
    LabelKind,
    Labels,
    PodTemplate,
    PortRequest,
)
from derny.placement.constraints import asks_for_exclusive, clauses, passes, pod_labels
from derny.placement.hosts import KINDS, HostTable
from derny.placement.labels import Where

GPU: Final = KINDS.index("gpu")

IN_STATELESS_POOL: Final = LabelConstraint(LabelKind.HOST, Condition.EQUAL, "host_pool", STATELESS_POOL, 1)
"""What `use_host_pool` adds to every pod's constraint (behaviour, scheduler §7.2)."""

Mask = NDArray[np.bool_]


class Ask(msgspec.Struct, frozen=True, gc=False):
    """What a pod asks of its host: pods with equal asks are placed as one group. `labels` are those of the
    pod that its own constraint counts."""

    demand: Resources
    ports: tuple[PortRequest, ...] = ()
    fds: int = 0
    constraint: Constraint | None = None
    labels: Labels = ()

    @property
    def needs(self) -> tuple[int, ...]:
        """An amount of each of `hosts.KINDS`."""
        return (*self.demand, self.fds)

    @property
    def static(self) -> tuple[int, ...]:
        """The ports that the pod names."""
        return tuple(port.number for port in self.ports if port.number)

    @property
    def dynamic_count(self) -> int:
        """How many ports are to be picked for it."""
        return sum(not port.number for port in self.ports)


def ask_of(template: PodTemplate) -> Ask:
    """What a pod of this template asks for."""
    spoken = pod_labels(template.constraint)
    own = tuple(label for label in template.labels if label in spoken) if spoken else ()
    return Ask(template.demand, template.ports, template.fds, template.constraint, own)


class Reason(StrEnum):
    """Why a host does not take a pod. For explanations; pending reasons use Peloton's names, `counted_as`."""

    STATUS = "MISMATCH_STATUS"
    HELD = "HELD"
    RESOURCES = "INSUFFICIENT_RESOURCES"
    SCARCE = "SCARCE_RESOURCES"
    PORTS = "PORTS"
    POOL = "HOST_POOL"
    CONSTRAINT = "MISMATCH_CONSTRAINTS"

    @property
    def counted_as(self) -> str:
        """What the counts of §6.3 call it."""
        return _COUNTED_AS[self]


_COUNTED_AS: Final = {
    Reason.STATUS: "mismatch_status",
    Reason.HELD: "mismatch_status",
    Reason.RESOURCES: "insufficient_offer_resources",
    Reason.SCARCE: "scarce_resources",
    Reason.PORTS: "insufficient_offer_resources",
    Reason.POOL: "mismatch_constraints",
    Reason.CONSTRAINT: "mismatch_constraints",
}


class Filter(NamedTuple):
    """One thing that keeps a pod off the hosts where `refuses` is true. `kind` is the row of `hosts.KINDS`
    for RESOURCES, `clause` the part of the constraint for CONSTRAINT, where None means exclusive hosts."""

    reason: Reason
    refuses: Mask
    kind: int = -1
    clause: Constraint | None = None


def filters(table: HostTable, ask: Ask, rules: Rules, where: Where) -> Iterator[Filter]:
    """All filters that this pod has to pass, in order. The verdicts have one item for each row of `where`."""
    yield Filter(Reason.STATUS, ~table.placeable[where])
    yield Filter(Reason.HELD, table.holds[where] > 0)
    for kind, amount in enumerate(ask.needs):
        if amount:
            yield Filter(Reason.RESOURCES, table.free_units[kind, where] < amount, kind)
    if keeps_gpus(ask, rules):
        yield Filter(Reason.SCARCE, kept_for_gpus(table)[where])
    if ask.ports:
        yield Filter(Reason.PORTS, lacks_ports(table, ask, where))
    if rules.use_host_pool:
        yield Filter(Reason.POOL, ~passes(table, IN_STATELESS_POOL, where))
    if not asks_for_exclusive(ask.constraint):
        yield Filter(Reason.CONSTRAINT, table.exclusive[where])
    for clause in clauses(ask.constraint):
        yield Filter(Reason.CONSTRAINT, ~passes(table, clause, where), clause=clause)


def keeps_gpus(ask: Ask, rules: Rules) -> bool:
    """Whether hosts with gpus are not for this pod (behaviour, scheduler §6.8)."""
    return rules.scarce_gpu and not ask.demand.gpu


def kept_for_gpus(table: HostTable) -> Mask:
    """Which hosts have gpus; none where all do, since then there is nowhere else to send other pods."""
    with_gpus: Mask = table.capacity_units[GPU, : len(table)] > 0
    return with_gpus & np.bool_(not with_gpus.all())


def open_hosts(table: HostTable, ask: Ask, rules: Rules) -> Mask | None:
    """Which hosts are of a sort that is for this pod, whatever is free there and whoever is on them; of all
    hosts, and None where all are."""
    sort = (keeps_gpus(ask, rules), asks_for_exclusive(ask.constraint), rules.use_host_pool)
    if sort not in table.open_to:
        closed = np.zeros(len(table), np.bool_)
        if sort[0]:
            closed |= kept_for_gpus(table)
        if not sort[1]:
            closed |= table.exclusive[: len(table)]
        if rules.use_host_pool:
            closed |= ~passes(table, IN_STATELESS_POOL, slice(0, len(table)))
        table.open_to[sort] = ~closed if closed.any() else None
    return table.open_to[sort]


def lacks_ports(table: HostTable, ask: Ask, where: Where) -> Mask:
    """Where a number that the pod names is taken, or too few are left to pick from; everywhere if it asks for
    one number twice."""
    left = table.free_port_counts[where]
    lacking = np.full(left.shape, len(set(ask.static)) < len(ask.static))
    for number in ask.static:
        lacking |= table.taken(number)[where]
    if ask.dynamic_count:
        lacking |= left - static_in_range(table, ask, where) < ask.dynamic_count
    return lacking


def static_in_range(table: HostTable, ask: Ask, where: Where) -> NDArray[np.int64]:
    """How many of the pod's static ports each host counts among those to pick from."""
    inside = np.zeros(table.free_port_counts[where].shape, np.int64)
    for number in ask.static:
        inside += table.in_range(number)[where]
    return inside
