"""What a health check finds, and when."""

from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from derny.agents.behaviour import plan, probe
from derny.agents.checkup import results
from derny.model.specs import CheckKind, Command, Container, HealthCheck


def found(check: HealthCheck, run: str = "server", **variables: str) -> list[tuple[float, bool, bool]]:
    container = Container("c", Command(run), check=check, environment=tuple(variables.items()))
    return list(islice(results(container, plan(container.command), ()), 50))


def by_command(line: str, initial: int = 10, interval: int = 5, failures: int = 3, **more) -> HealthCheck:
    return HealthCheck(CheckKind.COMMAND, Command(line), initial, interval, failures, **more)


@pytest.mark.parametrize("kind", [CheckKind.HTTP, CheckKind.GRPC])
def test_requests_are_answered_well_unless_the_container_says_otherwise(kind: CheckKind) -> None:
    check = HealthCheck(kind)
    assert found(check) == [(15, True, False)]
    assert found(check, DERNY_UNHEALTHY_AFTER_S="30") == [
        (15, True, False),
        (35, False, False),
        (45, False, False),
        (55, False, True),
    ]
    assert found(check, DERNY_HEALTHY_AFTER_S="30") == [
        (15, False, False),
        (25, False, False),
        (35, True, False),
    ]
    assert found(check, DERNY_HEALTHY_AFTER_S="soon") == [(15, True, False)]


PASSES = [
    *("ls", "ls -l /tmp", "true", "exit 0", "curl -f http://localhost/health", "/usr/local/bin/check"),
    *("test -d /tmp", "[ ! -e /x ]", "[ $(id -u) = 0 ]", "test 3 -lt 4 && echo ok", "[ a = a ]"),
]
FAILS = [
    *("ls /no/such/path", "false", "exit 4", "cat /x", "test -f /x", "sleep 21", "sleep infinity"),
    *("[ 1 -lt x ]", "[ a b ]", "test"),
]


@pytest.mark.parametrize("line", PASSES)
def test_commands_that_pass(line: str) -> None:
    assert [well for _, well, _ in found(by_command(line))] == [True]


@pytest.mark.parametrize("line", FAILS)
def test_commands_that_fail(line: str) -> None:
    assert [(well, last) for _, well, last in found(by_command(line))] == [
        (False, False),
        (False, False),
        (False, True),
    ]


def test_a_check_takes_its_time_and_no_more_than_it_may() -> None:
    assert found(by_command("sleep 2")) == [(12, True, False)]
    assert [at for at, _, _ in found(by_command("sleep 9", timeout_s=3))] == [13, 21, 29]


def test_a_container_that_was_not_well_has_to_be_well_more_than_once() -> None:
    check = by_command("ls", successes=3)
    assert found(check) == [(20, True, False)]
    assert found(check, DERNY_HEALTHY_AFTER_S="12") == [(10, False, False), (25, True, False)]
    assert found(by_command("ls", successes=2**32 - 1))[0][0] > 1e9


def test_a_check_sees_the_files_that_the_command_makes() -> None:
    """The example of every tutorial."""
    run = "touch /tmp/healthy; sleep 30; rm -f /tmp/healthy; sleep 600"
    assert found(by_command("cat /tmp/healthy", failures=2), run) == [
        (10, True, False),
        (30, False, False),
        (35, False, True),
    ]


def test_a_check_sees_the_container_s_variables_unless_it_is_kept_from_them() -> None:
    assert found(by_command('[ "$A" = 1 ]'), A="1") == [(10, True, False)]
    assert found(by_command('[ -z "$A" ]', unshared=True), A="1") == [(10, True, False)]


def test_a_check_that_may_fail_for_ever_does() -> None:
    assert found(by_command("false", failures=2**32 - 1))[-1] == (10 + 49 * 5, False, False)


@settings(deadline=None)
@example(1, 2, 2, 1, 2, 3)  # well for a second in which no check looks: failures in a row are counted across
@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 100),
    st.integers(0, 200),
)
def test_results_are_those_of_checking_one_by_one(
    initial: int, interval: int, failures: int, successes: int, well_s: int, unwell_s: int
) -> None:
    check = HealthCheck(CheckKind.HTTP, Command(), initial, interval, failures, 20, successes)
    expected, at, well, passed, failed = [], initial, False, 0, 0
    while at < 2000 and failed < failures:
        if well_s <= at < unwell_s:
            passed, failed = passed + 1, 0
            if not well and passed >= successes:
                well = True
                expected.append((at, True, False))
        else:
            passed, failed, well = 0, failed + 1, False
            expected.append((at, False, failed == failures))
        at += interval
    variables = {"DERNY_HEALTHY_AFTER_S": str(well_s), "DERNY_UNHEALTHY_AFTER_S": str(unwell_s)}
    assert found(check, **variables) == expected[:50]


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_a_check(line: str) -> None:
    well, takes_s = probe(Command(line), (), (), 0.0)
    assert takes_s >= 0
    assert probe(Command(line), (), (), 0.0) == (well, takes_s)
