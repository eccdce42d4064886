"""Typed ids, and how names and versions are spelled.

    pod name        <job id>-<instance>            b2f5...-3
    pod id          <job id>-<instance>-<run>      b2f5...-3-1
    entity version  <config>-<desired>-<workflow>  1-1-1

A pod name splits at its last dash, a pod id at its last two, so that any job id that holds dashes is safe.
Runs start at 1 and never go back. (API reference, peloton.proto: PodName, PodID, EntityVersion.)
"""

import re
from hashlib import sha1
from typing import NewType

from derny.model.errors import Invalid

JobId = NewType("JobId", str)
PodName = NewType("PodName", str)
PodId = NewType("PodId", str)
HostName = NewType("HostName", str)
PoolId = NewType("PoolId", str)
VolumeId = NewType("VolumeId", str)
HostPoolName = NewType("HostPoolName", str)

ROOT_POOL = PoolId("root")
DEFAULT_HOST_POOL = HostPoolName("default")
"""Where hosts are that nobody has put elsewhere (behaviour, scheduler §7.2)."""

_RFC_4122 = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_UUID = re.compile(rf"{_RFC_4122}\Z")
_DECIMAL = re.compile(r"[0-9]{1,20}\Z")
_POD_NAME = re.compile(rf"({_RFC_4122})-([0-9]{{1,20}})\Z")
_POD_ID = re.compile(rf"({_RFC_4122})-([0-9]{{1,20}})-([0-9]{{1,20}})\Z")
_INSTANCE_MAX = 2**32 - 1
_RUN_MAX = 2**64 - 1


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID as RFC 4122 writes it (with dashes, either case)."""
    return _UUID.match(text) is not None


def pod_name(job: JobId, instance: int) -> PodName:
    return PodName(f"{job}-{instance}")


def pod_id(job: JobId, instance: int, run: int) -> PodId:
    return PodId(f"{job}-{instance}-{run}")


def parse_pod_name(name: str) -> tuple[JobId, int]:
    """The job and the instance that `name` spells; Invalid when it is no pod name."""
    found = _POD_NAME.match(name)
    if found is not None and (instance := int(found[2])) <= _INSTANCE_MAX:
        return JobId(found[1]), instance
    raise Invalid(f"pod_name {name!r} is not a pod name; expected <job uuid>-<instance number>")


def parse_pod_id(text: str) -> tuple[JobId, int, int]:
    """The job, the instance and the run that `text` spells; Invalid when it is no pod id."""
    found = _POD_ID.match(text)
    if found is not None:
        job, number, last = found.groups()
        instance, run = int(number), int(last)
        if instance <= _INSTANCE_MAX and run <= _RUN_MAX:
            return JobId(job), instance, run
    raise Invalid(f"pod_id {text!r} is not a pod id; expected <job uuid>-<instance number>-<run number>")


def volume_id(job: JobId, instance: int, run: int) -> VolumeId:
    """The id of the volume that was made for this run: a UUID of version 5, so that replay makes it again."""
    # No secret rests on it: RFC 4122 asks for this very hash.
    digest = sha1(pod_id(job, instance, run).encode(), usedforsecurity=False).hexdigest()
    return VolumeId(f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}")


def entity_version(config: int, desired: int = 0, workflow: int = 0) -> str:
    """The spelling of a job's version; a pod's has zeros for the last two parts."""
    return f"{config}-{desired}-{workflow}"


def parse_config_version(text: str) -> int:
    """The config part of a job's or a pod's entity version; Invalid when it is not three decimal numbers."""
    parts = text.split("-")
    if len(parts) == 3 and all(_DECIMAL.match(part) for part in parts):
        return int(parts[0])
    raise Invalid(f"version {text!r} is not an entity version; expected <config>-<desired state>-<workflow>")
