"""The host table: what every host has, what is free of it, which ports are taken, and which labels it has.

One contiguous numpy row per kind of resource, in the order of `Resources`, and one for file descriptors; one
column per host, in the order of registration; that layout lets the engine ask one question of all hosts at
once. All amounts are whole numbers in int64, thousandths but for file descriptors, so that free room is exact
and a replay of the same debits gives the same table.

The one rule: the engine only reads; what has been decided is written by `core`, when it applies an event,
through `debit` and `credit`. A debit beyond the free room or a credit beyond the capacity is a broken
promise: an assert.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from derny.model.ids import HostName
from derny.model.resources import FDS, NOTHING, Resources
from derny.model.specs import Labels
from derny.placement.labels import EXCLUSIVE, HOSTNAME, HostLabels, PodLabels
from derny.placement.ports import Ports

_TAKEN_MAX: Final = 1000
"""Static ports that are kept count of: a byte each for every host."""

KINDS: Final = (*Resources._fields, "fds")
"""What each row of amounts is of."""

Rows = Sequence[int] | NDArray[np.int64]


class HostTable:
    """All hosts as columns; a host's row is its place in the order of registration, for ever.

    The arrays are longer than the table: only the first `len(table)` entries mean something. `free_units`,
    `capacity_units`: int64, shape (6, allocated), by `KINDS`. `placeable`, `exclusive`: bool, shape
    (allocated,). `holds`: int64, shape (allocated,), how many pods the host is kept for: others stay off it
    (behaviour, scheduler §6.10). `free_port_counts`: int64, shape (allocated,). `port_ranges`: int64, shape
    (2, allocated), inclusive ends. `ports`, `labels`: one item per host. `open_to` keeps which hosts are
    of a sort that is for which pods (`filters.open_hosts`), until a host changes. `version` grows whenever
    room may have grown, so that "no host" can be remembered until it does.
    """

    def __init__(self, allocated: int = 64) -> None:
        self.row_of: dict[HostName, int] = {}
        self.name_of: list[HostName] = []
        self.labels: list[Labels] = []
        self.host_labels = HostLabels()
        self.pod_labels = PodLabels()
        self.ports: list[Ports] = []
        self.capacity_units = np.zeros((len(KINDS), allocated), np.int64)
        self.free_units = np.zeros((len(KINDS), allocated), np.int64)
        self.free_port_counts = np.zeros(allocated, np.int64)
        self.port_ranges = np.zeros((2, allocated), np.int64)
        self._taken: dict[int, NDArray[np.bool_]] = {}
        self.placeable = np.zeros(allocated, np.bool_)
        self.exclusive = np.zeros(allocated, np.bool_)
        self.holds = np.zeros(allocated, np.int64)
        self.hold_count = 0
        self.open_to: dict[tuple[bool, bool, bool], NDArray[np.bool_] | None] = {}
        self.version = 0
        self._total: Resources | None = NOTHING

    def __len__(self) -> int:
        return len(self.name_of)

    def add(
        self,
        name: HostName,
        capacity: Resources,
        ports: tuple[int, int] = (31000, 32000),
        labels: Labels = (),
        fds: int = FDS,
    ) -> int:
        """Registers a host, placeable, and returns its row. `ports` is an inclusive range.

        A known name keeps its row, its use and whether it is placeable; its capacity, ports and labels are
        renewed. When an agent comes back with less than is in use, the free amounts are negative until
        enough is credited.
        """
        row = self.row_of.get(name)
        if row is None:
            row = self._new_row(name)
        has = np.array((*capacity, fds), np.int64)
        self.free_units[:, row] += has - self.capacity_units[:, row]
        self.capacity_units[:, row] = has
        self.set_labels(row, labels)
        self._set_port_range(row, ports)
        self.open_to.clear()
        self._total = None
        self.version += 1
        return row

    def _new_row(self, name: HostName) -> int:
        row = len(self.name_of)
        if row == self.placeable.size:
            # Doubling keeps the cost of a registration constant on average.
            more = max(row, 1)
            wider = ((0, 0), (0, more))
            self.capacity_units = np.pad(self.capacity_units, wider)
            self.free_units = np.pad(self.free_units, wider)
            self.free_port_counts = np.pad(self.free_port_counts, (0, more))
            self.port_ranges = np.pad(self.port_ranges, wider)
            self.placeable = np.pad(self.placeable, (0, more))
            self.exclusive = np.pad(self.exclusive, (0, more))
            self.holds = np.pad(self.holds, (0, more))
        self.row_of[name] = row
        self.name_of.append(name)
        self.labels.append(())
        self.ports.append(Ports(1, 0))
        self.placeable[row] = True
        return row

    def hold(self, row: int) -> None:
        """Keeps the host for one more pod that shall come back to it."""
        self.holds[row] += 1
        self.hold_count += 1

    def release(self, row: int) -> None:
        """One of the pods that the host was kept for needs it no longer."""
        assert self.holds[row] > 0, f"{self.name_of[row]} is not held"
        self.holds[row] -= 1
        self.hold_count -= 1
        self.version += 1

    def _set_port_range(self, row: int, ports: tuple[int, int]) -> None:
        used = self.ports[row].used()
        renewed = Ports(*ports)
        renewed.take(used)
        self.port_ranges[:, row] = ports
        self._taken.clear()
        self.ports[row] = renewed
        self.free_port_counts[row] = renewed.free_count

    def taken(self, number: int) -> NDArray[np.bool_]:
        """On which hosts somebody has this port; shape (allocated,).

        Asked for a static port, which is seldom; counted once, and kept up from then on.
        """
        column = self._taken.get(number)
        if column is None:
            if len(self._taken) >= _TAKEN_MAX:
                self._taken.clear()
            column = self._taken[number] = np.zeros(self.placeable.size, np.bool_)
            column[: len(self)] = [not ports.is_free(number) for ports in self.ports]
        return column

    def in_range(self, number: int) -> NDArray[np.bool_]:
        """On which hosts this port is one of those to pick from; shape (hosts,)."""
        first, last = self.port_ranges[0, : len(self)], self.port_ranges[1, : len(self)]
        return (first <= number) & (number <= last)

    def set_labels(self, row: int, labels: Labels) -> None:
        """What constraints see of the host, from now on; a pod that found no host may find one now. The
        host's name is there in any case, under the key `hostname`."""
        name = self.name_of[row]
        renewed = ((HOSTNAME, name), *(label for label in labels if label[0] != HOSTNAME))
        if renewed == self.labels[row]:
            return
        self.host_labels.renew(row, self.labels[row], renewed)
        self.labels[row] = renewed
        self.exclusive[row] = any(key == EXCLUSIVE for key, _value in renewed)
        self.open_to.clear()
        self.version += 1

    def set_placeable(self, row: int, placeable: bool) -> None:
        """Whether pods may be placed on the host: it is up, neither lost nor draining."""
        if bool(self.placeable[row]) == placeable:
            return
        self.placeable[row] = placeable
        self._total = None
        self.version += placeable

    def debit(self, row: int, demand: Resources, ports: Sequence[int] = (), fds: int = 0) -> None:
        """Takes one pod's demand, port numbers and file descriptors from the host."""
        for kind, amount in enumerate((*demand, fds)):
            if amount:
                left = int(self.free_units[kind, row]) - amount
                assert left >= 0, f"{self.name_of[row]} has less {KINDS[kind]} than {amount}"
                self.free_units[kind, row] = left
        if ports:
            self._take_ports(row, ports)

    def credit(self, row: int, demand: Resources, ports: Sequence[int] = (), fds: int = 0) -> None:
        """Gives one pod's demand, port numbers and file descriptors back to the host."""
        for kind, amount in enumerate((*demand, fds)):
            if amount:
                free = int(self.free_units[kind, row]) + amount
                assert free <= self.capacity_units[kind, row], (
                    f"{self.name_of[row]} would have more than it has"
                )
                self.free_units[kind, row] = free
        if ports:
            self._give_back_ports(row, ports)
        self.version += 1

    def debit_many(
        self, rows: Rows, demand: Resources, ports: Sequence[Sequence[int]] = (), fds: int = 0
    ) -> None:
        """Takes the same demand and file descriptors once for every item of `rows`, which may repeat.

        `ports` is empty, or has the port numbers of each pod, parallel to `rows`.
        """
        index = np.asarray(rows, np.int64)
        for kind, amount in enumerate((*demand, fds)):
            if amount:
                free = self.free_units[kind]
                np.subtract.at(free, index, amount)
                assert (free[index] >= 0).all(), f"a host has less {KINDS[kind]} than is debited"
        for row, numbers in zip(rows, ports, strict=bool(ports)):
            self._take_ports(int(row), numbers)

    def credit_many(
        self, rows: Rows, demand: Resources, ports: Sequence[Sequence[int]] = (), fds: int = 0
    ) -> None:
        """Gives the same back once for every item of `rows`; the reverse of `debit_many`."""
        index = np.asarray(rows, np.int64)
        for kind, amount in enumerate((*demand, fds)):
            if amount:
                free = self.free_units[kind]
                np.add.at(free, index, amount)
                assert (free[index] <= self.capacity_units[kind, index]).all(), (
                    "a host would have more than it has"
                )
        for row, numbers in zip(rows, ports, strict=bool(ports)):
            self._give_back_ports(int(row), numbers)
        self.version += 1

    def _take_ports(self, row: int, numbers: Sequence[int]) -> None:
        self.ports[row].take(numbers)
        self._note_taken(row, numbers, True)
        self.free_port_counts[row] = self.ports[row].free_count

    def _give_back_ports(self, row: int, numbers: Sequence[int]) -> None:
        self.ports[row].give_back(numbers)
        self._note_taken(row, numbers, False)
        self.free_port_counts[row] = self.ports[row].free_count

    def _note_taken(self, row: int, numbers: Sequence[int], taken: bool) -> None:
        for number in numbers:
            if (column := self._taken.get(number)) is not None:
                column[row] = taken

    def free(self, row: int) -> Resources:
        """What is free on the host."""
        return Resources(*self.free_units[:-1, row].tolist())

    def free_fds(self, row: int) -> int:
        """How many file descriptors are free on the host."""
        return int(self.free_units[-1, row])

    def capacity(self, row: int) -> Resources:
        """What the host has in all."""
        return Resources(*self.capacity_units[:-1, row].tolist())

    def free_ports(self, row: int) -> int:
        """How many ports of the host's range are free."""
        return self.ports[row].free_count

    def used_ports(self, row: int) -> list[int]:
        """Every taken port number of the host, ascending."""
        return self.ports[row].used()

    def total_capacity(self) -> Resources:
        """What all placeable hosts have in all. int64 holds the sum of nine million hosts of 10**12 each."""
        if self._total is None:
            count = len(self)
            up = self.placeable[:count]
            self._total = Resources(*self.capacity_units[:-1, :count][:, up].sum(axis=1).tolist())
        return self._total
