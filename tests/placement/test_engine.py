"""The engine never promises room twice, finds all the room there is, and says why there is none."""

import copy
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import HostName, JobId
from derny.model.resources import NOTHING, Resources
from derny.model.rules import Policy, Rules
from derny.model.specs import Condition, Constraint, Labels, OrConstraint, PortRequest
from derny.placement import engine
from derny.placement.constraints import pod_labels
from derny.placement.engine import SMALL_GROUP, SPREAD_ORDER, WINDOW, Placement
from derny.placement.filters import Ask
from derny.placement.hosts import HostTable
from slow_constraints import constraints, label_lists, on_host, on_pods, passes

HUGE = 10**12
SHAPE = Resources(cpu=48_000, memory=131_072_000, disk=6_000_000_000, gpu=128_000)
PACK = Rules(Policy.BEST_FIT, scarce_gpu=False)
SPREAD = Rules(Policy.SPREAD, scarce_gpu=False)
SCARCE_GPU = Rules(Policy.BEST_FIT, scarce_gpu=True)
ANY_PORT = PortRequest("http", 0, "PORT")


def place(
    table: HostTable,
    demand: Resources,
    ports: tuple[PortRequest, ...],
    count: int,
    cursor: int = 0,
    rules: Rules = PACK,
) -> Placement:
    """Pods that ask for nothing but resources and ports."""
    return engine.place(table, Ask(demand, ports), count, rules, cursor)


def a_table(*capacities: Resources, ports: tuple[int, int] = (31000, 32000)) -> HostTable:
    table = HostTable()
    for number, capacity in enumerate(capacities):
        table.add(HostName(f"host-{number}"), capacity, ports)
    return table


def cpus(*amounts: int) -> list[Resources]:
    return [Resources(cpu=amount, memory=1_000) for amount in amounts]


def test_packing_takes_the_fullest_host_that_has_room_and_fills_it_first() -> None:
    table = a_table(*cpus(8, 3, 5, 1))
    placement = place(table, Resources(cpu=2), (), 4)
    assert placement.rows == [1, 2, 2, 0]
    assert placement.unplaced == 0
    assert placement.reasons == {}


def test_packing_looks_at_the_kind_of_which_the_pod_asks_most_of_the_cluster() -> None:
    table = a_table(Resources(cpu=10, memory=40), Resources(cpu=90, memory=30), Resources(cpu=900, memory=30))
    assert place(table, Resources(cpu=10, memory=1), (), 1).rows == [0]
    assert place(table, Resources(cpu=10, memory=10), (), 1).rows == [1]


def test_spreading_takes_the_emptiest_host_pod_by_pod() -> None:
    table = a_table(*cpus(8, 3, 5, 1))
    assert place(table, Resources(cpu=2), (), 1, rules=SPREAD).rows == [0]
    assert place(table, Resources(cpu=2), (), 4, rules=SPREAD).rows == [0, 0, 0, 2]
    assert place(table, Resources(cpu=2), (), 5, rules=SPREAD).rows == [0, 0, 0, 1, 2]


def test_spreading_compares_disk_then_memory_then_cpu_but_only_what_is_asked() -> None:
    table = a_table(Resources(10, 90, 50), Resources(10, 80, 60), Resources(90, 80, 50))
    assert place(table, Resources(1, 1, 1), (), 1, rules=SPREAD).rows == [1]
    assert place(table, Resources(1, 1, 0), (), 1, rules=SPREAD).rows == [0]
    assert place(table, Resources(1, 0, 0), (), 1, rules=SPREAD).rows == [2]


def test_pods_that_ask_for_nothing_spread_evenly_and_pack_on_the_first_host() -> None:
    table = a_table(SHAPE, SHAPE, SHAPE)
    assert place(table, NOTHING, (), 7, rules=SPREAD).rows == [0, 0, 0, 1, 1, 2, 2]
    assert place(table, NOTHING, (), 7).rows == [0] * 7


