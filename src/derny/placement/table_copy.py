"""A copy of the host table, to look at while the table itself goes on, and to try placements on.

One rule: what is written there is never seen in the original, nor what is written in the original here. The
columns are copied, which takes a millisecond for ten thousand hosts; of labels, what the copy is to be asked
about; ports of a host once somebody takes one. Called by `core` for explanations, which a thread may make of
it, and for dry runs.
"""

from collections.abc import Collection, Iterable, Sequence
from copy import copy

from derny.placement.constraints import host_labels, pod_labels
from derny.placement.filters import IN_STATELESS_POOL, Ask
from derny.placement.hosts import HostTable
from derny.placement.labels import Label


class TableCopy(HostTable):
    """The table as it was, for pods that ask for `asks` and carry `carried`."""

    def __init__(self, table: HostTable, asks: Iterable[Ask], carried: Collection[Label] = ()) -> None:
        super().__init__(0)
        constraints = [IN_STATELESS_POOL, *(ask.constraint for ask in asks)]
        of_hosts = dict.fromkeys(label for each in constraints for label in host_labels(each))
        of_pods = dict.fromkeys(label for each in constraints for label in pod_labels(each))
        self.row_of = table.row_of
        self.name_of = table.name_of.copy()
        self.labels = table.labels.copy()
        self.host_labels = table.host_labels.copied(of_hosts)
        self.pod_labels = table.pod_labels.copied(of_pods | dict.fromkeys(carried))
        self.ports = table.ports.copy()
        self.capacity_units = table.capacity_units.copy()
        self.free_units = table.free_units.copy()
        self.free_port_counts = table.free_port_counts.copy()
        self.port_ranges = table.port_ranges.copy()
        self.placeable = table.placeable.copy()
        self.exclusive = table.exclusive.copy()
        self.holds = table.holds.copy()
        self.hold_count = table.hold_count
        self.version = table.version
        self._total = table.total_capacity()

    def _take_ports(self, row: int, numbers: Sequence[int]) -> None:
        self.ports[row] = copy(self.ports[row])
        super()._take_ports(row, numbers)

    def _give_back_ports(self, row: int, numbers: Sequence[int]) -> None:
        self.ports[row] = copy(self.ports[row])
        super()._give_back_ports(row, numbers)
