"""Pages, orders, labels and spans of time, as the Query methods of all services spell them.

One rule: what can't be understood is refused with what would be; what is left out has one meaning, which is
written here. (API reference, query.proto; behaviour, jobs §2.13 and §2.14.)
"""

import re
from collections.abc import Collection, Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from derny.answers.job_query import Span
from derny.answers.ordering import OrderBy
from derny.model.errors import Exhausted, Invalid
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha.peloton import TimeRange
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange
from derny.proto.peloton.api.v1alpha.query import OrderBy as OrderByMessage
from derny.proto.peloton.api.v1alpha.query import OrderByOrder, Pagination, PaginationSpec

S = TypeVar("S", bound=IntEnum)

PAGE_LIMIT: Final = 10
"""Records of a page whose limit is 0."""
_OBJECTS: Final = ("config.", "runtime.", "spec.", "status.", "summary.")
"""A property may be written as a path into the object that has it (query.proto: PropertyPath)."""
_PROPERTY_MAX: Final = 100
"""Characters that are looked at; all that there is to sort by is much shorter, and paths end there too."""
_INSTANCES_MAX: Final = 2**32
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Page(NamedTuple):
    """Which records of the ordered ones to return: those from `first` up to and without `end`."""

    first: int
    end: int
    order: tuple[OrderBy, ...]
    asked: PaginationSpec
    """What was asked for, to be told again."""

    def told(self, total: int) -> Pagination:
        """How the response speaks of the page; `total` is the number of all matches."""
        return Pagination(self.asked.offset, self.asked.limit, total)


def page_of(
    asked: PaginationSpec,
    fields: Collection[str],
    default: tuple[OrderBy, ...],
    most: int | None,
    limits: Limits,
) -> Page:
    """The page that is asked for; Invalid for an order by something that is not among `fields`.

    `most` records can be reached where max_limit is 0; None is all.
    """
    check_terms("pagination.order_by", asked.order_by, limits)
    order = tuple(_order_by(number, by, fields) for number, by in enumerate(asked.order_by))
    end = asked.offset + (asked.limit or PAGE_LIMIT)
    most = asked.max_limit or most
    return Page(asked.offset, end if most is None else min(end, most), order or default, asked)


def combined(first: PaginationSpec | None, second: PaginationSpec | None) -> PaginationSpec:
    """Two places for one thing: each field is that of the first, or of the second where the first leaves it
    out."""
    one, other = first or PaginationSpec(), second or PaginationSpec()
    return PaginationSpec(
        one.offset or other.offset,
        one.limit or other.limit,
        one.order_by or other.order_by,
        one.max_limit or other.max_limit,
    )


def span_of(field: TimeRange | None, name: str) -> Span | None:
    """The span of time; None when it is unset; Invalid when a bound is missing or nothing lies between
    them."""
    if field is None:
        return None
    if field.min is None or field.max is None:
        missing = "min" if field.min is None else "max"
        raise Invalid(f"{name}.{missing} is unset; expected both min and max")
    if field.max <= field.min:
        raise Invalid(
            f"{name} is from {field.min.isoformat()} to {field.max.isoformat()}, which holds no moment;"
            " expected a max after min"
        )
    return Span(field.min.timestamp(), field.max.timestamp())


def instances_of(field: InstanceIdRange | None) -> tuple[int, int]:
    """The first instance and the one after the last; unset is all, {0, 0} is none; Invalid when it runs
    backwards."""
    if field is None:
        return 0, _INSTANCES_MAX
    if field.from_ > field.to:
        raise Invalid(f"range.to is {field.to}, below range.from, {field.from_}; expected from <= to")
    return field.from_, field.to


def states_of(asked: Sequence[int], states: type[S], name: str, limits: Limits) -> frozenset[S]:
    """The states that are asked for; Invalid for one that is none, Exhausted for too many."""
    check_terms(name, asked, limits)
    known = frozenset(states)
    for number in asked:
        if number == 0 or number not in known:
            expected = ", ".join(f"{state.name} ({state.value})" for state in states if state)
            raise Invalid(
                f"{name} has {int(number)}, which is no state to look for; expected some of {expected}"
            )
    return frozenset(states(number) for number in asked)


def check_terms(name: str, terms: Sequence[object], limits: Limits) -> None:
    """Exhausted for more things to look for than one query may have."""
    _check_length(name, terms, limits.query_terms_max, "query_terms_max")


def check_names(name: str, names: Sequence[object], limits: Limits) -> None:
    """Exhausted for more names, any of which will do, than one query may have."""
    _check_length(name, names, limits.query_names_max, "query_names_max")


def _check_length(name: str, entries: Sequence[object], most: int, limit: str) -> None:
    if len(entries) > most:
        raise Exhausted(f"{name} has {len(entries)} entries; at most {most} are accepted (limit {limit})")


def slices(count: int, length: int) -> Iterator[tuple[int, int]]:
    """0 up to `count` in pieces of `length`: first and end of each."""
    return ((first, min(first + length, count)) for first in range(0, count, length))


def _order_by(number: int, by: OrderByMessage, fields: Collection[str]) -> OrderBy:
    where = f"pagination.order_by[{number}]"
    if by.order not in set(OrderByOrder):
        raise Invalid(f"{where}.order is {int(by.order)}; expected ORDER_BY_ASC or ORDER_BY_DESC")
    asked = by.property.value if by.property is not None else ""
    name = asked[:_PROPERTY_MAX]
    for prefix in _OBJECTS:
        name = name.removeprefix(prefix)
    name = _HUMP.sub("_", name).lower()
    if name not in fields:
        raise Invalid(
            f"{where}.property {asked!r} is nothing to sort by; expected one of {', '.join(fields)}"
        )
    return OrderBy(name, by.order == OrderByOrder.BY_DESC)
