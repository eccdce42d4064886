"""Digests by which the core knows whether two specs mean the same, without knowing what is in them.

One rule: equal digests mean that a pod of one spec need not be restarted to be a pod of the other. Both forms
of the contract are filled in first, so that it does not matter in which one a client wrote; the name of a
container that is alone, and the order of labels and ports, mean nothing. All else counts. Called by
`wire_in.job_spec`. (Behaviour, jobs §8.2, §8.3.)
"""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from operator import attrgetter
from typing import TypeVar

import betterproto2

from derny.api.codec import encode
from derny.api.pod_spec import fill_form
from derny.model.specs import PodTemplate
from derny.proto.mesos.v1 import ContainerInfo, ContainerInfoDockerInfoNetwork
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec

_M = TypeVar("_M", bound=betterproto2.Message)

_SIZE = 16

_by_key_and_value = attrgetter("key", "value")


def pod_digest(pod: PodSpec, revocable: bool) -> bytes:
    """Of an effective pod spec. `revocable`: what its job says, which overrules the pod."""
    normal = _copied(
        pod,
        pod_name=None,
        revocable=revocable,
        labels=sorted(pod.labels, key=_by_key_and_value),
        containers=[_copied(container) for container in pod.containers],
        init_containers=[_copied(container) for container in pod.init_containers],
    )
    fill_form(normal)
    normal.containers = [_normal(container, len(pod.containers) == 1) for container in normal.containers]
    normal.init_containers = [_normal(container, False) for container in normal.init_containers]
    return blake2b(encode(normal), digest_size=_SIZE).digest()


def job_digest(job: JobSpec, templates: Iterable[PodTemplate], template_of: dict[int, int]) -> bytes:
    """Of a whole job. `templates` have the digests of its pods, and the names of their containers."""
    plain = _copied(
        job,
        revision=None,
        labels=sorted(job.labels, key=_by_key_and_value),
        default_spec=None,
        instance_spec={},
    )
    found = blake2b(encode(plain), digest_size=_SIZE)
    for template in templates:
        found.update(template.digest)
        found.update(repr([container.name for container in template.containers]).encode())
    found.update(repr(sorted(template_of.items())).encode())
    return found.digest()


def _copied(message: _M, **values: object) -> _M:
    copy = replace(message, **values)  # type: ignore[type-var]  # generated classes are dataclasses
    copy._unknown_fields = bytes(message._unknown_fields)
    return copy


def _normal(container: ContainerSpec, is_alone: bool) -> ContainerSpec:
    container.ports = sorted(container.ports, key=attrgetter("name"))
    if is_alone:
        container.name = ""
    if container.container is not None and container.container.docker is not None:
        container.container = _with_network(container.container)
    return container


def _with_network(info: ContainerInfo) -> ContainerInfo:
    """Mesos' default network may be named or not."""
    docker = info.docker
    assert docker is not None
    network = docker.network or ContainerInfoDockerInfoNetwork.HOST
    return _copied(info, docker=_copied(docker, network=network))
