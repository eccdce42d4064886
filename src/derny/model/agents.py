"""What an agent may register with: the names, amounts, ports and attributes of hosts, and their defaults.

One rule: a description of a fleet in a file and an agent added by a call are held to the same. Called by
`topology` and by `api.simulation`, which say what is wrong in their own words.
"""

import re
from collections.abc import Mapping
from typing import Final

from derny.model.resources import MILLI, Resources

DEFAULT_CAPACITY: Final = Resources(cpu=8 * MILLI, memory=32 * 1024 * MILLI, disk=100 * 1024 * MILLI)
"""cpu=8,mem=32Gi,disk=100Gi,gpu=0: a small server. Kinds that a description leaves out are as here."""
DEFAULT_PORTS: Final = (31000, 32000)
"""What Mesos agents offer unless told otherwise, both ends included."""
AMOUNT_MAX: Final = 2**40
"""Thousandths of one kind on one host (a PiB of memory): a million such hosts sum up within 63 bits."""
PORT_MAX: Final = 65535

RESERVED_LABELS: Final[Mapping[str, str]] = {
    "": "expected a name",
    "hostname": "the host's name is its hostname",
    "host_pool": "the host's pool is what HostService says",
}
"""Labels that every host has by itself, and why they are no attributes."""

_NAME_MAX: Final = 253
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def is_host_name(text: str) -> bool:
    """Whether a host may be called so: letters, digits, dots, dashes and underscores, at most 253
    characters (RFC 1123, with the underscores that people use all the same)."""
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None
