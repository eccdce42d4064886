"""Each filter refuses what it is for; together they refuse exactly the hosts that the engine leaves out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import HostName, JobId
from derny.model.resources import NOTHING, Resources
from derny.model.rules import Policy, Rules
from derny.model.specs import Condition, Constraint, Labels, PodTemplate, PortRequest
from derny.placement.constraints import pod_labels
from derny.placement.engine import place
from derny.placement.filters import Ask, Reason, ask_of, filters
from derny.placement.hosts import KINDS, HostTable
from slow_constraints import constraints, every, label_lists, on_host, on_pods

JOB = JobId("j")
PLAIN = Rules(Policy.BEST_FIT, scarce_gpu=False)
SHAPE = Resources(cpu=8, memory=8, disk=8)
EXCLUSIVE: Labels = (("peloton/exclusive", "gpu"),)


def a_table(*labels: Labels, capacity: Resources = SHAPE, fds: int = 100) -> HostTable:
    table = HostTable()
    for number, own in enumerate(labels):
        table.add(HostName(f"h{number}"), capacity, (31000, 31002), own, fds)
    return table


def refusing(table: HostTable, ask: Ask, rules: Rules = PLAIN) -> dict[int, list[tuple[Reason, str]]]:
    """By row all that refuses."""
    found: dict[int, list[tuple[Reason, str]]] = {}
    for each in filters(table, ask, rules, slice(0, len(table))):
        kind = KINDS[each.kind] if each.kind >= 0 else ""
        for row in each.refuses.nonzero()[0].tolist():
            found.setdefault(row, []).append((each.reason, kind))
    return found


def test_a_host_with_room_refuses_nothing() -> None:
    assert refusing(a_table(()), Ask(Resources(cpu=8), (PortRequest("p"),) * 3, 100)) == {}


def test_status_and_holds() -> None:
    table = a_table((), (), ())
    table.set_placeable(0, False)
    table.hold(1)
    assert refusing(table, Ask(NOTHING)) == {0: [(Reason.STATUS, "")], 1: [(Reason.HELD, "")]}


def test_each_kind_that_is_short_and_file_descriptors_too() -> None:
    short = refusing(a_table(()), Ask(Resources(cpu=9, memory=8, gpu=1), (), 101))
    assert short == {0: [(Reason.RESOURCES, kind) for kind in ("cpu", "gpu", "fds")]}


def test_ports_that_are_taken_or_too_many() -> None:
    table = a_table(())
    table.debit(0, NOTHING, [31001, 80])
    ports = {
        (PortRequest("p"),) * 3: True,
        (PortRequest("p"),) * 2: False,
        (PortRequest("p", 80),): True,
        (PortRequest("p", 31000), PortRequest("q"), PortRequest("r")): True,
        (PortRequest("p", 31000), PortRequest("q")): False,
        (PortRequest("p", 90), PortRequest("q", 90)): True,
    }
    for asked, refused in ports.items():
        assert bool(refusing(table, Ask(NOTHING, asked))) is refused


def test_gpu_hosts_are_kept_only_under_the_rule() -> None:
    table = a_table((), capacity=SHAPE._replace(gpu=2))
    scarce = Rules(scarce_gpu=True)
    assert refusing(table, Ask(Resources(cpu=1)), scarce) == {}, "there is nowhere else to go"
    table.add(HostName("plain"), Resources(cpu=1, gpu=0))
    assert refusing(table, Ask(Resources(cpu=1)), scarce) == {0: [(Reason.SCARCE, "")]}
    assert refusing(table, Ask(Resources(gpu=1)), scarce) == {1: [(Reason.RESOURCES, "gpu")]}
    assert refusing(table, Ask(Resources(cpu=1))) == {}


def test_exclusive_hosts_take_only_who_asks_for_them() -> None:
    table = a_table(EXCLUSIVE, ())
    asks = on_host(Condition.EQUAL, *EXCLUSIVE[0], 1)
    assert refusing(table, Ask(NOTHING)) == {0: [(Reason.CONSTRAINT, "")]}
    assert refusing(table, Ask(NOTHING, constraint=asks)) == {1: [(Reason.CONSTRAINT, "")]}
    of_pods = on_pods(Condition.EQUAL, *EXCLUSIVE[0], 0)
    assert refusing(table, Ask(NOTHING, constraint=of_pods)) == {0: [(Reason.CONSTRAINT, "")]}


def test_the_host_pool_counts_only_under_the_rule() -> None:
    table = a_table((("host_pool", "stateless"),), (("host_pool", "default"),))
    assert refusing(table, Ask(NOTHING)) == {}
    assert refusing(table, Ask(NOTHING), Rules(use_host_pool=True)) == {1: [(Reason.POOL, "")]}
    table.set_labels(1, (("host_pool", "stateless"),))
    assert refusing(table, Ask(NOTHING), Rules(use_host_pool=True)) == {}


def test_every_clause_refuses_by_itself() -> None:
    r1, r2 = (on_host(Condition.EQUAL, "rack", rack, 1) for rack in ("r1", "r2"))
    table = a_table((("rack", "r1"),))
    told = list(filters(table, Ask(NOTHING, constraint=every(r1, r2, r2)), PLAIN, slice(0, 1)))
    assert [each.clause for each in told if each.refuses.any()] == [r2, r2]


def test_only_labels_that_its_own_constraint_counts_are_part_of_an_ask() -> None:
    own = (("app", "web"), ("team", "a"))
    counted = on_pods(Condition.LESS_THAN, "app", "web", 1)
    assert ask_of(PodTemplate(NOTHING, labels=own)).labels == ()
    assert ask_of(PodTemplate(NOTHING, labels=own, constraint=counted)).labels == own[:1]


@given(
    hosts=st.lists(
        st.tuples(label_lists, label_lists, st.integers(0, 3), st.booleans()), min_size=1, max_size=6
    ),
    constraint=st.none() | constraints,
    cpu=st.integers(0, 4),
    numbers=st.lists(st.sampled_from([0, 0, 80, 31000]), max_size=3),
    fds=st.integers(0, 4),
    rules=st.builds(Rules, st.sampled_from(Policy), st.booleans(), st.booleans()),
)
@settings(max_examples=150, deadline=None)
def test_hosts_that_nothing_refuses_are_those_with_room(
    hosts: list[tuple[Labels, Labels, int, bool]],
    constraint: Constraint | None,
    cpu: int,
    numbers: list[int],
    fds: int,
    rules: Rules,
) -> None:
    table = HostTable()
    for number, (labels, on_pod, free, odd) in enumerate(hosts):
        pool = ("host_pool", "stateless" if odd else "default")
        row = table.add(
            HostName(f"h{number}"), Resources(cpu=free, gpu=free % 2), (31000, 31001), (*labels, pool), free
        )
        table.pod_labels.add(JOB, on_pod, [row], [row])
        if odd:
            table.debit(row, NOTHING, [80])
    while (found := table.pod_labels.uncounted(pod_labels(constraint))) is not None:
        rows = [row for row, host in enumerate(hosts) for _ in range(host[1].count(found[0]))]
        table.pod_labels.count(*found[:2], rows)
    ports = tuple(PortRequest(f"p{index}", number) for index, number in enumerate(numbers))
    ask = Ask(Resources(cpu=cpu), ports, fds, constraint)
    open_rows = set(range(len(table))) - set(refusing(table, ask, rules))
    placement = place(table, ask, 1, rules)
    assert bool(placement.rows) is bool(open_rows)
    assert set(placement.rows) <= open_rows
    if placement.unplaced:
        assert sum(placement.reasons.values()) == len(table)
        assert "match" not in placement.reasons
