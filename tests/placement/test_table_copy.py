"""Copies of the host table answer as it does, and neither sees what is written in the other."""

from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import HostName, JobId
from derny.model.resources import Resources
from derny.model.rules import Rules
from derny.model.specs import Condition, Labels, PortRequest
from derny.placement.engine import place
from derny.placement.explain import explain
from derny.placement.filters import Ask
from derny.placement.hosts import HostTable
from derny.placement.table_copy import TableCopy
from slow_constraints import every, on_host, on_pods

JOB = JobId("j")
WEB: Labels = (("app", "web"),)
ASK = Ask(
    Resources(cpu=1000),
    (PortRequest("a"), PortRequest("b", 80)),
    constraint=every(
        on_host(Condition.EQUAL, "rack", "r1", 1), on_pods(Condition.LESS_THAN, "app", "web", 1)
    ),
    labels=WEB,
)
RULES = Rules()


def a_table(hosts: int = 4) -> HostTable:
    table = HostTable(1)
    for number in range(hosts):
        table.add(HostName(f"h{number}"), Resources(cpu=4000), (31000, 31003), (("rack", f"r{number % 2}"),))
    table.pod_labels.add(JOB, WEB, [1], [0])
    assert table.pod_labels.uncounted(WEB) == (WEB[0], JOB, 0)
    table.pod_labels.count(WEB[0], JOB, [1])
    table.debit(1, Resources(cpu=1000), [31000])
    return table


def test_a_copy_places_and_explains_as_the_table_does() -> None:
    table = a_table()
    copy = TableCopy(table, [ASK], WEB)
    assert place(copy, ASK, 3, RULES, 1) == place(table, ASK, 3, RULES, 1)
    assert place(copy, ASK, 1, RULES).rows == [3]
    assert explain(copy, ASK, RULES, names=9) == explain(table, ASK, RULES, names=9)


def test_what_is_written_in_one_is_not_seen_in_the_other() -> None:
    table = a_table()
    copy = TableCopy(table, [ASK], WEB)
    copy.debit(3, Resources(cpu=4000), [31000, 80])
    copy.debit_many([0, 0], Resources(cpu=1), [[31000], [31001]])
    copy.credit(1, Resources(cpu=1000), [31000])
    copy.pod_labels.add(JOB, WEB, [3], [1])
    copy.pod_labels.remove(JOB, WEB, 1, 0)
    assert table.free_units[0, :4].tolist() == [4000, 3000, 4000, 4000]
    assert [table.used_ports(row) for row in range(4)] == [[], [31000], [], []]
    assert table.free_port_counts[:4].tolist() == [4, 3, 4, 4]
    assert dict(table.pod_labels.counts(WEB[0])) == {1: 1}
    assert not table.taken(80)[:4].any()
    table.add(HostName("late"), Resources(cpu=9000), labels=(("rack", "r1"),))
    table.set_placeable(1, False)
    table.hold(2)
    assert len(copy) == 4
    assert not place(copy, ASK, 9, RULES).rows or place(copy, ASK, 9, RULES).rows == [1]
    assert copy.holds[2] == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_a_copy_of_a_copy_goes_on_from_there(debits: list[tuple[int, int]]) -> None:
    table = a_table()
    copy = TableCopy(table, [ASK], WEB)
    for row, port in debits:
        if copy.ports[row].is_free(31000 + port):
            copy.debit(row, Resources(cpu=1), [31000 + port])
    again = TableCopy(copy, [ASK], WEB)
    assert [again.used_ports(row) for row in range(4)] == [copy.used_ports(row) for row in range(4)]
    assert (again.free_units == copy.free_units).all()
    assert [table.used_ports(row) for row in range(4)] == [[], [31000], [], []]
