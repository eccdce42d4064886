"""Volumes and mounts as clients write them: what is wrong with them is said here.

Two things are called a volume. `volumes` are directories of the pod's host (HOST_PATH), or empty ones that
live as long as the pod (EMPTY_DIR); containers mount them by name. `volume` is the persistent one, which
outlives the run and binds the pod to its host (`core.volumes`). Called by `wire_in`. (API reference,
pod.proto and volume.proto; behaviour, jobs §9.6, whose rules for custom executors hold for all here.)
"""

from posixpath import normpath

from derny.model.errors import Invalid
from derny.model.resources import whole_units
from derny.model.specs import VolumeRequest
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec
from derny.proto.peloton.api.v1alpha.volume import VolumeSpec, VolumeSpecVolumeType

MEDIUMS = ("", "Memory")
"""What can back an empty directory: the host's disk, or its memory."""


def check(where: str, pod: PodSpec) -> None:
    """Refuse volumes without a name, twice of one name, or of no type, mounts of what is not there, and a
    persistent volume without an absolute path or a size; Invalid. `where` begins the sentence."""
    names: set[str] = set()
    for number, volume in enumerate(pod.volumes):
        _check_volume(f"{where}.volumes[{number}]", volume, names)
        names.add(volume.name)
    kinds = (("init_containers", pod.init_containers), ("containers", pod.containers))
    for kind, containers in kinds:
        for number, container in enumerate(containers):
            _check_mounts(f"{where}.{kind}[{number}]", container, names)
    if pod.volume is not None:
        _check_path(f"{where}.volume.container_path", pod.volume.container_path)
        if not pod.volume.size_mb:
            raise Invalid(f"{where}.volume.size_mb is 0; expected the volume's size in MB")


def persistent(pod: PodSpec) -> VolumeRequest | None:
    """The persistent volume that a pod asks for."""
    if pod.volume is None:
        return None
    return VolumeRequest(pod.volume.container_path, whole_units(pod.volume.size_mb))


def mounts(pod: PodSpec, container: ContainerSpec) -> tuple[str, ...]:
    """The paths at which a container sees volumes; the persistent one is seen by all."""
    paths = [mount.mount_path for mount in container.volume_mounts]
    if container.container is not None:
        paths += [volume.container_path or "" for volume in container.container.volumes]
    if pod.volume is not None:
        paths.append(pod.volume.container_path)
    return tuple(normpath(path) for path in paths)


def _check_volume(where: str, volume: VolumeSpec, names: set[str]) -> None:
    if not volume.name:
        raise Invalid(f"{where}.name is empty; expected the name by which containers mount it")
    if volume.name in names:
        raise Invalid(f"{where}.name {volume.name!r} is another volume's too; expected each name once")
    if volume.type == VolumeSpecVolumeType.HOST_PATH:
        if volume.empty_dir is not None:
            raise Invalid(f"{where}.empty_dir is set for a volume of the type HOST_PATH; expected host_path")
        _check_path(f"{where}.host_path.path", volume.host_path.path if volume.host_path is not None else "")
    elif volume.type == VolumeSpecVolumeType.EMPTY_DIR:
        if volume.host_path is not None:
            raise Invalid(f"{where}.host_path is set for a volume of the type EMPTY_DIR; expected empty_dir")
        medium = volume.empty_dir.medium if volume.empty_dir is not None else ""
        if medium not in MEDIUMS:
            raise Invalid(f"{where}.empty_dir.medium is {medium!r}; expected nothing, or 'Memory'")
    else:
        raise Invalid(
            f"{where}.type is {int(volume.type)}; expected VOLUME_TYPE_EMPTY_DIR or VOLUME_TYPE_HOST_PATH"
        )


def _check_mounts(where: str, container: ContainerSpec, names: set[str]) -> None:
    mounted: set[str] = set()
    paths: set[str] = set()
    if container.container is not None:
        for number, volume in enumerate(container.container.volumes):
            this = f"{where}.container.volumes[{number}].container_path"
            _check_path(this, volume.container_path or "")
            paths.add(normpath(volume.container_path or ""))
    for number, mount in enumerate(container.volume_mounts):
        this = f"{where}.volume_mounts[{number}]"
        if mount.name not in names:
            raise Invalid(f"{this}.name {mount.name!r} is none of the pod's volumes; expected one of them")
        if mount.name in mounted:
            raise Invalid(f"{this}.name {mount.name!r} is mounted more than once; expected each volume once")
        _check_path(f"{this}.mount_path", mount.mount_path)
        if normpath(mount.mount_path) in paths:
            raise Invalid(f"{this}.mount_path {mount.mount_path!r} has another volume already")
        mounted.add(mount.name)
        paths.add(normpath(mount.mount_path))


def _check_path(where: str, path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise Invalid(f"{where} is {path[:200]!r}; expected an absolute path")
