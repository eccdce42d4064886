"""Amounts as people write them."""

from collections.abc import Callable

import pytest

from derny.client import amounts


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("-1.5", -1.5), ("+2", 2), (".5", 0.5), ("5.", 5), ("1e3", 1000), ("0", 0), ("0.25", 0.25)],
)
def test_a_number_is_decimal(text: str, value: float) -> None:
    assert amounts.number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "nan", ".nan", "inf", ".inf", "1e999", "010", "0x10", "1_000", "1:30", "1 2", "٣", " 1", "1,5"],
)
def test_what_is_no_finite_decimal_number_is_none(text: str) -> None:
    assert amounts.number(text) is None


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (amounts.cpus, "8", 8),
        (amounts.cpus, "500m", 0.5),
        (amounts.cpus, "0.1", 0.1),
        (amounts.megabytes, "512", 512),
        (amounts.megabytes, "512Mi", 512),
        (amounts.megabytes, "32Gi", 32 * 1024),
        (amounts.megabytes, "1.5TiB", 1.5 * 1024 * 1024),
        (amounts.duration_s, "300ms", 0.3),
        (amounts.duration_s, "5s", 5),
        (amounts.duration_s, "2m", 120),
        (amounts.duration_s, "1h30m", 5400),
        (amounts.duration_s, "0.5h", 1800),
        (amounts.duration_s, "7", 7),
    ],
)
def test_units_are_understood(read: Callable[[str], float | None], text: str, value: float) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (amounts.cpus, "m"),
        (amounts.cpus, "8 cores"),
        (amounts.megabytes, "32G"),
        (amounts.megabytes, "Gi"),
        (amounts.megabytes, "32B"),
        (amounts.megabytes, "32GiBB"),
        (amounts.duration_s, "5 s"),
        (amounts.duration_s, "5d"),
        (amounts.duration_s, "1h30"),
        (amounts.duration_s, "nans"),
    ],
)
def test_other_units_are_none(read: Callable[[str], float | None], text: str) -> None:
    assert read(text) is None
