"""The steps of a calculation in plain words; each number is one of the division's."""

from derny.capacity.entitlement import Claim, Division, Entitlement, divide
from derny.capacity.steps import hard_steps, root_step, slack_cpu_steps, slack_steps
from derny.model.ids import PoolId
from derny.model.resources import NOTHING, Resources
from derny.model.specs import PoolResource


def part(
    reservation: float = 0, limit: float = 1000, share: float = 1.0, static: bool = False
) -> PoolResource:
    return PoolResource("cpu", round(1000 * reservation), round(1000 * limit), share, static)


def steps(division: Division, pool: int = 0) -> list[str]:
    return list(hard_steps(division, pool, "cpu", "/", f"/{'abc'[pool]}"))


def test_the_way_of_a_pool_that_shares_what_is_scarce() -> None:
    division = divide(100_000, [part(20), part(20), part(20)], [50_000, 80_500, 21_000])
    assert steps(division) == [
        "/ may hold 100 cpu, to be divided among 3 pools.",
        "/a needs 50 for its pods, waiting ones included.",
        "Of its reservation of 20 it asks for 20, all of it.",
        "Reservations in use leave 40, and 3 pools ask for 91.5 beyond them. /a asks for 30: with a share"
        " of 1 it gets 19.5, by share as much as all that lack something.",
        "So /a may hold 39.5 cpu.",
    ]
    assert "/c asks for 1: it gets all of it." in steps(division, 2)[3]


def test_lending_spares_and_limits_are_told() -> None:
    division = divide(100_000, [part(20, limit=30), part(20, share=3)], [5_000, 0])
    assert steps(division)[2:] == [
        "Of its reservation of 20 it asks for 5 and leaves 15 to others.",
        "Nobody asks for the last 95, which are spread by share: 23.75 of them for /a, with a share of 1.",
        "So /a may hold 28.75 cpu.",
    ]
    division = divide(100_000, [part(20, limit=25), part(20)], [50_000, 0])
    assert steps(division)[1:] == [
        "/a needs 50 for its pods, waiting ones included; its limit lets it ask for 25.",
        "Of its reservation of 20 it asks for 20, all of it.",
        "Reservations in use leave 80, and one pool asks for 5 beyond them. /a asks for 5: it gets all"
        " of it.",
        "Nobody asks for the last 75, which are spread by share: 37.5 of them for /a, with a share of 1.",
        "Its limit of 25 cuts off 37.5, which nobody gets.",
        "So /a may hold 25 cpu.",
    ]


def test_static_reservations_no_share_and_too_many_promises_are_told() -> None:
    static = divide(100_000, [part(80, static=True), part(80)], [0, 90_000])
    assert "Its reservation of 80 is static: its own whether it asks for it or not." in steps(static)
    assert "Reservations in use come to 160, more than there is; they stand all the same." in steps(static)
    poor = divide(100_000, [part(share=0), part()], [50_000, 0])
    assert steps(poor)[2:4] == [
        "/a has no reservation.",
        "Reservations in use leave 100, and one pool asks for 50 beyond them. /a asks for 50: having no share"
        " it gets none.",
    ]


def test_slack_is_told_where_there_is_any() -> None:
    claim = Claim(PoolId("a"), [], (), (0, 0, 600_000, 0), (0, 0, 200_000, 0), (0, 0, 800_000, 0), 0, 0)
    found = Entitlement(Resources(memory=700_000), NOTHING, Resources(memory=100_000))
    assert list(slack_steps(found, claim, 2, "memory")) == [
        "Its hard pods hold and wait for 600 of 700, its revocable pods for 200 within the slack limit: of"
        " what hard pods leave, these may hold 100."
    ]
    assert list(slack_steps(found, claim, 3, "disk")) == []


def test_revocable_cpu_is_told_where_there_is_any() -> None:
    division = Division(
        80_000, [part(), part()], [25_000, 0], [25_000, 0], [5_000, 0], [20_000, 0], [27_500] * 2, []
    )
    division = division._replace(totals=[52_500, 27_500])
    assert list(slack_cpu_steps(division, 0, "/", "/a")) == [
        "/ has 80 revocable cpu for revocable pods, of which those of /a keep the 5 that they hold, get 20 of"
        " the 20 they wait for, and may have 27.5 that nobody asks for: 52.5 in all."
    ]
    nothing = Division(0, [part()], [0], [0], [0], [0], [0], [0])
    assert list(slack_cpu_steps(nothing, 0, "/", "/a")) == []


def test_it_begins_with_the_hosts() -> None:
    capacity = Resources(cpu=1500, memory=2000, revocable_cpu=3000)
    assert (
        root_step(capacity, "cpu")
        == "The hosts that are up and not draining have 1.5 cpu and 3 revocable cpu."
    )
    assert root_step(capacity, "memory") == "The hosts that are up and not draining have 2 memory."