def test_ports_of_a_host_bound_how_many_pods_it_takes() -> None:
    """Three ports each of ten on a host, and of seven (behaviour, scheduler §6.6 and §6.8)."""
    table = a_table(SHAPE, ports=(31000, 31009))
    placement = place(table, Resources(cpu=1), (ANY_PORT,) * 3, 2)
    assert placement.ports == [(31000, 31001, 31002), (31003, 31004, 31005)]
    table = a_table(SHAPE, ports=(31000, 31006))
    placement = place(table, Resources(cpu=1), (ANY_PORT,) * 3, 4)
    assert placement.ports == [(31000, 31001, 31002), (31003, 31004, 31005)]
    assert (placement.unplaced, placement.reasons, placement.port_shortfall) == (2, {"match": 1}, 2)


def test_a_pod_too_big_to_double_up_takes_a_host_each() -> None:
    """Behaviour, scheduler §6.6: three pods, two hosts."""
    table = a_table(SHAPE, SHAPE)
    placement = place(table, Resources(32_000, 4_096_000, 1_024_000, 10_000), (ANY_PORT,) * 3, 3)
    assert placement.rows == [0, 1]
    assert placement.unplaced == 1
    assert placement.shortfall == Resources(cpu=16_000)


def test_static_ports_are_a_conflict_and_keep_their_place_among_the_dynamic_ones() -> None:
    table = a_table(SHAPE, SHAPE, SHAPE)
    table.debit(0, NOTHING, [8080])
    table.debit(1, NOTHING, [31002])
    ports = (ANY_PORT, PortRequest("web", 8080), ANY_PORT, PortRequest("debug", 31000))
    placement = place(table, NOTHING, ports, 5)
    assert placement.rows == [1, 2]
    assert placement.ports == [(31001, 8080, 31003, 31000), (31001, 8080, 31002, 31000)]
    assert placement.reasons == {"insufficient_offer_resources": 1, "match": 2}


def test_a_pod_that_asks_for_one_number_twice_never_fits() -> None:
    placement = place(a_table(SHAPE), NOTHING, (PortRequest("a", 80), PortRequest("b", 80)), 1)
    assert placement.rows == []
    assert placement.reasons == {"insufficient_offer_resources": 1}


def test_hosts_with_gpus_are_kept_for_pods_that_ask_when_gpus_are_scarce() -> None:
    """Resources come before the gpu rule, which goes by what the host has, not by what is free (§6.8)."""
    table = a_table(Resources(cpu=4, gpu=1), Resources(cpu=4))
    assert place(table, Resources(cpu=3), (), 1).rows == [0]
    assert place(table, Resources(cpu=3), (), 1, rules=SCARCE_GPU).rows == [1]
    assert place(table, Resources(cpu=3, gpu=1), (), 1, rules=SCARCE_GPU).rows == [0]
    table.debit(0, Resources(gpu=1))
    placement = place(table, Resources(cpu=3), (), 2, rules=SCARCE_GPU)
    assert placement.rows == [1]
    assert placement.reasons == {"match": 1, "scarce_resources": 1}
    placement = place(table, Resources(cpu=5), (), 1, rules=SCARCE_GPU)
    assert placement.reasons == {"insufficient_offer_resources": 2}
    assert placement.shortfall == Resources(cpu=1)


def test_revocable_cpu_is_not_cpu() -> None:
    table = a_table(Resources(cpu=8, memory=8), Resources(memory=8, revocable_cpu=2))
    assert place(table, Resources(memory=1, revocable_cpu=1), (), 3).rows == [1, 1]
    assert place(table, Resources(cpu=1, memory=1), (), 1).rows == [0]


def test_every_host_is_counted_once_under_the_first_filter_that_refuses() -> None:
    table = a_table(*cpus(1, 9, 2, 4), Resources(cpu=9, memory=1_000, gpu=1))
    table.set_placeable(1, False)
    placement = place(table, Resources(cpu=5, memory=10), (), 1, rules=SCARCE_GPU)
    assert placement.reasons == {
        "insufficient_offer_resources": 3,
        "mismatch_status": 1,
        "scarce_resources": 1,
    }
    assert placement.shortfall == Resources(cpu=1), "the host with 4 is nearest; others are down or kept"


