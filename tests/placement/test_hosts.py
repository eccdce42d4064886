"""The host table is an exact account: a debit is gone, a credit is back, and nothing else moves."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from derny.model.ids import HostName
from derny.model.resources import FDS, NOTHING, Resources
from derny.placement.hosts import HostTable

HUGE = 10**12
SHAPE = Resources(cpu=8_000, memory=32_000_000, disk=100_000_000, gpu=2_000, revocable_cpu=4_000)


def a_table(*capacities: Resources, ports: tuple[int, int] = (31000, 31006)) -> HostTable:
    table = HostTable(allocated=1)
    for number, capacity in enumerate(capacities):
        table.add(HostName(f"host-{number}"), capacity, ports)
    return table


def test_rows_are_numbered_by_registration_and_survive_growth() -> None:
    table = a_table(*[Resources(cpu=number) for number in range(1, 100)])
    assert [table.row_of[name] for name in table.name_of] == list(range(99))
    assert table.name_of[42] == "host-42"
    assert [table.capacity(row).cpu for row in range(99)] == list(range(1, 100))
    assert [table.free_ports(row) for row in range(99)] == [7] * 99


def test_each_kind_is_one_contiguous_run_of_int64() -> None:
    table = a_table(SHAPE, SHAPE, SHAPE)
    assert table.free_units.dtype == np.int64
    assert all(row.flags.c_contiguous for row in table.free_units)
    assert table.free_units[:, 1].tolist() == [*SHAPE, FDS]


def test_a_known_name_keeps_its_row_and_its_use() -> None:
    table = a_table(SHAPE, SHAPE)
    table.debit(1, Resources(cpu=3_000), [31000, 31002])
    row = table.add(HostName("host-1"), SHAPE.plus(Resources(cpu=1_000)), (31002, 31003), (("rack", "r1"),))
    assert row == 1
    assert len(table) == 2
    assert table.free(1) == SHAPE.minus(Resources(cpu=2_000))
    assert table.labels[1] == (("hostname", "host-1"), ("rack", "r1"))
    assert table.used_ports(1) == [31000, 31002], (
        "a taken number stays taken when the range moves away from it"
    )
    assert table.free_ports(1) == 1


def test_a_known_name_stays_unplaceable() -> None:
    table = a_table(SHAPE)
    table.set_placeable(0, False)
    table.add(HostName("host-0"), SHAPE)
    assert not table.placeable[0]


def test_a_host_that_shrank_below_its_use_owes_room_until_it_is_credited() -> None:
    table = a_table(SHAPE)
    table.debit(0, Resources(cpu=6_000))
    table.add(HostName("host-0"), Resources(cpu=4_000))
    assert table.free(0).cpu == -2_000
    with pytest.raises(AssertionError, match="less cpu"):
        table.debit(0, Resources(cpu=1))
    table.credit(0, Resources(cpu=6_000))
    assert table.free(0) == Resources(cpu=4_000)


def test_a_debit_beyond_the_room_is_a_broken_promise() -> None:
    table = a_table(SHAPE)
    with pytest.raises(AssertionError, match="less gpu"):
        table.debit(0, Resources(gpu=2_001))
    with pytest.raises(AssertionError, match="less gpu"):
        table.debit_many([0, 0, 0], Resources(gpu=1_000))


def test_a_credit_beyond_the_capacity_is_a_broken_promise() -> None:
    table = a_table(SHAPE)
    with pytest.raises(AssertionError, match="more than it has"):
        table.credit(0, Resources(cpu=1))
    with pytest.raises(AssertionError, match="more than it has"):
        table.credit_many([0], Resources(cpu=1))


@pytest.mark.parametrize("number", [31000, 80])
def test_a_port_is_taken_once_and_given_back_once(number: int) -> None:
    table = a_table(SHAPE)
    table.debit(0, NOTHING, [number])
    with pytest.raises(AssertionError, match="taken already"):
        table.debit(0, NOTHING, [number])
    table.credit(0, NOTHING, [number])
    assert table.used_ports(0) == []
    with pytest.raises(AssertionError, match="free already"):
        table.credit(0, NOTHING, [number])


def test_a_port_outside_of_the_range_leaves_the_range_alone() -> None:
    table = a_table(SHAPE)
    table.debit(0, NOTHING, [80, 31006, 30999])
    assert table.free_ports(0) == table.free_port_counts[0] == 6
    assert table.used_ports(0) == [80, 30999, 31006]


def test_which_hosts_have_a_port_taken_is_kept_up_in_and_out_of_the_range() -> None:
    table = a_table(SHAPE, SHAPE)
    assert table.taken(31005)[:2].tolist() == table.taken(80)[:2].tolist() == [False, False]
    table.debit(1, NOTHING, (31005, 80))
    assert table.taken(31005)[:2].tolist() == table.taken(80)[:2].tolist() == [False, True]
    assert table.taken(31006)[:2].tolist() == [False, False]
    table.credit(1, NOTHING, (31005,))
    assert table.taken(31005)[:2].tolist() == [False, False]
    assert table.taken(80)[:2].tolist() == [False, True]


def test_which_hosts_have_a_port_taken_survives_more_hosts_and_new_ranges() -> None:
    table = a_table(SHAPE)
    table.debit(0, NOTHING, (31005,))
    assert table.taken(31005)[:1].tolist() == [True]
    for number in range(1, 200):
        table.add(HostName(f"more-{number}"), SHAPE, (40000, 40010))
    assert table.taken(31005)[:200].tolist() == [True] + [False] * 199
    assert table.in_range(31005).tolist() == [True] + [False] * 199
    table.add(table.name_of[0], SHAPE, (50000, 50010))
    assert table.in_range(31005).tolist() == [False] * 200
    assert table.taken(31005)[0]


def test_total_capacity_is_that_of_placeable_hosts() -> None:
    table = a_table(SHAPE, SHAPE, SHAPE)
    assert table.total_capacity() == NOTHING.plus(SHAPE, 3)
    table.set_placeable(1, False)
    assert table.total_capacity() == NOTHING.plus(SHAPE, 2)
    table.add(HostName("host-0"), NOTHING)
    assert table.total_capacity() == SHAPE
    table.set_placeable(1, True)
    assert table.total_capacity() == NOTHING.plus(SHAPE, 2)
    assert HostTable().total_capacity() == NOTHING


def test_totals_are_exact_python_integers_fit_for_the_journal() -> None:
    table = a_table(*[Resources(*[HUGE - 1] * 5)] * 50)
    total = table.total_capacity()
    assert total == Resources(*[50 * (HUGE - 1)] * 5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(total), type=Resources) == total
    assert {type(amount) for amount in (*total, *table.free(0), *table.capacity(0))} == {int}


def test_version_grows_exactly_when_room_may_have_grown() -> None:
    table = HostTable()
    seen = [table.version]

    def grew() -> bool:
        seen.append(table.version)
        return seen[-1] > seen[-2]

    table.add(HostName("a"), SHAPE)
    assert grew()
    table.debit(0, Resources(cpu=1), [31000])
    table.debit_many([0], Resources(cpu=1))
    assert not grew()
    table.credit(0, Resources(cpu=1), [31000])
    assert grew()
    table.credit_many([0], Resources(cpu=1))
    assert grew()
    table.set_placeable(0, True)
    table.set_placeable(0, False)
    assert not grew()
    table.set_placeable(0, True)
    assert grew()
    table.add(HostName("a"), SHAPE)
    assert grew()


def test_many_at_once_is_one_by_one() -> None:
    demand, rows = Resources(cpu=500, disk=7), [0, 2, 2, 1, 2]
    numbers = [(31000,), (31000,), (31001, 80), (31000,), (31002,)]
    one, many = a_table(SHAPE, SHAPE, SHAPE), a_table(SHAPE, SHAPE, SHAPE)
    for row, ports in zip(rows, numbers, strict=True):
        one.debit(row, demand, ports)
    many.debit_many(np.array(rows), demand, numbers)
    assert many.free_units.tolist() == one.free_units.tolist()
    assert many.free_port_counts.tolist() == one.free_port_counts.tolist()
    assert [many.used_ports(row) for row in range(3)] == [one.used_ports(row) for row in range(3)]
    many.credit_many(rows, demand, numbers)
    assert [many.free(row) for row in range(3)] == [SHAPE] * 3
    assert [many.used_ports(row) for row in range(3)] == [[]] * 3


@given(st.data())
def test_the_same_debits_give_the_same_masks(data: st.DataObject) -> None:
    takes = data.draw(st.lists(st.integers(30990, 31020), unique=True))
    backs = data.draw(st.lists(st.sampled_from(takes), unique=True)) if takes else []
    tables = [a_table(SHAPE, ports=(31000, 31010)) for _ in range(2)]
    for table in tables:
        for number in takes:
            table.debit(0, NOTHING, [number])
        table.credit(0, NOTHING, backs)
    first, second = (table.ports[0] for table in tables)
    assert (first.taken, first.outside) == (second.taken, second.outside)
    assert first.used() == sorted(set(takes) - set(backs))


amounts = st.builds(Resources, *[st.integers(0, HUGE)] * 5)


class TableAgainstDicts(RuleBasedStateMachine):
    """A table and a naive account in dicts see the same random history and must agree after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.table = HostTable(allocated=1)
        self.capacity: dict[str, Resources] = {}
        self.pods: dict[str, list[tuple[Resources, list[int]]]] = {}
        self.down: set[str] = set()

    def free(self, name: str) -> Resources:
        left = self.capacity[name]
        for demand, _ in self.pods[name]:
            left = left.minus(demand)
        return left

    def used(self, name: str) -> list[int]:
        return sorted(number for _, ports in self.pods[name] for number in ports)

    @rule(name=st.sampled_from("abcdef"), capacity=amounts)
    def register(self, name: str, capacity: Resources) -> None:
        self.table.add(HostName(name), capacity, (10, 15))
        self.capacity[name] = capacity
        self.pods.setdefault(name, [])

    @precondition(lambda self: self.capacity)
    @rule(data=st.data())
    def debit(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.capacity)))
        demand = Resources(*[data.draw(st.integers(0, max(amount, 0))) for amount in self.free(name)])
        numbers = data.draw(st.lists(st.integers(8, 17), unique=True, max_size=3))
        numbers = [number for number in numbers if number not in self.used(name)]
        self.table.debit(self.table.row_of[HostName(name)], demand, numbers)
        self.pods[name].append((demand, numbers))

    @precondition(lambda self: any(self.pods.values()))
    @rule(data=st.data())
    def credit(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, pods in self.pods.items() if pods)))
        demand, numbers = self.pods[name].pop(data.draw(st.integers(0, len(self.pods[name]) - 1)))
        self.table.credit(self.table.row_of[HostName(name)], demand, numbers)

    @precondition(lambda self: self.capacity)
    @rule(data=st.data(), up=st.booleans())
    def set_placeable(self, data: st.DataObject, up: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.capacity)))
        self.table.set_placeable(self.table.row_of[HostName(name)], up)
        (self.down.discard if up else self.down.add)(name)

    @invariant()
    def agrees(self) -> None:
        total = NOTHING
        for name, capacity in self.capacity.items():
            row = self.table.row_of[HostName(name)]
            assert self.table.free(row) == self.free(name)
            assert self.table.capacity(row) == capacity
            assert self.table.used_ports(row) == self.used(name)
            free_ports = 6 - sum(10 <= number <= 15 for number in self.used(name))
            assert self.table.free_ports(row) == self.table.free_port_counts[row] == free_ports
            total = total if name in self.down else total.plus(capacity)
        assert self.table.total_capacity() == total
        assert len(self.table) == len(self.capacity)


