"""Who would give back to whom: the divisions of user guides and hand-made ones."""

from derny.capacity.entitlement import Division, divide
from derny.capacity.loans import LENDERS, NAMED, gets_back_from, gives_back_to, lent
from derny.model.specs import PoolResource


def three(*needs: int, reservation: int = 20, limit: int = 100) -> Division:
    """The user guide's three pools, of which each reserves 20 of 100."""
    return divide(100, [PoolResource("cpu", reservation, limit)] * 3, list(needs))


def test_what_a_pool_does_not_need_of_its_reservation_is_lent() -> None:
    division = three(10, 80, 80)
    assert division.totals == [10, 45, 45]
    assert [lent(division, pool) for pool in range(3)] == [10, 0, 0]


def test_a_lender_would_get_back_from_those_who_hold_most_too_much() -> None:
    division, held = three(10, 80, 80), [10, 45, 43]
    assert gets_back_from(division, 0, held) == [(1, 5), (2, 3)]
    assert gives_back_to(division, 1, held) == [(0, 5)]
    assert gives_back_to(division, 2, held) == [(0, 3)]
    assert gets_back_from(division, 1, held) == []
    assert gives_back_to(division, 0, held) == []


def test_those_who_wait_already_come_first() -> None:
    """The guide's third figure: the first pool has come to want 50, the others still hold 45 each."""
    division, held = three(50, 80, 80), [10, 45, 45]
    assert division.totals == [33, 33, 33]
    assert gives_back_to(division, 1, held) == [(0, 12)]
    assert gives_back_to(division, 0, held) == []


def test_who_holds_no_more_than_its_reservation_gives_nothing_back() -> None:
    assert gives_back_to(three(10, 20, 80), 1, [10, 20, 70]) == []


def test_what_nobody_needs_is_nobodys_debt() -> None:
    assert gets_back_from(three(0, 30, 0), 0, [0, 30, 0]) == []
    assert gives_back_to(three(0, 30, 0), 1, [0, 30, 0]) == []


def test_a_static_reservation_is_never_lent() -> None:
    static = PoolResource("cpu", 40, 100, static=True)
    division = divide(100, [static, PoolResource("cpu", 0, 100)], [0, 99])
    assert lent(division, 0) == 0
    assert gives_back_to(division, 1, [0, 60]) == []


def test_what_is_held_too_much_already_is_owed_once() -> None:
    """The second pool took all before the third asked: 35 are the third's, 5 the first could recall."""
    division, held = three(10, 80, 80), [10, 80, 10]
    assert gives_back_to(division, 1, held) == [(2, 35), (0, 5)]
    assert gets_back_from(division, 0, held) == [(1, 5)]


def test_of_many_that_wait_the_largest_are_named() -> None:
    """The first holds all; of the others each waits for the reservation of one more than the one before."""
    parts = [PoolResource("cpu", number, 1000) for number in range(50)]
    division = divide(2000, parts, [2000, *range(1, 50)])
    found = gives_back_to(division, 0, [2000] + [0] * 49)
    assert found == [(number, number) for number in range(49, 49 - NAMED, -1)]


def test_of_many_lenders_the_largest_are_asked() -> None:
    parts = [PoolResource("cpu", 0, 1000), *(PoolResource("cpu", number, 1000) for number in range(1, 9))]
    division = divide(36, parts, [36] + [0] * 8)
    found = gives_back_to(division, 0, [36] + [0] * 8)
    assert found == [(number, number) for number in range(8, 8 - LENDERS, -1)]