def test_the_pending_reason_reads_as_counts_and_what_lacks() -> None:
    table = a_table(Resources(cpu=1_000, memory=64_000_000_000), ports=(31000, 31000))
    placement = place(table, Resources(cpu=1_500, memory=64_000_001_000), (ANY_PORT,) * 3, 1)
    assert placement.pending_reason() == (
        '{"insufficient_offer_resources":1}; the nearest host lacks cpu=0.5, memory=1.0, ports=2'
    )
    table.set_placeable(0, False)
    assert place(table, Resources(cpu=1), (), 1).pending_reason() == '{"mismatch_status":1}'
    assert place(HostTable(), Resources(cpu=1), (), 1).pending_reason() == "no hosts"


def test_no_hosts_and_no_pods() -> None:
    assert place(HostTable(), Resources(cpu=1), (), 3, cursor=7) == Placement([], [], 7, unplaced=3)
    assert place(a_table(SHAPE), Resources(cpu=1), (), 0, cursor=7) == Placement([], [], 7)


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("cursor", [0, 100, 1_999, 2_000, 10**6])
@pytest.mark.parametrize("fitting", [0, 255, 256, 1_500, 1_999])
def test_a_single_pod_finds_the_only_host_wherever_it_is(policy: Policy, cursor: int, fitting: int) -> None:
    amounts = [1] * 2_000
    amounts[fitting] = 2
    table = a_table(*cpus(*amounts))
    assert place(table, Resources(cpu=2), (), 1, cursor, Rules(policy, scarce_gpu=False)).rows == [fitting]


def test_single_pods_that_pack_stay_in_a_window_until_it_is_full() -> None:
    table = a_table(*cpus(*[2] * (2 * WINDOW + 10)))
    cursor, rows = 0, []
    for _ in range(2 * len(table)):
        placement = place(table, Resources(cpu=1), (), 1, cursor)
        table.debit(placement.rows[0], Resources(cpu=1))
        rows += placement.rows
        cursor = placement.cursor
    assert rows[::2] == rows[1::2], "the host that was begun is finished first"
    assert set(rows[: 2 * WINDOW]) == set(range(WINDOW))
    assert set(rows) == set(range(len(table)))


def test_a_window_without_room_grows_and_packing_goes_on_from_where_room_was_found() -> None:
    amounts = [0] * 3_000
    amounts[0], amounts[300], amounts[301], amounts[2_000] = 2, 5, 6, 4
    table = a_table(*cpus(*amounts))
    placement = place(table, Resources(cpu=3), (), 1)
    assert placement.rows == [300], "the best of the window that had room; the best of all is farther away"
    assert placement.cursor == 300
    assert place(table, Resources(cpu=6), (), 1, placement.cursor).rows == [301]
    assert place(table, Resources(cpu=1), (), 1, placement.cursor).rows == [300]
    assert place(table, Resources(cpu=7), (), 1, placement.cursor).cursor == 300


def test_single_pods_that_spread_go_round_all_hosts() -> None:
    table = a_table(*cpus(*[9] * (2 * WINDOW + 10)))
    cursor, rows = 0, []
    for _ in range(len(table)):
        placement = place(table, Resources(cpu=1), (), 1, cursor, SPREAD)
        table.debit(placement.rows[0], Resources(cpu=1))
        rows += placement.rows
        cursor = placement.cursor
    assert rows[0] < WINDOW <= rows[1] < 2 * WINDOW
    assert max(Counter(rows).values()) <= 2


