"""Host pools: every host is in exactly one, and which one is a label of it."""

import pytest

from builders import Bench, a_host
from derny.answers import queries
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.core.host_pools import NAME_MAX
from derny.model.errors import Exhausted, Exists, Invalid, NotFound
from derny.model.ids import DEFAULT_HOST_POOL, HostName, HostPoolName
from derny.model.periods import Limits

BLUE, RED = HostPoolName("blue"), HostPoolName("red")


def create(bench: Bench, pool: HostPoolName) -> list[events.Event]:
    return bench.do(commands.CreateHostPool(pool))


def change(bench: Bench, number: int, source: HostPoolName, to: HostPoolName) -> list[events.Event]:
    return bench.do(commands.ChangeHostPool(HostName(f"host-{number}"), source, to))


def pools(bench: Bench) -> dict[str, list[str]]:
    return {name: list(members) for name, members in queries.host_pools(bench.machine.state)}


def label(bench: Bench, number: int) -> str:
    return dict(bench.machine.state.table.labels[number])["host_pool"]


def test_all_hosts_are_in_default_at_first() -> None:
    bench = Bench(hosts=2)
    assert pools(bench) == {"default": ["host-0", "host-1"]}
    assert bench.machine.state.table.labels[1] == (("hostname", "host-1"), ("host_pool", "default"))


def test_a_host_moves_at_once_and_its_label_with_it() -> None:
    bench = Bench(hosts=2)
    create(bench, BLUE)
    version = bench.machine.state.table.version
    assert change(bench, 1, DEFAULT_HOST_POOL, BLUE) == [events.HostPoolChanged(HostName("host-1"), BLUE)]
    assert pools(bench) == {"default": ["host-0"], "blue": ["host-1"]}
    assert label(bench, 1) == "blue"
    assert bench.machine.state.table.version > version, "pods may find a host now"


def test_a_pool_stays_when_an_agent_registers_again() -> None:
    bench = Bench(hosts=1)
    create(bench, BLUE)
    change(bench, 0, DEFAULT_HOST_POOL, BLUE)
    bench.do(commands.SeeHosts([a_host(0, cpu=99)]))
    assert pools(bench)["blue"] == ["host-0"]
    assert label(bench, 0) == "blue"


def test_an_attribute_of_that_name_does_not_count() -> None:
    bench = Bench(hosts=0)
    seen = a_host(0)
    bench.do(
        commands.SeeHosts(
            [
                commands.HostSeen(
                    *(seen.name, "a", "ip"), seen.capacity, (1, 2), (("host_pool", "x"), ("rack", "r"))
                )
            ]
        )
    )
    assert bench.machine.state.table.labels[0] == (
        ("hostname", "host-0"),
        ("host_pool", "default"),
        ("rack", "r"),
    )


def test_hosts_of_a_deleted_pool_go_to_default() -> None:
    bench = Bench(hosts=3)
    create(bench, BLUE)
    for number in (0, 2):
        change(bench, number, DEFAULT_HOST_POOL, BLUE)
    assert bench.do(commands.DeleteHostPool(BLUE)) == [events.HostPoolDeleted(BLUE)]
    bench.settle()
    assert pools(bench) == {"default": ["host-1", "host-0", "host-2"]}
    assert [label(bench, number) for number in range(3)] == ["default"] * 3
    with pytest.raises(NotFound):
        bench.do(commands.DeleteHostPool(BLUE))


def test_a_deletion_shows_placement_where_hosts_are_now_in_slices() -> None:
    bench = Bench(hosts=5)
    create(bench, BLUE)
    for number in range(5):
        change(bench, number, DEFAULT_HOST_POOL, BLUE)
    bench.settle()
    bench.do(commands.DeleteHostPool(BLUE))
    assert pools(bench) == {"default": [f"host-{number}" for number in range(5)]}
    labels = []
    for _ in range(3):
        bench.advance(2)
        labels.append([label(bench, number) for number in range(5)].count("default"))
    assert labels == [2, 4, 5]


@pytest.mark.parametrize("name", ["", " ", "x" * (NAME_MAX + 1), "a\nb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="name is "):
        create(Bench(hosts=1), HostPoolName(name))


def test_a_name_is_given_once_and_default_is_taken() -> None:
    bench = Bench(hosts=1)
    create(bench, BLUE)
    for name in (BLUE, DEFAULT_HOST_POOL):
        with pytest.raises(Exists):
            create(bench, name)
    with pytest.raises(Invalid, match="'default'"):
        bench.do(commands.DeleteHostPool(DEFAULT_HOST_POOL))


def test_there_are_no_more_pools_than_the_limit() -> None:
    bench = Bench(hosts=1, limits=Limits(host_pools_max=2))
    create(bench, BLUE)
    with pytest.raises(Exhausted, match="host_pools_max"):
        create(bench, RED)
    bench.do(commands.DeleteHostPool(BLUE))
    create(bench, RED)


def test_a_change_is_checked_host_first_then_source_then_destination() -> None:
    bench = Bench(hosts=1)
    create(bench, BLUE)
    before = fingerprint(bench.machine.state)
    with pytest.raises(NotFound, match="host-9"):
        change(bench, 9, RED, RED)
    with pytest.raises(Invalid, match="sourcePool is 'blue'; host 'host-0' is in 'default'"):
        change(bench, 0, BLUE, RED)
    assert change(bench, 0, DEFAULT_HOST_POOL, DEFAULT_HOST_POOL) == []
    with pytest.raises(Invalid, match="destinationPool 'red'"):
        change(bench, 0, DEFAULT_HOST_POOL, RED)
    assert fingerprint(bench.machine.state) == before


def test_pools_survive_a_replay() -> None:
    bench = Bench(hosts=3)
    create(bench, BLUE)
    create(bench, RED)
    change(bench, 0, DEFAULT_HOST_POOL, BLUE)
    change(bench, 1, DEFAULT_HOST_POOL, RED)
    bench.do(commands.DeleteHostPool(RED))
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)
