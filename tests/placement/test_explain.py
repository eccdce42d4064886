"""Explanations name every reason, and each change that they propose would do."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from derny.model.ids import HostName, JobId
from derny.model.resources import NOTHING, Resources
from derny.model.rules import Policy, Rules
from derny.model.specs import AndConstraint, Condition, Constraint, Labels, PortRequest
from derny.placement.constraints import clauses, described, pod_labels
from derny.placement.engine import place
from derny.placement.explain import Change, Refusal, explain
from derny.placement.filters import Ask, Reason
from derny.placement.hosts import KINDS, HostTable
from slow_constraints import constraints, every, label_lists, on_host, on_pods

JOB = JobId("j")
RULES = Rules(Policy.SPREAD, scarce_gpu=True)
R2 = on_host(Condition.EQUAL, "rack", "r2", 1)
ALONE = on_pods(Condition.LESS_THAN, "app", "web", 1)
WEB: Labels = (("app", "web"),)


def a_table() -> HostTable:
    """One host short of cpu, one in the wrong rack, one down and kept for another pod, one with a gpu."""
    table = HostTable()
    for name, cpu, rack, gpu in (
        ("short", 1, "r2", 0),
        ("away", 9, "r1", 0),
        ("down", 9, "r2", 0),
        ("gpu", 9, "r2", 1),
    ):
        table.add(HostName(name), Resources(cpu=cpu * 1000, gpu=gpu * 1000), labels=(("rack", rack),))
    table.set_placeable(2, False)
    table.hold(2)
    return table


def test_every_reason_is_told_with_its_hosts() -> None:
    told = explain(a_table(), Ask(Resources(cpu=4000), constraint=R2), RULES, names=9)
    assert (told.hosts, told.fitting) == (4, 0)
    assert told.refusals == (
        Refusal(Reason.STATUS, 1, (HostName("down"),)),
        Refusal(Reason.HELD, 1, (HostName("down"),)),
        Refusal(Reason.RESOURCES, 1, (HostName("short"),), "cpu", 3000),
        Refusal(Reason.SCARCE, 1, (HostName("gpu"),)),
        Refusal(Reason.CONSTRAINT, 1, (HostName("away"),), clause="host label rack=r2 = 1"),
    )
    assert all(not refusal.names for refusal in explain(a_table(), Ask(Resources(cpu=4000)), RULES).refusals)


def test_the_smallest_change_comes_first() -> None:
    told = explain(a_table(), Ask(Resources(cpu=4000), constraint=R2), RULES)
    assert told.changes == (
        Change(1, "cpu", 1000, weight=0.75),
        Change(1, clause="host label rack=r2 = 1", weight=1.0),
        Change(1, host=HostName("down"), weight=2.0),
    )
    assert [str(change) for change in told.changes] == [
        "ask for 1 cpu at most",
        "leave out host label rack=r2 = 1",
        "one more host like down",
    ]


def test_one_more_host_of_a_sort_that_is_full() -> None:
    table = HostTable()
    table.add(HostName("small"), Resources(cpu=1000), labels=(("rack", "r2"),))
    table.add(HostName("full"), Resources(cpu=4000), labels=(("rack", "r2"),))
    table.debit(1, Resources(cpu=4000))
    told = explain(table, Ask(Resources(cpu=4000), constraint=every(R2, ALONE)), RULES)
    assert told.changes == (Change(1, "cpu", 1000, weight=0.75), Change(1, host=HostName("full"), weight=2.0))
    assert str(told.changes[1]) == "one more host like full"


def test_one_more_host_has_another_name() -> None:
    table = HostTable()
    table.add(HostName("h"), Resources(cpu=1000))
    table.debit(0, Resources(cpu=500))
    there = on_host(Condition.EQUAL, "hostname", "h", 1)
    assert [
        str(change) for change in explain(table, Ask(Resources(cpu=1000), constraint=there), RULES).changes
    ] == ["ask for 0.5 cpu at most"]


def test_ports_and_file_descriptors() -> None:
    table = HostTable()
    table.add(HostName("h"), NOTHING, (31000, 31001), fds=100)
    two = (PortRequest("a"), PortRequest("b"), PortRequest("c"))
    told = explain(table, Ask(NOTHING, two), RULES)
    assert told.refusals == (Refusal(Reason.PORTS, 1, kind="ports", shortfall=1),)
    assert [str(change) for change in told.changes] == ["ask for 2 ports at most"]
    told = explain(table, Ask(NOTHING, fds=120), RULES)
    assert told.refusals == (Refusal(Reason.RESOURCES, 1, kind="fds", shortfall=20),)
    assert [str(change) for change in told.changes] == ["ask for 100 fds at most"]


def test_the_host_pool_rule_is_named() -> None:
    table = HostTable()
    table.add(HostName("h"), NOTHING, labels=(("host_pool", "default"),))
    (refusal,) = explain(table, Ask(NOTHING), Rules(use_host_pool=True)).refusals
    assert refusal.reason is Reason.POOL
    assert refusal.clause == "the rule use_host_pool: host label host_pool=stateless = 1"


def test_where_a_pod_fits_nothing_has_to_change() -> None:
    told = explain(a_table(), Ask(Resources(cpu=4000)), RULES)
    assert (told.fitting, told.changes) == (1, ())
    assert explain(HostTable(), Ask(NOTHING), RULES).hosts == 0


def after(table: HostTable, ask: Ask, change: Change) -> Ask:
    """What is asked once the change is made; a host that comes is added to the table."""
    if change.clause:
        left = tuple(each for each in clauses(ask.constraint) if described(each) != change.clause)
        return replace(ask, constraint=AndConstraint(left))
    if change.host is not None:
        row = table.row_of[change.host]
        labels = tuple(label for label in table.labels[row] if label[0] != "hostname")
        first, last = table.port_ranges[:, row].tolist()
        table.add(
            HostName("new"), table.capacity(row), (first, last), labels, int(table.capacity_units[-1, row])
        )
        return ask
    if change.kind == "ports":
        return replace(ask, ports=ask.ports[: change.to])
    if change.kind == "fds":
        return replace(ask, fds=change.to)
    return replace(ask, demand=ask.demand._replace(**{change.kind: change.to}))


@given(
    hosts=st.lists(
        st.tuples(label_lists, label_lists, st.integers(0, 4), st.booleans()), min_size=1, max_size=6
    ),
    constraint=st.none() | constraints,
    demand=st.builds(Resources, st.integers(0, 5), st.just(0), st.just(0), st.integers(0, 2), st.just(0)),
    numbers=st.lists(st.sampled_from([0, 0, 80]), max_size=3),
    fds=st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_each_change_would_do(
    hosts: list[tuple[Labels, Labels, int, bool]],
    constraint: Constraint | None,
    demand: Resources,
    numbers: list[int],
    fds: int,
) -> None:
    ports = tuple(PortRequest(f"p{index}", number) for index, number in enumerate(numbers))
    ask = Ask(demand, ports, fds, constraint)

    def table() -> HostTable:
        made = HostTable()
        for number, (labels, on_pod, free, up) in enumerate(hosts):
            row = made.add(
                HostName(f"h{number}"), Resources(cpu=free, gpu=free % 2), (31000, 31001), labels, free
            )
            made.debit(row, Resources(cpu=free // 2), [80] if free % 2 else [])
            made.set_placeable(row, up)
            made.pod_labels.add(JOB, on_pod, [row], [row])
        while (found := made.pod_labels.uncounted(pod_labels(constraint))) is not None:
            rows = [row for row, host in enumerate(hosts) for _ in range(host[1].count(found[0]))]
            made.pod_labels.count(*found[:2], rows)
        return made

    told = explain(table(), ask, RULES, names=9)
    assert bool(told.fitting) is bool(place(table(), ask, 1, RULES).rows)
    assert all(refusal.hosts == len(refusal.names) for refusal in told.refusals)
    named = {name for refusal in told.refusals for name in refusal.names}
    assert len(named) == told.hosts - told.fitting
    weights = [change.weight for change in told.changes]
    assert weights == sorted(weights)
    for change in told.changes:
        changed = table()
        wanted = after(changed, ask, change)
        assert place(changed, wanted, 1, RULES).rows, str(change)
        if change.kind in KINDS:
            more = after(changed, ask, replace(change, to=change.to + 1))
            assert not place(changed, more, 1, RULES).rows, "and no less of a change"
