"""BrowsePodSandbox: where the files of a run are, as the agents of a Mesos cluster lay them out.

One rule: the answer names what the simulated agents would have, a standard output and a standard error for
each container; nobody listens there. Called by `api.pods`. (API reference, pod_svc.proto; behaviour, jobs
§3.6.)
"""

from typing import Final

from derny.answers.sandboxes import SandboxView
from derny.proto.peloton.api.v1alpha.pod.svc import BrowsePodSandboxResponse

AGENT_PORT: Final = "5051"
MASTER: Final = ("mesos-master", "5050")
"""Name and port of the simulated master: Mesos' own defaults."""
_FILES: Final = ("stdout", "stderr")


def response(view: SandboxView) -> BrowsePodSandboxResponse:
    """What clients are told of a sandbox. A pod of one container has its files at the top."""
    top = f"/var/lib/mesos/slaves/{view.agent_id}/frameworks/derny/executors/{view.pod}/runs/latest"
    template = view.template
    folders = [top]
    if not template.is_plain:
        every = (*template.init_containers, *template.containers)
        folders = [f"{top}/containers/{container.name}" for container in every]
    paths = [f"{folder}/{file}" for folder in folders for file in _FILES]
    return BrowsePodSandboxResponse(view.ip or view.host, AGENT_PORT, paths, *MASTER)
