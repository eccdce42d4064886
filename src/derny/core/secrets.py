"""Secrets of jobs: decide and apply.

One rule: contents are in an event of their own and in the job's own store, by id; a configuration only
refers to them. They go with the job, and before it when no configuration that is kept refers to them any
more. A secret that is given again under its id is rotated: the configuration refers to its next version, and
pods find the new content from their next run on. (Behaviour, jobs §11, "Beyond".)
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
    if job is not None and not asked:
        return job.spec.secrets, []
    known = job.secrets if job is not None else {}
    versions = {ref.id: ref.version for ref in job.spec.secrets} if job is not None else {}
    refs: list[SecretRef] = []
    kept: list[Secret] = []
    for number, secret in enumerate(asked):
        before = known.get(secret.id)
        if not secret.data and before is None:
            raise Invalid(
                f"secrets[{number}].value is empty; expected the content of the secret {secret.id!r}, which"
                " the job does not have"
            )
        is_new = bool(secret.data) and (before is None or secret.data != before.data)
        version = versions.get(secret.id, 0)
        refs.append(SecretRef(secret.id, secret.path, version + 1 if is_new else max(version, 1)))
        if is_new:
            kept.append(secret)
    return tuple(refs), kept


def apply_kept(state: State, event: SecretsKept, at: float) -> None:
    job = state.jobs[event.job]
    job.secrets |= {secret.id: secret for secret in event.secrets}
    referred = {ref.id for spec in job.specs.values() for ref in spec.secrets}
    for gone in job.secrets.keys() - referred:
        del job.secrets[gone]


def of_pod(job: Job, config: int) -> tuple[Secret, ...]:
    """What a pod with this configuration finds in its containers, at the paths that this one says."""
    refs = job.specs[config].secrets
    return tuple(Secret(ref.id, ref.path, job.secrets[ref.id].data) for ref in refs)
