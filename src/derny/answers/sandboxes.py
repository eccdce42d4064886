"""Where the files of a run are: read-only answers for whoever wants to look into a sandbox.

One rule: a run has a sandbox once it has been RUNNING, and keeps it when it has ended. For the current run
the pod itself knows where; for earlier ones its history does, as far back as it is kept. (API reference,
BrowsePodSandbox; behaviour, jobs §3.6.)
"""

import msgspec

from derny.core.history import entries
from derny.core.state import State
from derny.model.errors import NotFound, WrongState
from derny.model.ids import HostName, JobId, PodId, pod_id
from derny.model.records import Pod
from derny.model.specs import PodTemplate
from derny.model.states import PodState


class SandboxView(msgspec.Struct, frozen=True):
    """The host of a run, and what it ran."""

    pod: PodId
    host: HostName
    ip: str
    agent_id: str
    template: PodTemplate


def sandbox(state: State, job: JobId, instance: int, run: int | None = None) -> SandboxView:
    """The sandbox of a run of a pod, of the current one where none is given.

    NotFound: no such pod, or it has not had this run; WrongState: as far as is known, the run has never run.
    """
    pod = state.pod(job, instance)
    wanted = pod.run if run is None else run
    if not 1 <= wanted <= pod.run:
        raise NotFound(f"pod {job}-{instance} has had no run {wanted}; its current run is {pod.run}")
    found = _place(state, pod, wanted)
    if found is None:
        raise WrongState(
            f"run {wanted} of pod {job}-{instance} has not been run; a sandbox is there once it is RUNNING"
        )
    name, config = found
    spec = state.jobs[job].specs.get(config)
    host = state.hosts[name]
    template = spec.template(instance) if spec is not None else pod.template
    return SandboxView(pod_id(job, instance, wanted), name, host.ip, host.agent_id, template)


def _place(state: State, pod: Pod, run: int) -> tuple[HostName, int] | None:
    """The host on which a run was RUNNING, and its configuration."""
    if run == pod.run and pod.started_at and pod.host is not None:
        return pod.host, pod.config
    for entry in entries(pod, state.texts):
        if entry.run == run and entry.state is PodState.RUNNING and entry.host >= 0:
            return state.table.name_of[entry.host], entry.config
    return None
