"""Volumes: decide and apply. The life of a persistent volume.

INITIALIZED on the host of the first run that asks for it, its disk reserved there; CREATED when that run
runs; DELETED by a client's word, once no run uses it. All further runs of the instance go to its host, and
wait for that host if it is away: what was written must not be lost without a word. A client who gives it up
deletes the volume; the next run gets a fresh one, anywhere. An instance that is removed leaves its volume
behind, for the day when it is added again; with its job every volume goes.

The pod appliers of `core.pods` call here for what their events mean for volumes. (API reference, volume.proto
and volume_svc.proto; behaviour, jobs §5 and §12.)
"""

from derny.core.commands import DeleteVolume
from derny.core.events import VolumeDeleted
from derny.core.state import State
from derny.model.errors import Busy, Invalid, NotFound
from derny.model.ids import JobId, VolumeId, pod_name, volume_id
from derny.model.records import Job, Pod, Volume
from derny.model.resources import Resources, wire_units
from derny.model.specs import JobSpec
from derny.model.states import POD_ON_HOST, PodState, VolumeState


def decide_delete(state: State, command: DeleteVolume, at: float) -> list[VolumeDeleted]:
    """NotFound; Busy: a run uses it. Nothing for one that is deleted already."""
    volume = existing(state, command.volume)
    if volume.state is VolumeState.DELETED:
        return []
    job = state.jobs[volume.job]
    pod = job.pods[volume.instance] if volume.instance < len(job.pods) else None
    if pod is not None and pod.state in POD_ON_HOST and job.volumes.get(pod.instance) == volume.id:
        raise Busy(
            f"volume {volume.id!r} is in use by pod {pod_name(job.id, pod.instance)}, which is"
            f" {pod.state.name}; stop the pod first"
        )
    return [VolumeDeleted(volume.id)]


def existing(state: State, volume: VolumeId) -> Volume:
    """The volume of this id, which may be deleted already; NotFound."""
    try:
        return state.volumes[volume]
    except KeyError:
        raise NotFound(f"volume {volume!r} does not exist") from None


def check_sizes(state: State, job: Job, spec: JobSpec) -> None:
    """Refuse a configuration that wants volumes which are there in another size; Invalid.

    A run that the check comes too late for, since its volume is made while an update waits, keeps the volume
    as it is.
    """
    known = {size for kept in job.specs.values() for size in _sizes(kept)}
    if len(known | _sizes(spec)) <= 1:
        # One size ever, however many instances there are.
        return
    for instance in sorted(job.volumes):
        volume = state.volumes[job.volumes[instance]]
        if instance >= spec.instance_count or volume.state is VolumeState.DELETED:
            continue
        request = spec.template(instance).volume
        if request is not None and request.size != volume.size:
            raise Invalid(
                f"spec wants a volume of {wire_units(request.size):g} MB for instance {instance}, whose"
                f" volume {volume.id!r} has {wire_units(volume.size):g} MB; expected the same size, or delete"
                " it first"
            )


def _sizes(spec: JobSpec) -> set[int]:
    return {template.volume.size for template in spec.templates if template.volume is not None}


def apply_deleted(state: State, event: VolumeDeleted, at: float) -> None:
    """It is still told of, as DELETED, until the instance has another one."""
    volume = state.volumes[event.volume]
    job = state.jobs[volume.job]
    pod = job.pods[volume.instance] if volume.instance < len(job.pods) else None
    waits = pod is not None and pod.state in (PodState.READY, PodState.PLACING)
    if pod is not None and waits:
        state.leave_group(pod)
    _give_back(state, volume)
    volume.state, volume.updated_at = VolumeState.DELETED, at
    if pod is not None and waits:
        # It waited for the host of this volume, and need not any more.
        state.join_group(pod)
    state.touch(job, at)


def placed(state: State, job: Job, pod: Pod, at: float) -> None:
    """The pod has been placed: the first run that asks for a volume gets one on its host."""
    request = pod.template.volume
    if request is None:
        return
    volume = state.volume(pod)
    assert pod.host is not None
    if volume is not None:
        assert volume.host == pod.host, f"volume {volume.id} is on {volume.host}, its pod on {pod.host}"
        volume.path = request.path
        return
    if (past := job.volumes.get(pod.instance)) is not None:
        del state.volumes[past]
    made = Volume(
        volume_id(job.id, pod.instance, pod.run),
        job.id,
        pod.instance,
        pod.host,
        request.path,
        request.size,
        VolumeState.INITIALIZED,
        at,
        at,
    )
    state.table.debit(state.table.row_of[pod.host], Resources(disk=request.size))
    state.volumes[made.id] = made
    job.volumes[pod.instance] = made.id


def running(state: State, job: Job, pod: Pod, at: float) -> None:
    """The pod runs: its volume has been made."""
    volume = state.volume(pod) if pod.template.volume is not None else None
    if volume is not None and volume.state is VolumeState.INITIALIZED:
        volume.state, volume.updated_at = VolumeState.CREATED, at


def job_removed(state: State, job: Job) -> None:
    """The job is forgotten, and all its volumes."""
    for volume in job.volumes.values():
        found = state.volumes.pop(volume)
        if found.state is not VolumeState.DELETED:
            _give_back(state, found)


def _give_back(state: State, volume: Volume) -> None:
    state.table.credit(state.table.row_of[volume.host], Resources(disk=volume.size))


def of_job(state: State, job: JobId) -> list[Volume]:
    """The volumes of a job, by instance; NotFound."""
    found = state.job(job)
    return [state.volumes[found.volumes[instance]] for instance in sorted(found.volumes)]