def test_a_small_group_that_spreads_looks_further_before_it_doubles_up() -> None:
    amounts = [0] * 1_000
    amounts[3], amounts[700], amounts[900] = 9, 1, 1
    assert place(a_table(*cpus(*amounts)), Resources(cpu=1), (), 3, rules=SPREAD).rows == [3, 3, 3]
    amounts[700] = amounts[900] = 9
    assert place(a_table(*cpus(*amounts)), Resources(cpu=1), (), 3, rules=SPREAD).rows == [3, 700, 900]


def one_by_one(table: HostTable, demand: Resources, count: int, policy: Policy) -> list[int]:
    """The hosts that pod after pod would choose, in plain Python; sorted."""
    free = [table.free(row) for row in range(len(table))]
    total = table.total_capacity()
    shares = [amount / (whole or 1) for amount, whole in zip(demand, total, strict=True)]
    kind = shares.index(max(shares))
    if policy is Policy.SPREAD:
        kind = next((kind for kind in SPREAD_ORDER if demand[kind]), 0)
    sign = 1 if policy is Policy.BEST_FIT else -1
    rows = []
    for _ in range(count):
        fitting = [row for row in range(len(free)) if table.placeable[row] and demand.fits(free[row])]
        if not fitting:
            break
        row = min(fitting, key=lambda row: (sign * free[row][kind], row))
        free[row] = free[row].minus(demand)
        rows.append(row)
    return sorted(rows)


