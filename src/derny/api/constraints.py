"""A pod's constraint, from the message to what placement evaluates.

One rule: what is accepted here can be evaluated, whatever the state of the cluster; the first fault is
refused in a sentence that names the field by its path. Called by `api.wire_in`. (API reference, pod.proto;
behaviour, scheduler §6.5.)
"""

from collections.abc import Iterable

from betterproto2 import Enum

from derny.api.wire import DEPTH_LIMIT
from derny.model.errors import Invalid
from derny.model.periods import Limits
from derny.model.specs import AndConstraint, Condition, Constraint, LabelConstraint, LabelKind, OrConstraint
from derny.proto.peloton.api.v1alpha.pod import Constraint as Message
from derny.proto.peloton.api.v1alpha.pod import ConstraintType, LabelConstraintCondition, LabelConstraintKind
from derny.proto.peloton.api.v1alpha.pod import LabelConstraint as LabelMessage

LEVELS_MAX = (DEPTH_LIMIT - 8) // 2
"""Constraints inside one another: each is two messages, and around them and inside them are as many as in an
answer that says of an instance what it asks for; what is nested deeper could not be read back."""

TEXT_MAX = 1000
"""Characters of a key or a value: constraints are remembered for a while by those who evaluate them."""

_MEMBERS = {
    ConstraintType.CONSTRAINT_TYPE_LABEL: "label_constraint",
    ConstraintType.CONSTRAINT_TYPE_AND: "and_constraint",
    ConstraintType.CONSTRAINT_TYPE_OR: "or_constraint",
}
_KINDS = {
    LabelConstraintKind.LABEL_CONSTRAINT_KIND_POD: LabelKind.POD,
    LabelConstraintKind.LABEL_CONSTRAINT_KIND_HOST: LabelKind.HOST,
}
_CONDITIONS = {
    LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_LESS_THAN: Condition.LESS_THAN,
    LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_EQUAL: Condition.EQUAL,
    LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_GREATER_THAN: Condition.GREATER_THAN,
}


def constraint_of(message: Message | None, where: str, limits: Limits) -> Constraint | None:
    """The constraint that a message holds; Invalid. `where` is the path of the message."""
    if message is None:
        return None
    _check_size(message, where, limits.constraint_parts_max)
    return _read(message, where)


def _check_size(message: Message, where: str, most: int) -> None:
    """Bounds what is read next, without recursion."""
    parts, waiting = 1, [(message, 1)]
    while waiting:
        part, level = waiting.pop()
        if level > LEVELS_MAX:
            raise Invalid(f"{where} nests more than {LEVELS_MAX} constraints; expected a flatter one")
        for inner in (part.and_constraint, part.or_constraint):
            if inner is not None:
                parts += len(inner.constraints)
                waiting += [(each, level + 1) for each in inner.constraints[: most + 1]]
        if parts > most:
            raise Invalid(f"{where} has more than {most} constraints inside (limit constraint_parts_max)")


def _read(message: Message, where: str) -> Constraint:
    member = _MEMBERS.get(message.type)
    if member is None:
        raise Invalid(f"{where}.type is {_told(message.type)}; expected one of {_names(_MEMBERS)}")
    for other in _MEMBERS.values():
        if other != member and getattr(message, other) is not None:
            raise Invalid(f"{where}.{other} is set and type is {message.type.name}; expected {member} alone")
    if message.label_constraint is not None:
        return _label(message.label_constraint, f"{where}.label_constraint")
    inner = message.and_constraint if message.and_constraint is not None else message.or_constraint
    if inner is None:
        raise Invalid(f"{where}.{member} is unset and type is {message.type.name}; expected it to be set")
    parts = tuple(
        _read(part, f"{where}.{member}.constraints[{index}]") for index, part in enumerate(inner.constraints)
    )
    return AndConstraint(parts) if member == "and_constraint" else OrConstraint(parts)


def _label(message: LabelMessage, where: str) -> LabelConstraint:
    kind, condition = _KINDS.get(message.kind), _CONDITIONS.get(message.condition)
    if kind is None:
        raise Invalid(f"{where}.kind is {_told(message.kind)}; expected one of {_names(_KINDS)}")
    if condition is None:
        raise Invalid(
            f"{where}.condition is {_told(message.condition)}; expected one of {_names(_CONDITIONS)}"
        )
    if message.label is None or not message.label.key:
        raise Invalid(f"{where}.label is unset or its key is empty; expected the label that is to be counted")
    for name, text in (("key", message.label.key), ("value", message.label.value)):
        if len(text) > TEXT_MAX:
            raise Invalid(f"{where}.label.{name} has {len(text)} characters; expected at most {TEXT_MAX}")
    return LabelConstraint(kind, condition, message.label.key, message.label.value, message.requirement)


def _names(known: Iterable[Enum]) -> str:
    return ", ".join(str(value.name) for value in known)


def _told(value: Enum) -> str:
    """The name of an enum's value, or the number of one that has none."""
    return value.name or str(int(value))
