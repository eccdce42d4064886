"""Order over many entities, found a slice at a time: sort keys, and a ranking that never sorts all at once.

One rule: no step takes longer than a slice does. A slice is sorted by itself and cut to what pages can
reach; slices are merged lazily, so that whoever reads a page can pause between two items. Called by
`answers.job_query` and `answers.pod_query` for keys, and by the queries of `api` for pages.
"""

from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
Key = tuple[Any, ...]


class OrderBy(NamedTuple):
    """One key of a sort order."""

    field: str
    descending: bool = False


class _Descending:
    """A text among the keys of a descending order."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: "_Descending") -> bool:
        return other.text < self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and other.text == self.text


def part(value: float | str, descending: bool) -> Any:
    """What stands for the value in a key."""
    if not descending:
        return value
    return _Descending(value) if isinstance(value, str) else -value


class Ranking(Generic[T]):
    """The first `reach` of all items by key, and how many there are. Keys must differ from each other."""

    def __init__(self, reach: int) -> None:
        self.total = 0
        self._reach = reach
        self._runs: list[list[tuple[Key, T]]] = []

    def add(self, rows: list[tuple[Key, T]]) -> None:
        """Rank a slice, which is sorted in place."""
        self.total += len(rows)
        rows.sort(key=itemgetter(0))
        del rows[self._reach :]
        if rows:
            self._runs.append(rows)

    def items(self) -> Iterator[T]:
        """The items in order, found as they are asked for."""
        for number, (_key, item) in enumerate(merge(*self._runs, key=itemgetter(0))):
            if number >= self._reach:
                return
            yield item
