"""Sums of resources are exact, in whole thousandths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import amounts
from derny.model.resources import KINDS, NOTHING, Resources, whole_units, wire_units

vectors = st.builds(Resources, *[st.integers(0, 10**12)] * 5)


@given(vectors, vectors, st.integers(0, 1000))
def test_what_is_added_so_many_times_is_taken_away_again_exactly(
    one: Resources, other: Resources, times: int
) -> None:
    assert one.plus(other, times).minus(other, times) == one
    assert one.plus(other, 3) == one.plus(other).plus(other).plus(other)


@given(vectors, vectors)
def test_an_amount_fits_when_no_kind_is_short(demand: Resources, room: Resources) -> None:
    assert demand.fits(room) == (min(room.minus(demand)) >= 0)


def test_one_kind_that_is_short_is_enough_not_to_fit() -> None:
    room = amounts(4, 4, 4, 4, 4)
    for kind in range(5):
        short = Resources(*(4001 if kind == other else 0 for other in range(5)))
        assert not short.fits(room)
    assert room.fits(room)
    assert NOTHING.fits(NOTHING)


def test_kinds_are_those_of_a_pool_without_the_revocable_cpu() -> None:
    assert KINDS == ("cpu", "gpu", "memory", "disk")
    assert [amounts(1, 2, 3, 4, 5).of_kind(kind) for kind in KINDS] == [1000, 4000, 2000, 3000]


@pytest.mark.parametrize(
    ("wire", "units"), [(0.1, 100), (0.0004, 0), (0.0006, 1), (2.5, 2500), (1e9, 10**12), (0.1 + 0.2, 300)]
)
def test_the_wires_doubles_become_the_nearest_thousandth(wire: float, units: int) -> None:
    assert whole_units(wire) == units


@given(st.integers(0, 10**12))
def test_whole_units_survive_the_wire(units: int) -> None:
    assert whole_units(wire_units(units)) == units
