"""How moments are spelled in answers: RFC 3339 in UTC, empty for what has not happened.

Called by whatever makes messages from views. (Behaviour, jobs §0.5.)
"""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def rfc3339(at: float) -> str:
    """Seconds since the epoch as UTC with microseconds; empty for 0.0, which is never."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%f}Z" if at else ""


def whole_seconds(at: float) -> str:
    """As `rfc3339`, without the part below a second, which events leave out (behaviour, jobs §0.5)."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}Z"