TestTableAgainstDicts = TableAgainstDicts.TestCase


def test_a_host_is_held_as_often_as_somebody_comes_back() -> None:
    table = a_table(SHAPE, SHAPE)
    table.hold(1)
    table.hold(1)
    version = table.version
    table.release(1)
    assert (table.holds[:2].tolist(), table.hold_count) == ([0, 1], 1)
    assert table.version > version, "who found no host may find one now"
    table.release(1)
    with pytest.raises(AssertionError, match="not held"):
        table.release(1)


def test_labels_of_a_host_always_have_its_name() -> None:
    table = a_table(SHAPE)
    table.set_labels(0, (("hostname", "other"), ("peloton/exclusive", "x")))
    assert table.labels[0] == (("hostname", "host-0"), ("peloton/exclusive", "x"))
    assert table.exclusive[:1].tolist() == [True]
    assert table.host_labels.counts(("hostname", "host-0")) == {0: 1}
    version = table.version
    table.set_labels(0, (("peloton/exclusive", "x"),))
    assert table.version == version, "nothing has changed"


def test_file_descriptors_are_an_account_of_their_own() -> None:
    table = HostTable()
    table.add(HostName("h"), SHAPE, fds=100)
    table.debit_many([0, 0], NOTHING, (), 40)
    assert table.free_fds(0) == 20
    with pytest.raises(AssertionError, match="less fds"):
        table.debit(0, NOTHING, (), 21)
    table.credit(0, NOTHING, (), 40)
    assert (table.free_fds(0), table.free(0)) == (60, SHAPE)
