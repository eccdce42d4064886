"""Secrets as clients send them, and as they are told of.

One rule: no sentence here, and no answer, has anything of a secret's content; where it is wrong, that is all
that is said. The content is base64 text and kept decoded. Called by `jobs`. (Behaviour, jobs §11; API
reference, peloton.proto: Secret.)
"""

import uuid
from base64 import b64decode
from collections.abc import Iterable, Sequence

from derny.api.pod_spec import effective
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import is_uuid
from derny.model.periods import Limits
from derny.model.secrets import Secret, SecretRef
from derny.proto.mesos.v1 import ContainerInfoType
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.peloton import Secret as SecretMessage
from derny.proto.peloton.api.v1alpha.peloton import SecretId, SecretValue
from derny.proto.peloton.api.v1alpha.pod import PodSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpecContainerType

PATH_MAX = 1024


def wanted(messages: Sequence[SecretMessage], spec: JobSpec, limits: Limits) -> tuple[Secret, ...]:
    """The secrets that a request wants its job to have; those without an id get one.

    Invalid; Exhausted. Content may be missing: whether the job has it is for `core.secrets` to know.
    """
    if not messages:
        return ()
    _check_mountable(spec)
    secrets = tuple(_secret(f"secrets[{number}]", message) for number, message in enumerate(messages))
    _check_once("secret_id", [secret.id for secret in secrets])
    _check_once("path", [secret.path for secret in secrets])
    size = sum(len(secret.path) + len(secret.data) for secret in secrets)
    if size > limits.secrets_bytes_max:
        raise Exhausted(
            f"secrets have {size} bytes with their paths, more than {limits.secrets_bytes_max} (limit"
            " secrets_bytes_max)"
        )
    return secrets


def told(refs: Iterable[SecretRef]) -> list[SecretMessage]:
    """What answers say of secrets: the id and the path, and an empty value."""
    return [SecretMessage(SecretId(ref.id), ref.path, SecretValue()) for ref in refs]


def _secret(where: str, message: SecretMessage) -> Secret:
    given = message.secret_id.value if message.secret_id is not None else ""
    if given and not is_uuid(given):
        raise Invalid(f"{where}.secret_id {given[:64]!r} is not a UUID; expected one as RFC 4122 writes it")
    path = message.path
    parts = path[1:].split("/")
    if not path.startswith("/") or len(path) > PATH_MAX or not {"", ".", ".."}.isdisjoint(parts):
        raise Invalid(
            f"{where}.path is {path[:64]!r}; expected an absolute path of at most {PATH_MAX} characters"
            " without '.', '..' and empty parts"
        )
    if not path.isprintable():
        raise Invalid(f"{where}.path has characters that are not printable")
    return Secret(given or str(uuid.uuid4()), path, _content(where, message))


def _content(where: str, message: SecretMessage) -> bytes:
    try:
        return b64decode(message.value.data if message.value is not None else b"", validate=True)
    except ValueError:
        # The error of the decoder is dropped: nobody knows what it says of what it has read.
        raise Invalid(
            f"{where}.value.data is not base64; expected the content in standard base64 with padding"
        ) from None


def _check_once(field: str, values: list[str]) -> None:
    seen: set[str] = set()
    for number, value in enumerate(values):
        if value in seen:
            raise Invalid(f"secrets[{number}].{field} {value!r} is there more than once; expected each once")
        seen.add(value)


def _check_mountable(spec: JobSpec) -> None:
    """Only the Mesos containerizer mounts secrets."""
    default = spec.default_spec
    overrides = {
        f"spec.instance_spec[{instance}]": effective(default, override)
        for instance, override in spec.instance_spec.items()
    }
    for where, pod in {"spec.default_spec": default, **overrides}.items():
        if pod is not None and not _is_of_mesos(pod):
            raise Invalid(
                f"{where} is not run by the Mesos containerizer, which secrets need; expected mesos_spec.type"
                " CONTAINER_TYPE_MESOS or container.type MESOS"
            )


def _is_of_mesos(pod: PodSpec) -> bool:
    if pod.mesos_spec is not None and pod.mesos_spec.type != PodSpecContainerType.INVALID:
        return pod.mesos_spec.type == PodSpecContainerType.MESOS
    return all(
        container.container is not None and container.container.type == ContainerInfoType.MESOS
        for container in (*pod.init_containers, *pod.containers)
    )
