"""Secrets of jobs: decide and apply.

One rule: contents are in an event of their own and in the job's own store, by id; a configuration only
refers to them. They go with the job, and before it when no configuration that is kept refers to them any
more. A secret that is given again under its id is rotated: the configuration refers to its next version, so
that pods are restarted to find it, and a rollback brings back the old one. (Behaviour, jobs §11, "Beyond".)
"""

from collections.abc import Sequence

from derny.core.events import SecretsKept
from derny.core.state import State
from derny.model.errors import Invalid
from derny.model.records import Job
from derny.model.secrets import Secret, SecretRef


def settled(job: Job | None, asked: Sequence[Secret]) -> tuple[tuple[SecretRef, ...], list[Secret]]:
    """What a configuration with these secrets refers to, and what is to be kept for it. A job that exists
    keeps its secrets where none are asked for.

    Invalid: a secret without content that the job does not have.
    """
    before = job.spec.secrets if job is not None else ()
    if job is not None and not asked:
        return before, []
    known = {ref.id: ref for ref in before}
    newest = _newest(job)
    refs: list[SecretRef] = []
    kept: list[Secret] = []
    for number, secret in enumerate(asked):
        ref = known.get(secret.id)
        if not secret.data and ref is None:
            raise Invalid(
                f"secrets[{number}].value is empty and the job has no such secret yet; expected the content"
                f" of the one at {secret.path!r}"
            )
        if job is not None and ref is not None and secret.data in (b"", _content(job, ref)):
            version = ref.version
        else:
            version = newest.get(secret.id, 0) + 1
            kept.append(secret)
        refs.append(SecretRef(secret.id, secret.path, version))
    return tuple(refs), kept


def _newest(job: Job | None) -> dict[str, int]:
    """The latest version of each secret, in whichever configuration: after a rollback not in the latest."""
    newest: dict[str, int] = {}
    for spec in job.specs.values() if job is not None else ():
        for ref in spec.secrets:
            newest[ref.id] = max(newest.get(ref.id, 0), ref.version)
    return newest


def _content(job: Job, ref: SecretRef) -> bytes:
    return job.secrets[ref.id, ref.version].data


def apply_kept(state: State, event: SecretsKept, at: float) -> None:
    job = state.jobs[event.job]
    versions = {ref.id: ref.version for ref in job.spec.secrets}
    job.secrets |= {(secret.id, versions[secret.id]): secret for secret in event.secrets}
    referred = {(ref.id, ref.version) for spec in job.specs.values() for ref in spec.secrets}
    job.secrets = {key: secret for key, secret in job.secrets.items() if key in referred}


def of_pod(job: Job, config: int) -> tuple[Secret, ...]:
    """What a pod with this configuration finds in its containers, at the paths that this one says."""
    refs = job.specs[config].secrets
    return tuple(Secret(ref.id, ref.path, _content(job, ref)) for ref in refs)
