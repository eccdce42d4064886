"""What may be in the way of a pod, in sentences and in parts, and what would clear it.

One rule: an obstacle is a value that says what somebody else has found: rules of pools come from
`capacity.admission`, verdicts of hosts from `placement.explain`. Any one of an obstacle's remedies clears it;
the smallest comes first. Made by `answers.pod_explanation`; amounts are thousandths but for file descriptors,
ports and priorities.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from derny.capacity import admission
from derny.capacity.admission import Rule
from derny.core.gates import NAMES
from derny.core.state import State
from derny.model.ids import HostName, JobId
from derny.model.resources import MILLI, wire_units
from derny.model.states import Gate
from derny.placement.explain import Change, Explanation, Refusal


class Kind(IntEnum):
    """What sort of thing is in the way; numbered as on the wire."""

    POOL_RULE = 1
    BEHIND = 2
    NO_HOST = 3
    OWN_HOST = 4
    TURN = 5
    BACK_OFF = 6
    GATE = 7
    STOPPED = 8
    WORKFLOW = 9
    ENDING = 10
    LAUNCHING = 11


class Action(IntEnum):
    """What somebody could do about it; numbered as on the wire."""

    ASK_LESS = 1
    LEAVE_OUT = 2
    ADD_HOST = 3
    RAISE_LIMIT = 4
    RAISE_RESERVATION = 5
    RAISE_PRIORITY = 6
    START = 7
    OPEN_GATE = 8
    RESUME_WORKFLOW = 9
    RETURN_HOST = 10
    DELETE_VOLUME = 11


class Remedy(NamedTuple):
    """One thing that would clear an obstacle: what it is done to, and how much of which kind of resource."""

    action: Action
    sentence: str
    subject: str = ""
    resource: str = ""
    amount: int = 0
    hosts: int = 0
    """How many hosts would take the pod then."""


class PoolRule(NamedTuple):
    """A rule at a pool that the pod's admission would break, in thousandths."""

    path: str
    rule: Rule
    resource: str
    need: int
    left: int
    most: int


class Obstacle(NamedTuple):
    """One thing in the way, in a sentence and in parts; `until` is 0.0 where no moment is known."""

    kind: Kind
    sentence: str
    remedies: tuple[Remedy, ...] = ()
    until: float = 0.0
    pool: PoolRule | None = None
    host: HostName | None = None
    behind: tuple[JobId, int] | None = None
    refusals: tuple[Refusal, ...] = ()


def no_host(hosts: Explanation) -> Obstacle | None:
    """What keeps a pod off all hosts; None when one of them would take it."""
    if hosts.fitting:
        return None
    if not hosts.hosts:
        return Obstacle(Kind.NO_HOST, "there are no hosts")
    why = "; ".join(f"{each.hosts} {verdict(each)}" for each in hosts.refusals)
    return Obstacle(
        Kind.NO_HOST,
        f"none of {hosts.hosts} hosts takes it: {why}",
        tuple(map(_changed, hosts.changes)),
        refusals=hosts.refusals,
    )


def broken_rule(state: State, reason: admission.Reason) -> Obstacle:
    """A rule of a pool."""
    tree = state.tree
    assert reason.rule is not None
    path = tree.path(tree.pools[reason.pool])
    most = reason.most - reason.left + reason.need
    remedies: list[Remedy] = []
    if reason.left > 0:
        remedies.append(_ask_less(reason.kind, reason.left))
    if reason.rule is Rule.LIMIT and reason.pool != tree.root.id:
        sentence = f"a {reason.kind} limit of {wire_units(most):g} or more for {path}"
        remedies.append(Remedy(Action.RAISE_LIMIT, sentence, path, reason.kind, most))
    elif reason.rule in (Rule.ENTITLEMENT, Rule.RESERVATION):
        sentence = f"a {reason.kind} reservation of {wire_units(most):g} or more for {path}"
        remedies.append(Remedy(Action.RAISE_RESERVATION, sentence, path, reason.kind, most))
    rule = PoolRule(path, reason.rule, reason.kind, reason.need, max(reason.left, 0), reason.most)
    return Obstacle(Kind.POOL_RULE, admission.in_words(tree, reason), tuple(remedies), pool=rule)


def closed_gates(state: State, *gates: Gate) -> Iterator[Obstacle]:
    """Those of the gates that an operator has closed."""
    for gate in gates:
        if gate in state.closed:
            remedy = Remedy(Action.OPEN_GATE, f"open the gate {NAMES[gate]}", NAMES[gate])
            yield Obstacle(
                Kind.GATE, f"an operator has closed the gate {NAMES[gate]}, which it has to pass", (remedy,)
            )


def verdict(refusal: Refusal) -> str:
    """Why a host refuses, in a word and with what is short or mismatches."""
    if refusal.clause:
        return f"{refusal.reason} ({refusal.clause})"
    if refusal.kind:
        return f"{refusal.reason} ({_amount(refusal.kind, refusal.shortfall)} {refusal.kind} short)"
    return str(refusal.reason)


def _amount(kind: str, amount: int) -> str:
    return f"{amount if kind in ('fds', 'ports') else amount / MILLI:g}"


def _ask_less(kind: str, most: int, hosts: int = 0) -> Remedy:
    return Remedy(Action.ASK_LESS, f"ask for {_amount(kind, most)} {kind} at most", "", kind, most, hosts)


def _changed(change: Change) -> Remedy:
    if change.clause:
        return Remedy(Action.LEAVE_OUT, str(change), change.clause, hosts=change.hosts)
    if change.host is not None:
        return Remedy(Action.ADD_HOST, str(change), change.host, hosts=change.hosts)
    return _ask_less(change.kind, change.to, change.hosts)
