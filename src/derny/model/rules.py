"""The rules of placement and of preemption that an operator chooses.

One rule: each has a default with its reason, and holds for all pods alike. Filled by `topology.load_topology`
from a file's `placement:` and `preemption:`; read by `placement` and by `core.preemption`. (Behaviour,
scheduler §5, §6.7, §6.8, §7.2.)
"""

from enum import Enum
from typing import Final, NamedTuple

STATELESS_POOL: Final = "stateless"
"""The host pool of services, by Peloton's well-known names (behaviour, scheduler §7.2)."""


class Policy(Enum):
    """Which of the hosts with room is preferred.

    SPREAD takes the host with the most free of the first kind that the pod asks for, of disk, memory, cpu,
    gpu, as Peloton's engine for stateless pods does. Kinds that the pod does not ask for are left out, unlike
    there: they never fall, so they would pile the whole group on one host. BEST_FIT packs: the host with the
    least free of the group's dominant kind, the kind of which one pod asks the greatest part of the whole
    cluster (dominant share; Ghodsi et al., Dominant Resource Fairness, NSDI 2011).
    """

    BEST_FIT = "best_fit"
    SPREAD = "spread"


class Rules(NamedTuple):
    """How hosts are chosen.

    `policy`: SPREAD unless told otherwise, since all that runs here are services: a host that fails takes the
    fewest pods of each with it. `scarce_gpu`: hosts with gpus are kept for pods that ask for them (Peloton's
    development setting), unless all have gpus. `use_host_pool`: pods go only to hosts of the pool
    `stateless` (off, as in Peloton).
    """

    policy: Policy = Policy.SPREAD
    scarce_gpu: bool = True
    use_host_pool: bool = False


class Preempting(NamedTuple):
    """Whether pods are preempted, and for whom.

    `enabled`: pools give back what they hold beyond their entitlements (on, as in Peloton); without it
    nothing is ever taken back, and pods that can't be preempted may hold more than their pool reserves.
    `by_priority`: a gang also takes the place of pods of lower priority in its own pool, when the pool can't
    grow (off: Peloton never does it).
    """

    enabled: bool = True
    by_priority: bool = False


DEFAULT_RULES: Final = Rules()
DEFAULT_PREEMPTING: Final = Preempting()
