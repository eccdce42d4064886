"""Availability: which pods of a job count against its SLA, and whether one more may be disturbed.

One rule: the count is kept by `State.record`, with every write of a pod, so that asking costs nothing however
large the job is. It guards what we do to pods that run well (drains, restarts that ask for it), never what a
client orders plainly: stop, delete, restart, update. (API reference, SlaSpec; behaviour, jobs §10.)
"""

from typing import Final

from derny.model.records import Job, Pod
from derny.model.states import HealthState, PodState, TerminationReason

# Looked up once: through its class a member takes 70 ns in Python 3.11, and this is asked with every write.
_RUNNING: Final = PodState.RUNNING

_SERVING = frozenset({PodState.RUNNING, PodState.PREEMPTING})
"""One that is to be preempted serves as long as it has not been killed."""

_COUNTED = frozenset(
    {
        TerminationReason.FAILED,
        TerminationReason.KILLED_HOST_MAINTENANCE,
        TerminationReason.KILLED_FOR_UPDATE,
        # Peloton leaves this one out, so that nothing limits such restarts until the first victim is back.
        TerminationReason.KILLED_FOR_SLA_AWARE_RESTART,
    }
)
"""Ends that make a pod unavailable as soon as they are decided; others count once the next run waits."""

WELL = frozenset({HealthState.HEALTHY, HealthState.DISABLED})
"""What counts as good, of a pod that runs."""


def is_unavailable(pod: Pod) -> bool:
    """Whether the pod should serve and does not, or is about to stop."""
    if pod.goal is not _RUNNING:
        return False
    if pod.termination is not None:
        return pod.termination.reason in _COUNTED
    # What `superseded` says, spelled out: this is asked with every write.
    if pod.rerun or pod.config != pod.desired_config:
        return False
    return pod.state not in _SERVING or pod.health not in WELL


def may_disrupt(job: Job, pod: Pod) -> bool:
    """Whether the SLA bears that this pod is stopped: one that is unavailable anyway makes nothing worse."""
    limit = job.spec.unavailable_max
    return not limit or pod.unavailable or job.unavailable < limit
