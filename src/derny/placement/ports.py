"""The ports of one host: which of its range are free, and which numbers somebody has outside of it.

One rule: a number is taken once and given back once; anything else is a broken promise, an assert. Kept and
written by `placement.hosts`; the engine picks from it. (Behaviour, scheduler §6.8.)
"""

from collections.abc import Sequence


class Ports:
    """The ports of one host: an inclusive range to pick from, and what is taken inside and outside of it.

    `taken` has one bit per port of the range, the lowest port in the lowest bit. A pod may name a static
    port beyond the range; those are few, and kept as a set. Source: behaviour, scheduler §6.8, with static
    ports made a conflict.
    """

    __slots__ = ("first", "last", "outside", "taken")

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self.taken = 0
        self.outside: frozenset[int] = frozenset()

    @property
    def free_count(self) -> int:
        """How many ports of the range are free."""
        return max(self.last - self.first + 1, 0) - self.taken.bit_count()

    def holds(self, number: int) -> bool:
        """Whether `number` is in the range."""
        return self.first <= number <= self.last

    def is_free(self, number: int) -> bool:
        """Whether nobody on this host has `number`, in the range or not."""
        if self.holds(number):
            return not self.taken >> (number - self.first) & 1
        return number not in self.outside

    def take(self, numbers: Sequence[int]) -> None:
        """Marks each of `numbers` taken; none may be taken yet."""
        for number in numbers:
            assert self.is_free(number), f"port {number} is taken already"
            if self.holds(number):
                self.taken |= 1 << (number - self.first)
            else:
                self.outside |= {number}

    def give_back(self, numbers: Sequence[int]) -> None:
        """Marks each of `numbers` free; all must be taken."""
        for number in numbers:
            assert not self.is_free(number), f"port {number} is free already"
            if self.holds(number):
                self.taken ^= 1 << (number - self.first)
            else:
                self.outside -= {number}

    def lowest(self, count: int, besides: Sequence[int] = ()) -> list[int]:
        """The `count` lowest free ports of the range but for `besides`, ascending. They must exist."""
        free = ((1 << (self.last - self.first + 1)) - 1) & ~self.taken
        for number in besides:
            if self.holds(number):
                free &= ~(1 << (number - self.first))
        picked = []
        for _ in range(count):
            assert free, f"fewer than {count} ports are free"
            bit = free & -free
            picked.append(self.first + bit.bit_length() - 1)
            free ^= bit
        return picked

    def used(self) -> list[int]:
        """Every taken number, ascending."""
        taken, numbers = self.taken, list(self.outside)
        while taken:
            bit = taken & -taken
            numbers.append(self.first + bit.bit_length() - 1)
            taken ^= bit
        return sorted(numbers)
