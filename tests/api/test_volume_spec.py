"""What is wrong with volumes and mounts is said, with the field and what would be accepted."""

import pytest

from derny.api import volume_spec
from derny.model.errors import Invalid
from derny.model.specs import VolumeRequest
from derny.proto.mesos.v1 import ContainerInfo
from derny.proto.mesos.v1 import Volume as MesosVolume
from derny.proto.peloton.api.v1alpha.pod import (
    ContainerSpec,
    PersistentVolumeSpec,
    PodSpec,
    VolumeMount,
)
from derny.proto.peloton.api.v1alpha.volume import (
    VolumeSpec,
    VolumeSpecEmptyDirVolumeSource,
    VolumeSpecHostPathVolumeSource,
)
from derny.proto.peloton.api.v1alpha.volume import VolumeSpecVolumeType as Type


def host_path(name="data", path="/srv/data"):
    return VolumeSpec(name, Type.HOST_PATH, host_path=VolumeSpecHostPathVolumeSource(path))


def empty_dir(name="tmp", medium=""):
    return VolumeSpec(name, Type.EMPTY_DIR, empty_dir=VolumeSpecEmptyDirVolumeSource(medium, 64))


def mounting(*mounts, volumes=None, init=False):
    container = ContainerSpec(
        name="main", volume_mounts=[VolumeMount(name, mount_path=path) for name, path in mounts]
    )
    found = [host_path(), empty_dir()] if volumes is None else volumes
    if init:
        return PodSpec(init_containers=[container], volumes=found)
    return PodSpec(containers=[container], volumes=found)


def refusal(pod):
    with pytest.raises(Invalid) as refused:
        volume_spec.check("spec", pod)
    return str(refused.value)


def test_volumes_of_both_types_can_be_mounted_by_any_container():
    for init in (False, True):
        volume_spec.check("spec", mounting(("data", "/data"), ("tmp", "/tmp/x"), init=init))
    volume_spec.check(
        "spec", PodSpec(volumes=[VolumeSpec("tmp", Type.EMPTY_DIR), empty_dir("ram", "Memory")])
    )


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (VolumeSpec("", Type.EMPTY_DIR), "spec.volumes[0].name is empty"),
        (VolumeSpec("data"), "spec.volumes[0].type is 0"),
        (VolumeSpec("data", 7), "spec.volumes[0].type is 7"),
        (VolumeSpec("data", Type.HOST_PATH), "spec.volumes[0].host_path.path is ''"),
        (host_path(path="srv"), "spec.volumes[0].host_path.path is 'srv'; expected an absolute path"),
        (empty_dir(medium="Tape"), "spec.volumes[0].empty_dir.medium is 'Tape'"),
        (
            VolumeSpec("v", Type.HOST_PATH, empty_dir=VolumeSpecEmptyDirVolumeSource()),
            "spec.volumes[0].empty_dir is set",
        ),
        (
            VolumeSpec("v", Type.EMPTY_DIR, host_path=VolumeSpecHostPathVolumeSource("/x")),
            "spec.volumes[0].host_path is set",
        ),
    ],
)
def test_a_volume_needs_a_name_a_type_and_what_belongs_to_it(volume, words):
    assert words in refusal(PodSpec(volumes=[volume]))


def test_names_of_volumes_are_unique():
    assert "spec.volumes[1].name 'data'" in refusal(PodSpec(volumes=[host_path(), host_path(path="/b")]))


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        ([("other", "/x")], "volume_mounts[0].name 'other' is none of the pod's volumes"),
        ([("data", "x")], "volume_mounts[0].mount_path is 'x'"),
        ([("data", "/x"), ("data", "/y")], "volume_mounts[1].name 'data' is mounted more than once"),
        ([("data", "/x"), ("tmp", "/x/")], "volume_mounts[1].mount_path '/x/' has another volume"),
    ],
)
def test_a_mount_names_a_volume_and_a_path_of_its_own(mounts, words):
    assert words in refusal(mounting(*mounts))
    assert "spec.init_containers[0]" in refusal(mounting(*mounts, init=True))


def test_a_persistent_volume_has_an_absolute_path_and_a_size():
    assert volume_spec.persistent(PodSpec()) is None
    pod = PodSpec(volume=PersistentVolumeSpec("/data", 100))
    volume_spec.check("spec", pod)
    assert volume_spec.persistent(pod) == VolumeRequest("/data", 100_000)
    for volume, words in (
        (PersistentVolumeSpec("data", 100), "spec.volume.container_path is 'data'"),
        (PersistentVolumeSpec("/data"), "spec.volume.size_mb is 0"),
    ):
        assert words in refusal(PodSpec(volume=volume))


def test_a_container_sees_its_mounts_its_mesos_volumes_and_the_persistent_one():
    old = ContainerInfo(volumes=[MesosVolume(container_path="/old/")])
    container = ContainerSpec(volume_mounts=[VolumeMount("data", mount_path="/data")], container=old)
    pod = PodSpec(containers=[container], volumes=[host_path()], volume=PersistentVolumeSpec("/var/state", 1))
    volume_spec.check("spec", pod)
    assert volume_spec.mounts(pod, container) == ("/data", "/old", "/var/state")
    taken = ContainerSpec(volume_mounts=[VolumeMount("data", mount_path="/old")], container=old)
    assert "mount_path '/old' has another volume" in refusal(
        PodSpec(containers=[taken], volumes=[host_path()])
    )
    relative = ContainerSpec(container=ContainerInfo(volumes=[MesosVolume(container_path="x")]))
    assert "container.volumes[0].container_path is 'x'" in refusal(PodSpec(containers=[relative]))
