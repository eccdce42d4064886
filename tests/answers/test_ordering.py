"""Order found a slice at a time is the order of all at once."""

from hypothesis import given
from hypothesis import strategies as st

from derny.answers.ordering import Ranking, part


def ranked(slices: list[list[tuple]], reach: int) -> Ranking:
    ranking: Ranking = Ranking(reach)
    for rows in slices:
        ranking.add([(key, key) for key in rows])
    return ranking


@given(
    rows=st.lists(st.tuples(st.text("ab", max_size=2), st.integers(0, 3))),
    directions=st.tuples(st.booleans(), st.booleans()),
    reach=st.integers(0, 30),
    length=st.integers(1, 7),
)
def test_slices_are_ranked_like_the_whole(
    rows: list[tuple[str, int]], directions: tuple[bool, bool], reach: int, length: int
) -> None:
    ranking: Ranking[int] = Ranking(reach)
    keyed = [
        ((part(text, directions[0]), part(number, directions[1]), place), place)
        for place, (text, number) in enumerate(rows)
    ]
    for first in range(0, len(keyed), length):
        ranking.add(keyed[first : first + length])
    # The obvious way: stable sorts, the least significant key first.
    expected = sorted(range(len(rows)), key=lambda place: rows[place][1], reverse=directions[1])
    if directions[1]:
        expected = sorted(range(len(rows)), key=lambda place: (-rows[place][1], place))
    expected = _stable(expected, lambda place: rows[place][0], directions[0])
    assert list(ranking.items()) == expected[:reach]
    assert ranking.total == len(rows)


def _stable(items: list[int], key, descending: bool) -> list[int]:
    """Equals keep their order, also in a descending sort."""
    ranks = {value: number for number, value in enumerate(sorted({key(item) for item in items}))}
    return sorted(items, key=lambda item: -ranks[key(item)] if descending else ranks[key(item)])


def test_no_more_than_the_reach_is_kept_of_a_slice() -> None:
    ranking = ranked([[(5,), (1,), (3,)], [(2,), (4,), (0,)]], 2)
    assert list(ranking.items()) == [(0,), (1,)]
    assert ranking.total == 6


def test_a_reach_of_nothing_still_counts() -> None:
    ranking = ranked([[(5,), (1,)]], 0)
    assert (list(ranking.items()), ranking.total) == ([], 2)
