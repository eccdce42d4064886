"""Sandboxes as agents lay them out."""

from builders import a_template
from derny.answers.sandboxes import SandboxView
from derny.api.sandbox import response
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.specs import Container, PodTemplate

TOP = "/var/lib/mesos/slaves/agent-3/frameworks/derny/executors/pod-0-1/runs/latest"


def view(template: PodTemplate, ip: str = "10.0.0.3") -> SandboxView:
    return SandboxView(PodId("pod-0-1"), HostName("host-3"), ip, "agent-3", template)


def test_one_container_has_its_files_at_the_top():
    told = response(view(a_template()))
    assert (told.hostname, told.port) == ("10.0.0.3", "5051")
    assert told.paths == [f"{TOP}/stdout", f"{TOP}/stderr"]
    assert (told.mesos_master_hostname, told.mesos_master_port) == ("mesos-master", "5050")


def test_a_host_without_an_address_is_told_by_its_name():
    assert response(view(a_template(), ip="")).hostname == "host-3"


def test_several_containers_have_a_folder_each():
    containers, init = (Container("main"), Container("side")), (Container("init"),)
    template = PodTemplate(Resources(), containers=containers, init_containers=init)
    assert response(view(template)).paths == [
        f"{TOP}/containers/{name}/{file}"
        for name in ("init", "main", "side")
        for file in ("stdout", "stderr")
    ]
