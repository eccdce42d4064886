"""What a constraint says of one host, written down once more: slowly, with three values, from the spec alone.

Shares nothing with `placement.constraints`. (Behaviour, scheduler §6.5.)
"""

from collections import Counter
from collections.abc import Iterable

from hypothesis import strategies as st

from derny.model.specs import (
    AndConstraint,
    Condition,
    Constraint,
    LabelConstraint,
    LabelKind,
    Labels,
    OrConstraint,
)

EITHER_KIND = frozenset(LabelKind)


def verdict(
    constraint: Constraint, host: Labels, pods: Iterable[Labels], kinds: frozenset[LabelKind] = EITHER_KIND
) -> bool | None:
    """Match, mismatch, or None for not applicable, with the labels of a host and of each pod on it."""
    if isinstance(constraint, LabelConstraint):
        if constraint.kind not in kinds:
            return None
        on_pods = [label for labels in pods for label in labels]
        labels = list(host) if constraint.kind is LabelKind.HOST else on_pods
        count = Counter(labels)[constraint.key, constraint.value]
        return {
            Condition.LESS_THAN: count < constraint.requirement,
            Condition.EQUAL: count == constraint.requirement,
            Condition.GREATER_THAN: count > constraint.requirement,
        }[constraint.condition]
    pods = list(pods)
    told = {verdict(part, host, pods, kinds) for part in constraint.constraints}
    first, second = (False, True) if isinstance(constraint, AndConstraint) else (True, False)
    return first if first in told else second if second in told else None


def passes(constraint: Constraint | None, host: Labels, pods: Iterable[Labels]) -> bool:
    """A host takes a pod on match or when nothing applies."""
    return constraint is None or verdict(constraint, host, pods) is not False


def on_host(condition: Condition, key: str, value: str, requirement: int) -> LabelConstraint:
    return LabelConstraint(LabelKind.HOST, condition, key, value, requirement)


def on_pods(condition: Condition, key: str, value: str, requirement: int) -> LabelConstraint:
    return LabelConstraint(LabelKind.POD, condition, key, value, requirement)


def every(*parts: Constraint) -> AndConstraint:
    return AndConstraint(parts)


def either(*parts: Constraint) -> OrConstraint:
    return OrConstraint(parts)


keys = st.sampled_from(["a", "b"])
values = st.sampled_from(["x", "y"])
label_lists = st.lists(st.tuples(keys, values), max_size=3).map(lambda labels: tuple(sorted(labels)))
constraints = st.recursive(
    st.builds(
        LabelConstraint,
        st.sampled_from(LabelKind),
        st.sampled_from(Condition),
        keys,
        values,
        st.integers(0, 4),
    ),
    lambda inner: st.lists(inner, max_size=3).flatmap(
        lambda parts: st.sampled_from([every(*parts), either(*parts)])
    ),
    max_leaves=6,
)
"""Of few labels and small numbers, so that they meet."""
