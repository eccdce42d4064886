"""What becomes of a job's secrets."""

import msgspec
import pytest

from builders import JOB, Bench, a_job
from derny.core import commands, secrets
from derny.core.audit import fingerprint
from derny.core.effects import Launch, Reconcile
from derny.core.events import Event, JobCreated, SecretsKept
from derny.model.errors import Invalid, Refusal
from derny.model.secrets import Secret, SecretRef
from derny.model.specs import JobSpec, WorkflowSpec
from derny.model.states import TaskState

KEY, CERT = Secret("k", "/key", b"content-1"), Secret("c", "/cert", b"two")


def with_secrets(*asked: Secret, count: int = 1) -> Bench:
    bench = Bench()
    bench.do(commands.CreateJob(JOB, a_job(count), secrets=asked))
    bench.settle()
    return bench


def test_contents_are_kept_beside_the_configuration() -> None:
    bench = with_secrets(KEY, CERT)
    created = next(event for event in bench.log if isinstance(event, JobCreated))
    assert created.spec.secrets == (SecretRef("k", "/key"), SecretRef("c", "/cert"))
    assert SecretsKept(JOB, [KEY, CERT]) in bench.log
    assert bench.job().secrets == {("k", 1): KEY, ("c", 1): CERT}
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)


def test_a_job_without_secrets_has_no_event_of_any() -> None:
    bench = with_secrets()
    assert not any(isinstance(event, SecretsKept) for event in bench.log)
    assert bench.job().secrets == {}


def test_every_launch_carries_them_to_the_agent_and_so_does_every_comparison() -> None:
    bench = with_secrets(KEY, CERT, count=2)
    launches = [effect for effect in bench.effects if isinstance(effect, Launch)]
    assert [launch.secrets for launch in launches] == [(KEY, CERT)] * 2
    [order] = bench.machine.reconciliation()
    assert isinstance(order, Reconcile)
    assert [launch.secrets for launch in order.launches] == [(KEY, CERT)] * 2
    assert b"content-1" not in repr((launches, order)).encode()


def test_they_go_with_the_job() -> None:
    bench = with_secrets(KEY)
    bench.delete(force=True)
    bench.obey()
    bench.live(5)
    assert JOB not in bench.machine.state.jobs
    assert b"content-1" not in fingerprint(bench.machine.state)


def test_a_new_job_must_bring_the_content() -> None:
    with pytest.raises(Invalid, match=r"secrets\[1\].value is empty"):
        with_secrets(KEY, Secret("c", "/cert", b""))


def test_a_configuration_without_secrets_of_its_own_keeps_those_of_the_job() -> None:
    job = with_secrets(KEY).job()
    assert secrets.settled(job, ()) == ((SecretRef("k", "/key"),), [])


def test_a_secret_without_content_stays_what_it_is() -> None:
    job = with_secrets(KEY, CERT).job()
    asked = (Secret("k", "/elsewhere", b""),)
    assert secrets.settled(job, asked) == ((SecretRef("k", "/elsewhere"),), [])
    same = (Secret("k", "/key", b"content-1"),)
    assert secrets.settled(job, same) == ((SecretRef("k", "/key"),), [])


def test_rotation_is_another_version_of_the_configuration() -> None:
    bench = with_secrets(KEY, CERT)
    job = bench.job()
    fresh = Secret("k", "/key", b"three")
    refs, kept = secrets.settled(job, (fresh, Secret("c", "/cert", b"")))
    assert refs == (SecretRef("k", "/key", 2), SecretRef("c", "/cert", 1))
    assert kept == [fresh]


def test_what_no_configuration_refers_to_is_forgotten() -> None:
    bench = with_secrets(KEY, CERT)
    job = bench.job()
    refs, kept = secrets.settled(job, (Secret("n", "/new", b"new"),))
    job.specs[1] = a_job().__class__(job.spec.name, job.spec.pool, 1, b"", job.spec.templates, secrets=refs)
    secrets.apply_kept(bench.machine.state, SecretsKept(JOB, kept), bench.at)
    assert list(job.secrets) == [("n", 1)]
    assert [secret.path for secret in secrets.of_pod(job, 1)] == ["/new"]


def other(count: int = 1) -> JobSpec:
    spec = a_job(count, name="other")
    return msgspec.structs.replace(spec, digest=b"other")


def replace(bench: Bench, spec: JobSpec, *asked: Secret, **how: bool | int) -> list[Event]:
    workflow = WorkflowSpec(**how)  # type: ignore[arg-type]  # numbers and booleans, by name
    done = bench.do(commands.ReplaceJob(JOB, bench.version(), spec, workflow, secrets=asked))
    return done + bench.settle()


def last_launch(bench: Bench) -> Launch:
    return [effect for effect in bench.effects if isinstance(effect, Launch)][-1]


def test_a_rotation_restarts_pods_and_a_replace_without_secrets_keeps_them() -> None:
    bench = with_secrets(KEY, count=2)
    bench.obey()
    replace(bench, a_job(2), Secret("k", "/key", b"content-2"))
    bench.obey()
    bench.live(5)
    assert [pod.run for pod in bench.job().pods] == [2, 2], "the configuration is the same but for the secret"
    assert last_launch(bench).secrets == (Secret("k", "/key", b"content-2"),)
    replace(bench, other(2))
    assert bench.job().spec.secrets == (SecretRef("k", "/key", 2),)
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)


def test_a_replace_with_the_same_secrets_restarts_nothing() -> None:
    bench = with_secrets(KEY)
    bench.obey()
    done = replace(bench, a_job(), KEY)
    assert not any(isinstance(event, SecretsKept) for event in done)
    bench.obey()
    bench.live(5)
    assert bench.pod().run == 1


def test_a_refused_replace_leaves_the_secrets_alone() -> None:
    bench = with_secrets(KEY)
    before = fingerprint(bench.machine.state)
    for version, asked in (("9-9-9", KEY), (bench.version(), Secret("new", "/new", b""))):
        with pytest.raises(Refusal):
            bench.do(commands.ReplaceJob(JOB, version, other(), secrets=(asked,)))
    assert fingerprint(bench.machine.state) == before


def test_a_rollback_brings_back_the_content_of_before() -> None:
    bench = with_secrets(KEY)
    bench.obey()
    bad = Secret("k", "/key", b"content-2")
    how = {"rollback_on_failure": True, "max_tolerable_instance_failures": 1, "max_instance_retries": 1}
    replace(bench, other(), bad, **how)
    for _ in range(8):
        bench.obey(TaskState.FAILED)
        bench.live(100)
    assert last_launch(bench).secrets == (KEY,)
    assert bench.job().spec.secrets == (SecretRef("k", "/key", 1),)
    refs, _ = secrets.settled(bench.job(), (Secret("k", "/key", b"content-3"),))
    assert refs == (SecretRef("k", "/key", 3),), "the second version is that of another configuration"
