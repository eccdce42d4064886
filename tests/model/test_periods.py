"""Periods and limits: complete, reasoned, and with Peloton's development values."""

import inspect
import re

import msgspec
import pytest

from derny.model import periods
from derny.model.periods import Limits, Periods

# Peloton's development configuration, in seconds (behaviour, scheduler §2.1, §4.2, §4.4, §5, §7.1; jobs §15).
PELOTON_DEV = {
    "entitlement_s": 5,
    "preemption_s": 10,
    "preemption_cycles": 3,
    "eviction_s": 10,
    "placing_timeout_s": 20,
    "placing_backoff_s": 10,
    "placing_attempts": 3,
    "launch_timeout_s": 60,
    "start_timeout_s": 60,
    "preempting_timeout_s": 20,
    "kill_timeout_s": 180 * 60,
    "restart_backoff_first_s": 30,
    "restart_backoff_max_s": 3600,
    "job_status_s": 1,
    "drain_s": 10,
    "host_held_s": 180,
    "heartbeat_s": 15,
    "lost_agent_timeout_s": 75,
}


def test_periods_default_to_pelotons_development_values() -> None:
    ours = msgspec.structs.asdict(Periods())
    assert {name: ours[name] for name in PELOTON_DEV} == PELOTON_DEV


@pytest.mark.parametrize("settings", [Periods, Limits])
def test_every_number_is_positive_and_within_its_own_bounds(settings: type[msgspec.Struct]) -> None:
    """The defaults pass the bounds that a topology file's values have to pass."""
    values = msgspec.structs.asdict(settings())
    assert all(value > 0 for value in values.values())
    assert msgspec.convert(values, settings) == settings()


def test_every_number_has_a_reason_beside_it() -> None:
    """In Periods and Limits a string follows each field: a number without a reason can't be turned."""
    source = inspect.getsource(periods)
    for field in [*Periods.__struct_fields__, *Limits.__struct_fields__]:
        assert re.search(rf'^    {field}: .*\n    """\S.{{20,}}', source, re.MULTILINE), field
