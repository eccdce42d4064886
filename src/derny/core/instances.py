"""Sets of instance numbers, packed: ascending ranges, each as two 32-bit numbers, both ends included.

One rule: eight bytes a range, however many instances it spans, since a job of 100,000 pods keeps such sets
for each of its last workflows. Sets are made of ascending numbers; two sets are joined by joining their bytes
when all of the second follow all of the first. Called by `core.workflows`, `core.workflow_log` and the
queries.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from struct import Struct

_RANGE = Struct("<II")

NUMBER_MAX = 2**32 - 1

Range = tuple[int, int]
"""The first and the last instance."""


def packed(instances: Iterable[int]) -> bytes:
    """The set of these instances, which must ascend."""
    found = bytearray()
    first = last = -2
    for instance in instances:
        if instance != last + 1:
            if first >= 0:
                found += _RANGE.pack(first, last)
            first = instance
        last = instance
    if first >= 0:
        found += _RANGE.pack(first, last)
    return bytes(found)


def span(first: int, end: int) -> bytes:
    """The set of the instances from `first` up to and without `end`."""
    return _RANGE.pack(first, end - 1) if first < end else b""


def ranges(data: bytes) -> list[Range]:
    """The ranges of a set, as few as can be."""
    found: list[Range] = []
    for first, last in _RANGE.iter_unpack(data):
        if found and found[-1][1] + 1 == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def add(found: list[Range], instance: int) -> None:
    """Put an instance at the end of ranges, all of which it follows."""
    if found and found[-1][1] + 1 == instance:
        found[-1] = found[-1][0], instance
    else:
        found.append((instance, instance))


def size(data: bytes) -> int:
    """How many instances are in a set."""
    return sum(last - first + 1 for first, last in _RANGE.iter_unpack(data))


def contains(data: bytes, instance: int) -> bool:
    """Whether an instance is in a set."""
    return any(first <= instance <= last for first, last in _RANGE.iter_unpack(data))


def merged(asked: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges without their ends, in order, what overlaps or touches made one."""
    found: list[Range] = []
    for first, end in sorted(asked):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((first, end))
    return tuple(found)


def within(asked: Sequence[Range], first: int, end: int) -> list[int]:
    """The instances of merged ranges (without their ends) from `first` up to and without `end`."""
    # Found by halving: a restart of every other pod has half as many ranges, and is planned slice by slice.
    nearest = max(bisect_left(asked, (first,)) - 1, 0)
    return [
        instance
        for low, high in asked[nearest : bisect_left(asked, (end,))]
        for instance in range(max(low, first), min(high, end))
    ]
