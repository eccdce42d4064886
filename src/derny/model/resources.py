"""The resource vector in whole units, and its sums.

Five kinds in one fixed order: cpu, memory, disk, gpu, revocable cpu. A unit is a thousandth of the wire's
(milli-cpu, milli-MB, milli-gpu), so that sums are exact, can be compared for equality, and replay is equal
to live. The wire's doubles become whole units at the counter and nowhere else. A pod that runs on slack
asks for revocable cpu instead of cpu; its other kinds are ordinary (behaviour, scheduler §6.8).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

KINDS: Final = ("cpu", "gpu", "memory", "disk")
"""The kinds a pool has, spelled as the API spells them, in the order in which usages are listed."""

FDS: Final = 2**40
"""File descriptors of a host that does not say: as good as no bound, like Linux' own for a whole host
(fs.file-max), so that only those who set one feel it."""

MILLI: Final = 1000
"""Our units in one of the wire's."""


class Resources(NamedTuple):
    """An amount of every kind, in thousandths. Never negative."""

    cpu: int = 0
    memory: int = 0
    disk: int = 0
    gpu: int = 0
    revocable_cpu: int = 0

    def plus(self, other: "Resources", times: int = 1) -> "Resources":
        """This amount and `times` the other."""
        cpu, memory, disk, gpu, revocable = other
        return Resources(
            self.cpu + times * cpu,
            self.memory + times * memory,
            self.disk + times * disk,
            self.gpu + times * gpu,
            self.revocable_cpu + times * revocable,
        )

    def minus(self, other: "Resources", times: int = 1) -> "Resources":
        """This amount less `times` the other."""
        return self.plus(other, -times)

    def fits(self, room: "Resources") -> bool:
        """Whether `room` has at least this much of every kind."""
        return all(mine <= its for mine, its in zip(self, room, strict=True))

    def of_kind(self, kind: str) -> int:
        """The amount of one of `KINDS`; revocable cpu is no part of the cpu."""
        return int(getattr(self, kind))


NOTHING: Final = Resources()


def total(parts: Sequence[Resources]) -> Resources:
    """The sum of many amounts, at least one; quicker than adding them one by one."""
    return Resources(*map(sum, zip(*parts, strict=True)))


def whole_units(amount: float) -> int:
    """A wire amount in our units, rounded to the nearest thousandth."""
    return round(amount * MILLI)


def wire_units(amount: int) -> float:
    """Our units as the wire's double."""
    return amount / MILLI
