"""What one daemon was started with, frozen.

One rule: nothing here decides; the numbers have their reasons where they are defined. Made by the command
line from flags and files; read by `app`, which hands each room its part.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from derny.edge import connection
from derny.model.periods import Limits, Periods
from derny.model.rules import DEFAULT_PREEMPTING, DEFAULT_RULES, Preempting, Rules
from derny.topology import Fleet, Span


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Port 0 takes a free one; no `data_dir`: state in memory."""

    fleet: Fleet
    latencies: Mapping[str, Span]
    seed: int | None = None
    """Without one it is the seed of the data directory, or a fresh one."""
    host: str = "127.0.0.1"
    port: int = 5392
    """Peloton's job manager listens here, so that its clients find the daemon unconfigured."""
    data_dir: Path | None = None
    periods: Periods = Periods()
    limits: Limits = Limits()
    edge: connection.Limits = connection.Limits()
    rules: Rules = DEFAULT_RULES
    preempting: Preempting = DEFAULT_PREEMPTING
