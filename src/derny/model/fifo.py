"""A queue by priority: higher numbers first, first in first out inside one.

One rule: what is not used costs nothing. An item costs one entry of a dict, a priority one dict more, and the
first in line is found without looking at the others. Used by `model.records` for the gangs that wait in a
pool. (Behaviour, scheduler §3.2.)
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class PriorityFifo(Generic[T]):
    """Items, each once. Iterating goes in the order in which they are served."""

    __slots__ = ("_ascending", "_lines")

    def __init__(self) -> None:
        self._lines: dict[int, OrderedDict[T, None]] = {}
        self._ascending: list[int] = []
        """The priorities in use."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[T]:
        for priority in reversed(self._ascending):
            yield from self._lines[priority]

    def lines(self) -> Iterator[tuple[int, OrderedDict[T, None]]]:
        """All who wait, by priority, the highest first."""
        for priority in reversed(self._ascending):
            yield priority, self._lines[priority]

    def add(self, priority: int, *items: T) -> None:
        """Let items wait behind all others of their priority."""
        line = self._lines.get(priority)
        if line is None:
            line = self._lines[priority] = OrderedDict()
            insort(self._ascending, priority)
        line.update(dict.fromkeys(items))

    def remove(self, priority: int, *items: T) -> None:
        """Take items out; an emptied priority goes too.

        The priority says where to look first: an item keeps the place that it has taken even if its priority
        was changed since.
        """
        for item in items:
            found, line = priority, self._lines.get(priority)
            if line is None or item not in line:
                found, line = next(entry for entry in self._lines.items() if item in entry[1])
            del line[item]
            if not line:
                del self._lines[found]
                del self._ascending[bisect_left(self._ascending, found)]

    def front(self) -> tuple[int, OrderedDict[T, None]]:
        """The highest priority and all who wait in it, the first first; somebody must be waiting."""
        priority = self._ascending[-1]
        return priority, self._lines[priority]
