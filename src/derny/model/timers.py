"""A timing wheel: many items, each to be handed back at its own time, for the price of a dict look-up.

Time is cut into slots of 10 ms. Items of one slot share a list, and a heap orders the slots, so a timer
costs about a microsecond whether a thousand or a million wait. One rule: nothing is handed back early; it may
be up to one slot late. There is no cancel: an owner that has changed its mind recognises a stale item when it
comes (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987). Called by `core` and by the
simulated agents.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from math import ceil
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

SLOTS_PER_S: Final = 100


class TimingWheel(Generic[Item]):
    """Items in order of their due slot, then of insertion. Times are seconds on the caller's own clock."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Item]] = {}
        self._order: list[int] = []

    def add(self, due: float, item: Item) -> None:
        """Keep `item` until `due`, a finite time; one in the past is handed back by the next `due`."""
        slot = ceil(due * SLOTS_PER_S)
        if slot / SLOTS_PER_S < due:
            slot += 1  # the product was rounded down to a whole slot: without this the item came an ulp early
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = [item]
            heappush(self._order, slot)
        else:
            items.append(item)

    def due(self, now: float) -> list[Item]:
        """Take out all items whose slot has come by `now`."""
        taken: list[Item] = []
        # Slots become times by the same division here and in next_due, so that due(next_due) is never empty.
        while self._order and self._order[0] / SLOTS_PER_S <= now:
            taken += self._slots.pop(heappop(self._order))
        return taken

    @property
    def next_due(self) -> float | None:
        """When `due` has something again; None when nothing waits."""
        return self._order[0] / SLOTS_PER_S if self._order else None

    def __iter__(self) -> Iterator[Item]:
        """All waiting items, slots in no order. For audits."""
        for items in self._slots.values():
            yield from items