def exact_maximum(table: HostTable, demand: Resources, port_count: int, count: int) -> int:
    """How many of `count` pods fit at most; for identical pods any filling until nothing fits reaches it."""
    placed = 0
    for row in range(len(table)):
        if table.placeable[row]:
            room = [free // amount for free, amount in zip(table.free(row), demand, strict=True) if amount]
            room += [table.free_ports(row) // port_count] if port_count else []
            placed += min([*room, count])
    return min(placed, count)


few_units = st.builds(Resources, *[st.integers(0, 12)] * 5)
many_units = st.builds(Resources, *[st.integers(0, HUGE)] * 5)
policies = st.sampled_from(list(Policy))


@st.composite
def tables(draw: st.DrawFn, most: int, units: st.SearchStrategy[Resources]) -> HostTable:
    """Hosts of a few kinds, repeated to fill more than one window; some are down, some have ports taken."""
    kinds = draw(st.lists(st.tuples(units, st.booleans(), st.integers(0, 5)), min_size=1, max_size=8))
    table = HostTable()
    for number in range(draw(st.integers(1, most))):
        capacity, up, port_count = kinds[number % len(kinds)]
        row = table.add(HostName(f"host-{number}"), capacity, (31000, 30999 + port_count))
        table.set_placeable(row, up)
        table.debit(row, NOTHING, range(31000, 31000 + port_count, 3))
    return table


@given(
    table=tables(most=600, units=st.one_of(few_units, many_units)),
    demand=st.one_of(st.builds(Resources, *[st.integers(0, 4)] * 5), many_units),
    numbers=st.lists(st.sampled_from([0, 0, 0, 80, 31001, 31003]), max_size=4),
    count=st.one_of(st.integers(0, SMALL_GROUP), st.integers(0, 3_000)),
    cursor=st.integers(0, 700),
    rules=st.builds(Rules, policies, st.booleans(), st.just(False)),
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_placed_can_be_debited_and_nothing_that_fits_is_left_out(
    table: HostTable, demand: Resources, numbers: list[int], count: int, cursor: int, rules: Rules
) -> None:
    ports = tuple(PortRequest(f"port-{index}", number) for index, number in enumerate(numbers))
    before = copy.deepcopy(table)
    placement = place(table, demand, ports, count, cursor, rules)

    assert place(before, demand, ports, count, cursor, rules) == placement, "same inputs, same outputs"
    assert (table.free_units == before.free_units).all(), "the engine writes nothing"
    assert len(placement.rows) + placement.unplaced == count
    assert len(placement.ports) == (len(placement.rows) if ports else 0)
    assert all(table.placeable[row] for row in placement.rows)
    for picked in placement.ports:
        assert all(port.number in (0, given_number) for port, given_number in zip(ports, picked, strict=True))
    gpu_hosts = [row for row in range(len(table)) if table.capacity(row).gpu]
    if rules.scarce_gpu and not demand.gpu and len(gpu_hosts) < len(table):
        assert not set(gpu_hosts) & set(placement.rows)
    elif not any(numbers):
        assert len(placement.rows) == exact_maximum(table, demand, len(ports), count)
    assert (sum(placement.reasons.values()) == len(table)) is bool(placement.unplaced)

    # The table asserts that no kind falls below zero and that no port is given out twice.
    table.debit_many(placement.rows, demand, placement.ports)
    if placement.unplaced:
        again = place(table, demand, ports, placement.unplaced, placement.cursor, rules)
        assert again.rows == [], "what was left out has no room"
        assert "match" not in again.reasons
        assert (again.shortfall, again.port_shortfall) == (placement.shortfall, placement.port_shortfall)


@given(
    table=tables(most=40, units=few_units),
    demand=st.builds(Resources, *[st.integers(0, 4)] * 5).filter(any),
    count=st.integers(1, 120),
    policy=policies,
)
@settings(max_examples=150, deadline=None)
def test_a_group_goes_where_its_pods_would_go_one_by_one(
    table: HostTable, demand: Resources, count: int, policy: Policy
) -> None:
    placement = place(table, demand, (), count, rules=Rules(policy, scarce_gpu=False))
    assert sorted(placement.rows) == one_by_one(table, demand, count, policy)


def test_a_host_that_shrank_below_its_use_takes_nothing() -> None:
    table = a_table(*cpus(8, 8))
    table.debit(0, Resources(cpu=6))
    table.add(HostName("host-0"), Resources(cpu=2, memory=1_000))
    placement = place(table, Resources(cpu=4), (), 3)
    assert placement.rows == [1, 1]
    assert placement.shortfall == Resources(cpu=4)


def test_the_largest_amounts_do_not_overflow() -> None:
    table = a_table(*[Resources(*[HUGE] * 5)] * 300)
    placement = place(table, Resources(*[1] * 5), (), 10_000, rules=SPREAD)
    assert Counter(Counter(placement.rows).values()) == {33: 200, 34: 100}
    assert place(table, Resources(*[HUGE] * 5), (), 301).unplaced == 1


@pytest.mark.parametrize(
    ("static", "dynamic_count", "expected"),
    [
        ((), 2, True),
        ((), 3, False),
        ((31002,), 1, True),
        ((31002,), 2, False),  # the static number takes one of the two that are left
        ((31001,), 0, False),
        ((80,), 2, True),
        ((443,), 0, False),
    ],
)
def test_static_ports_of_the_range_count_against_the_dynamic_ones(
    static: tuple[int, ...], dynamic_count: int, expected: bool
) -> None:
    table = HostTable()
    row = table.add(HostName("host"), Resources(cpu=1000), (31000, 31003))
    table.debit(row, NOTHING, (31000, 31001, 443))
    asked = (
        *(PortRequest(f"s{n}", n) for n in static),
        *(PortRequest(f"d{n}") for n in range(dynamic_count)),
    )
    assert bool(place(table, Resources(cpu=1), asked, 1).rows) is expected


# Cases of the spec (behaviour, scheduler §6.7 and §11.4).


def test_the_host_with_more_of_everything_wins_when_spreading() -> None:
    more, less = Resources(10, 100, 1000, 5), Resources(9, 99, 999, 4)
    asked = Resources(1, 1, 1, 1)
    assert place(a_table(less, more), asked, (), 1, rules=SPREAD).rows == [1]
    assert place(a_table(more, less), asked, (), 1, rules=SPREAD).rows == [0]


def test_two_pods_and_one_suitable_host() -> None:
    placement = place(a_table(*cpus(1, 3)), Resources(cpu=2), (), 2, rules=SPREAD)
    assert (placement.rows, placement.unplaced) == ([1], 1)


def test_a_fifth_pod_on_a_host_for_four() -> None:
    placement = place(a_table(Resources(40, 80, 120)), Resources(10, 20, 30), (), 5)
    assert (placement.rows, placement.unplaced) == ([0] * 4, 1)
    assert place(a_table(Resources(cpu=10)), Resources(cpu=11), (), 1).rows == []


def test_a_revocable_pod_takes_its_cpu_from_slack_and_the_rest_from_what_all_share() -> None:
    table = a_table(Resources(10_000, 20_000, 30_000, revocable_cpu=10_000))
    pod = Resources(memory=10_000, disk=7_000, revocable_cpu=6_000)
    table.debit_many(place(table, pod, (), 1).rows, pod)
    assert table.free(0) == Resources(10_000, 10_000, 23_000, revocable_cpu=4_000)


def test_tenths_of_a_cpu_do_not_drift() -> None:
    table = a_table(Resources(revocable_cpu=19_000))
    placement = place(table, Resources(revocable_cpu=100), (), 191)
    assert (len(placement.rows), placement.unplaced) == (190, 1)


def test_a_static_port_beside_dynamic_ones_takes_none_of_the_range() -> None:
    table = a_table(SHAPE, SHAPE, ports=(31000, 31001))
    asked = (PortRequest("web", 80), ANY_PORT, ANY_PORT)
    assert place(table, NOTHING, asked, 2, rules=SPREAD).ports == [(80, 31000, 31001)] * 2


def test_file_descriptors_count_like_any_kind() -> None:
    table = HostTable()
    table.add(HostName("h"), SHAPE, fds=1000)
    ask = Ask(Resources(cpu=1), fds=300)
    placement = engine.place(table, ask, 5, PACK)
    assert (len(placement.rows), placement.unplaced, placement.fd_shortfall) == (3, 2, 200)
    assert "the nearest host lacks fds=200" in placement.pending_reason()
    table.debit_many(placement.rows, ask.demand, (), ask.fds)
    assert table.free_fds(0) == 100


# Turns among hosts that are equally good.


def test_equally_good_hosts_take_turns() -> None:
    table = a_table(*cpus(*[9] * 5))
    cursor, rows = 3, []
    for count in (2, 1, 3):
        placement = place(table, Resources(cpu=1), (), count, cursor, SPREAD)
        cursor = placement.cursor
        rows.append(sorted(placement.rows))
    assert rows == [[3, 4], [0], [1, 2, 3]]
    large = a_table(*cpus(*[9] * 20))
    placement = place(large, Resources(cpu=1), (), 16, 17, SPREAD)
    assert placement.rows == [17, 18, 19, *range(13)]
    assert placement.cursor == 13


def test_any_number_may_begin_the_turn() -> None:
    assert place(a_table(*cpus(9, 9, 9)), Resources(cpu=1), (), 1, 2**32 + 1, SPREAD).rows == [
        (2**32 + 1) % 3
    ]


# Certain hosts.


def test_pods_that_want_a_certain_host_get_it_first_come_first_served() -> None:
    table = a_table(*cpus(3, 9, 1))
    ask = Ask(Resources(cpu=2))
    assert engine.place_at(table, ask, PACK, [0, 1, 0, 2, 1]) == ([0, 1, 4], [])


def test_a_wanted_host_may_be_held_but_not_closed() -> None:
    table = a_table(*cpus(9, 9))
    table.hold(0)
    table.set_placeable(1, False)
    ask = Ask(Resources(cpu=2))
    assert engine.place_at(table, ask, PACK, [0, 1]) == ([0], [])
    assert engine.place(table, ask, 1, PACK).reasons == {"mismatch_status": 2}


def test_ports_on_wanted_hosts_are_told_apart() -> None:
    table = a_table(SHAPE, SHAPE, ports=(31000, 31003))
    table.debit(1, NOTHING, [31000])
    placed = engine.place_at(table, Ask(NOTHING, (ANY_PORT, ANY_PORT)), PACK, [0, 1, 1, 0, 0])
    assert placed == ([0, 1, 3], [(31000, 31001), (31001, 31002), (31002, 31003)])


# Constraints, among all the rest.


def labelled(*labels: Labels, cpu: int = 9) -> HostTable:
    table = HostTable()
    for number, own in enumerate(labels):
        table.add(HostName(f"host-{number}"), Resources(cpu=cpu), labels=own)
    return table


def test_a_group_under_a_host_limit_is_placed_at_once() -> None:
    limit = on_pods(Condition.LESS_THAN, "app", "web", 2)
    ask = Ask(Resources(cpu=1), constraint=limit, labels=(("app", "web"),))
    for rules in (PACK, SPREAD):
        placement = engine.place(labelled((), (), ()), ask, 20, rules)
        assert Counter(placement.rows) == {0: 2, 1: 2, 2: 2}
        assert (placement.unplaced, placement.reasons) == (14, {"match": 3})
        # Once they are there it is the constraint that refuses, and it is named.
    table = labelled((), ())
    table.pod_labels.add(JobId("j"), ask.labels, [0, 0, 1, 1], range(4))
    assert table.pod_labels.uncounted(ask.labels) is not None
    table.pod_labels.count(ask.labels[0], JobId("j"), [0, 0, 1, 1])
    reason = engine.place(table, ask, 1, SPREAD).pending_reason()
    assert reason == '{"mismatch_constraints":2}; 2 hosts refused by pod label app=web < 2'


def test_reasons_and_the_nearest_host_leave_out_hosts_of_the_wrong_sort() -> None:
    table = labelled((("rack", "r1"),), (("rack", "r2"),), cpu=1_000)
    table.debit(1, Resources(cpu=900))
    ask = Ask(Resources(cpu=500), constraint=on_host(Condition.EQUAL, "rack", "r2", 1))
    placement = engine.place(table, ask, 1, PACK)
    assert placement.reasons == {"insufficient_offer_resources": 1, "mismatch_constraints": 1}
    assert placement.shortfall == Resources(cpu=400)


@given(
    labels=st.lists(label_lists, min_size=1, max_size=30),
    constraint=constraints,
    own=label_lists,
    count=st.integers(1, 60),
    policy=policies,
    cpu=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
def test_a_group_with_a_constraint_goes_where_its_pods_would_go_one_by_one(
    labels: list[Labels], constraint: Constraint, own: Labels, count: int, policy: Policy, cpu: int
) -> None:
    rules = Rules(policy, scarce_gpu=False)
    ask = Ask(Resources(cpu=cpu), constraint=constraint, labels=own)
    together = engine.place(labelled(*labels, cpu=5), ask, count, rules)
    table, rows = labelled(*labels, cpu=5), []
    there: dict[int, list[Labels]] = {row: [] for row in range(len(labels))}
    for _ in range(count):
        while (found := table.pod_labels.uncounted(pod_labels(constraint))) is not None:
            at = [row for row, pods in there.items() for pod in pods for _ in range(pod.count(found[0]))]
            table.pod_labels.count(*found[:2], at)
        single = engine.place(table, ask, 1, rules)
        for row in single.rows:
            assert passes(constraint, table.labels[row], there[row])
            table.debit(row, ask.demand)
            table.pod_labels.add(JobId("j"), own, [row], [len(rows)])
            there[row].append(own)
        rows += single.rows
    assert sorted(rows) == sorted(together.rows)


def test_a_reason_names_no_more_of_a_constraint_than_fits_a_line() -> None:
    names = OrConstraint(tuple(on_host(Condition.EQUAL, "hostname", f"h{n}", 1) for n in range(200)))
    reason = engine.place(labelled(()), Ask(NOTHING, constraint=names), 1, SPREAD).pending_reason()
    assert len(reason) < 300
    assert "host label hostname=h0 = 1" in reason
