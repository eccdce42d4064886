"""How people write amounts: `0.5` or `500m` cpus, `32Gi` or 512 MB, `300ms` or `1h30m`.

One rule: a text that is no amount gives None, and the caller, who knows the flag or the place in a
file, says what is wrong. Infinity and NaN are no amounts. Called by `client.yaml_tree`, `topology` and
the command line.
"""

import re
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_DURATION: Final = re.compile(f"(?:{_DURATION_PART.pattern})+")

_MILLI: Final = 1000
_UNITS_PER_S: Final = {"ms": 1000.0, "s": 1.0, "m": 1 / 60, "h": 1 / 3600}
_MB_OF: Final = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}
"""The API's MB are MiB, as in Mesos."""


def number(text: str) -> float | None:
    """A finite decimal number such as 8, -0.5 or 1e3; leading zeros, which may mean octal, are refused."""
    value = float(text) if _NUMBER.fullmatch(text) else float("inf")
    return value if abs(value) < float("inf") else None


def cpus(text: str) -> float | None:
    """cpus in `8`, `0.5` or `500m` (thousandths)."""
    if not text.endswith("m"):
        return number(text)
    thousandths = number(text[:-1])
    return None if thousandths is None else thousandths / _MILLI


def megabytes(text: str) -> float | None:
    """MB in `32Gi`, `512Mi`, `1.5TiB` or a plain number of MB."""
    unit = text.removesuffix("B")[-2:]
    if unit not in _MB_OF:
        return number(text)
    count = number(text.removesuffix("B")[:-2])
    return None if count is None else count * _MB_OF[unit]


def duration_s(text: str) -> float | None:
    """Seconds in `300ms`, `5s`, `2m`, `1h30m` or a plain number of seconds."""
    if not _DURATION.fullmatch(text):
        return number(text)
    return sum(float(count) / _UNITS_PER_S[unit] for count, unit in _DURATION_PART.findall(text))
