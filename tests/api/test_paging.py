"""Pages, orders and spans of time, as clients spell them."""

from datetime import UTC, datetime

import pytest

from derny.answers.job_query import Span
from derny.answers.ordering import OrderBy
from derny.api import paging
from derny.model.errors import Exhausted, Invalid
from derny.model.periods import Limits
from derny.model.states import PodState
from derny.proto.peloton.api.v1alpha.peloton import TimeRange
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange
from derny.proto.peloton.api.v1alpha.query import OrderBy as OrderByMessage
from derny.proto.peloton.api.v1alpha.query import OrderByOrder, Pagination, PaginationSpec, PropertyPath

FIELDS = ["creation_time", "instance_id", "name"]
ASC, DESC = OrderByOrder.BY_ASC, OrderByOrder.BY_DESC


def page(asked: PaginationSpec, most: int | None = 100) -> paging.Page:
    return paging.page_of(asked, FIELDS, (OrderBy("name"),), most, Limits(query_terms_max=3))


def order(*keys: tuple[str, int]) -> tuple[OrderBy, ...]:
    asked = [OrderByMessage(direction, PropertyPath(name)) for name, direction in keys]  # type: ignore[arg-type]  # also ones that are none
    return page(PaginationSpec(order_by=asked)).order


@pytest.mark.parametrize(
    "asked, expected",
    [
        (PaginationSpec(), (0, 10)),
        (PaginationSpec(limit=25), (0, 25)),
        (PaginationSpec(offset=5), (5, 15)),
        (PaginationSpec(offset=95), (95, 100)),
        (PaginationSpec(limit=1000), (0, 100)),
        (PaginationSpec(limit=1000, max_limit=500), (0, 500)),
        (PaginationSpec(limit=10, max_limit=3), (0, 3)),
        (PaginationSpec(offset=200), (200, 100)),
    ],
)
def test_a_page_has_10_records_unless_it_says_more_and_ends_where_max_limit_does(asked, expected):
    found = page(asked)
    assert (found.first, found.end) == expected
    assert found.told(7) == Pagination(asked.offset, asked.limit, 7)


def test_without_a_default_everything_can_be_reached():
    assert page(PaginationSpec(limit=10**6), None).end == 10**6
    assert page(PaginationSpec(limit=10**6, max_limit=5), None).end == 5


@pytest.mark.parametrize(
    "name", ["instance_id", "instanceId", "status.instance_id", "runtime.instanceId", "InstanceId"]
)
def test_properties_have_the_spellings_that_clients_use(name):
    assert order((name, ASC)) == (OrderBy("instance_id", False),)


def test_an_order_is_ascending_unless_it_says_otherwise_and_has_a_default():
    assert order(("name", 0), ("config.name", ASC), ("runtime.creationTime", DESC)) == (
        OrderBy("name"),
        OrderBy("name"),
        OrderBy("creation_time", True),
    )
    assert order() == (OrderBy("name"),)


@pytest.mark.parametrize("name", ["", "colour", "name.first", "nam"])
def test_an_order_by_something_else_is_refused_with_what_there_is(name):
    with pytest.raises(Invalid, match=r"order_by\[0\].property .* one of creation_time, instance_id, name"):
        order((name, ASC))


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(Invalid, match=r"order_by\[1\].order is 7"):
        order(("name", ASC), ("name", 7))


def test_more_keys_than_a_query_may_have_are_refused():
    with pytest.raises(Exhausted, match="query_terms_max"):
        order(*[("name", ASC)] * 4)


def test_two_paginations_are_laid_over_each_other_field_by_field():
    by = [OrderByMessage(ASC, PropertyPath("name"))]
    one, other = PaginationSpec(limit=5), PaginationSpec(offset=2, limit=7, order_by=by, max_limit=9)
    assert paging.combined(one, other) == PaginationSpec(2, 5, by, 9)
    assert paging.combined(None, other) == other
    assert paging.combined(one, None) == one
    assert paging.combined(None, None) == PaginationSpec()


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def test_a_span_of_time_is_in_seconds_since_the_epoch():
    assert paging.span_of(TimeRange(at(5), at(7.5)), "x") == Span(5, 7.5)
    assert paging.span_of(None, "x") is None


@pytest.mark.parametrize(
    "asked, said",
    [
        (TimeRange(), "x.min is unset"),
        (TimeRange(min=at(5)), "x.max is unset"),
        (TimeRange(max=at(5)), "x.min is unset"),
        (TimeRange(at(5), at(5)), "holds no moment"),
        (TimeRange(at(5), at(4)), "holds no moment"),
    ],
)
def test_a_span_that_is_none_is_refused(asked, said):
    with pytest.raises(Invalid, match=said):
        paging.span_of(asked, "x")


def test_states_are_those_of_the_contract():
    limits = Limits(query_terms_max=3)
    assert paging.states_of([9, 10, 9], PodState, "x", limits) == {PodState.RUNNING, PodState.SUCCEEDED}
    for wrong in (0, 99):
        with pytest.raises(Invalid, match=rf"x has {wrong}, .* RUNNING \(9\)"):
            paging.states_of([9, wrong], PodState, "x", limits)
    with pytest.raises(Exhausted, match=r"x has 4 entries.*query_terms_max"):
        paging.states_of([9] * 4, PodState, "x", limits)


def test_more_names_than_a_query_may_have_are_refused():
    limits = Limits(query_names_max=3)
    paging.check_names("hosts", ["a"] * 3, limits)
    with pytest.raises(Exhausted, match=r"hosts has 4 entries; at most 3 .*query_names_max"):
        paging.check_names("hosts", ["a"] * 4, limits)


def test_a_range_of_instances_is_half_open():
    assert paging.instances_of(InstanceIdRange(2, 5)) == (2, 5)
    assert paging.instances_of(InstanceIdRange(0, 0)) == (0, 0)
    assert paging.instances_of(None) == (0, 2**32)
    with pytest.raises(Invalid, match=r"to is 2, below range\.from, 5"):
        paging.instances_of(InstanceIdRange(5, 2))


def test_slices_cover_all_once():
    assert list(paging.slices(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert list(paging.slices(0, 3)) == []
