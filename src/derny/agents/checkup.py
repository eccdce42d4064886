"""What a simulated health check finds, and when.

A check by command finds what the command says at that time of the container's life, whose files it sees;
checks by HTTP and gRPC find the container well. Whatever the kind, a container is not well before
DERNY_HEALTHY_AFTER_S and from DERNY_UNHEALTHY_AFTER_S on, if it has such a variable: seconds from its start.
One rule: only what agents report is told, that is the first time that it is well and every time that it is
not, so that a container which stays well has nothing to say. Called by `agents.life`. (Behaviour, jobs §7.7,
scheduler §8.2 and §8.6.)
"""

import math
from collections.abc import Iterator
from typing import Final

from derny.agents.behaviour import Behaviour, Variables, probe
from derny.model.specs import Container, HealthCheck

HEALTHY_AFTER: Final = "DERNY_HEALTHY_AFTER_S"
UNHEALTHY_AFTER: Final = "DERNY_UNHEALTHY_AFTER_S"

Result = tuple[float, bool, bool]
"""When, in seconds from the container's start; whether it is well; whether it has not been too often."""


def results(container: Container, behaviour: Behaviour, own: Variables) -> Iterator[Result]:
    """What the check of this container reports in the course of its life. Ends with the result after which
    the container is killed, or when nothing will change any more."""
    check = container.check
    assert check is not None, "only a container with a check is checked"
    well, passed, failed = False, 0.0, 0
    at_s = float(check.initial_s)
    for until_s, passes, takes_s in _spans(check, container, behaviour, own):
        if at_s >= until_s:
            continue
        period_s = check.interval_s + takes_s
        checks = math.ceil((until_s - at_s) / period_s) if until_s < math.inf else math.inf
        if passes:
            failed = 0
            if not well and passed + checks >= check.successes:
                well = True
                yield at_s + (check.successes - passed - 1) * period_s + takes_s, True, False
            passed += checks
        else:
            well, passed = False, 0.0
            left = check.failures_max - failed
            for number in range(int(min(checks, left))):
                yield at_s + number * period_s + takes_s, False, number + 1 == left
            if checks >= left:
                return
            failed += int(checks)
        if until_s < math.inf:
            at_s += checks * period_s


def _spans(
    check: HealthCheck, container: Container, behaviour: Behaviour, own: Variables
) -> Iterator[tuple[float, bool, float]]:
    """Stretches of the container's life in which a check finds the same: until when, whether it passes, and
    how long it takes, which is no longer than it may."""
    variables = dict(container.environment)
    well_s = _seconds(variables.get(HEALTHY_AFTER), 0.0)
    unwell_s = _seconds(variables.get(UNHEALTHY_AFTER), math.inf)
    seen = own if check.unshared else (*container.environment, *own)
    turns = {well_s, unwell_s, *(change[0] for change in behaviour.files)} - {0.0, math.inf}
    since_s = 0.0
    for until_s in (*sorted(turns), math.inf):
        exits_well, takes_s = probe(check.command, seen, behaviour.files, since_s)
        passes = exits_well and takes_s <= check.timeout_s and well_s <= since_s < unwell_s
        yield until_s, passes, min(takes_s, float(check.timeout_s))
        since_s = until_s


def _seconds(text: str | None, otherwise: float) -> float:
    """A number of seconds; what is none is as if it were not there."""
    try:
        seconds = float(text) if text is not None else otherwise
    except ValueError:
        return otherwise
    return seconds if seconds >= 0 else otherwise
