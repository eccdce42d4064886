"""Which instances a new configuration adds, changes, takes away or leaves as they are.

One rule: pure comparison, nothing is written. Pods are compared by what they run, one by one, so that a job
that an aborted update left with mixed configurations is mended by the next; templates are shared and have
digests, so that one comparison costs next to nothing, and callers go slice by slice. Called by
`core.workflow_steps`, by the queries behind GetReplaceJobDiff, and by whoever plans. (Behaviour, jobs §8.2.)
"""

from derny.core.instances import within
from derny.model.records import Job, Pod, Workflow
from derny.model.specs import JobSpec
from derny.model.states import PodState, WorkflowType


def differs(job: Job, pod: Pod, spec: JobSpec) -> bool:
    """Whether the pod must be restarted to be as `spec` has it."""
    if pod.config != pod.desired_config or pod.goal is PodState.DELETED:
        return True
    before = job.specs[pod.config]
    runs, wanted = before.template(pod.instance), spec.template(pod.instance)
    return (runs is not wanted and runs.digest != wanted.digest) or before.secrets != spec.secrets


def changed_instances(job: Job, spec: JobSpec, first: int, end: int) -> list[int]:
    """The existing instances from `first` up to and without `end` that `spec` has and that differ from
    it."""
    return [
        pod.instance for pod in job.pods[first : min(end, spec.instance_count)] if differs(job, pod, spec)
    ]


def instances_to_touch(job: Job, workflow: Workflow, first: int, end: int) -> list[int]:
    """The existing instances of a slice that the workflow is to update or restart."""
    if workflow.type is WorkflowType.RESTART:
        return within(workflow.asked, first, min(end, len(job.pods)))
    return changed_instances(job, job.specs[workflow.config], first, end)
