"""Secrets as clients send them; and that nobody ever gets one back.

(Behaviour, jobs §11.)
"""

import asyncio
import logging
import traceback
from base64 import b64encode
from collections.abc import Callable

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny import logs
from derny.api.codec import encode
from derny.api.secrets import wanted
from derny.core.effects import Launch
from derny.core.events import SecretsKept
from derny.journal import codec
from derny.model.errors import Exhausted, Invalid
from derny.model.periods import Limits
from derny.model.secrets import Secret
from derny.proto.mesos.v1 import ContainerInfo, ContainerInfoType
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    CreateJobRequest,
    GetJobCacheRequest,
    GetJobRequest,
    GetWorkflowEventsRequest,
    ListJobsRequest,
    ListJobWorkflowsRequest,
    ListPodsRequest,
    ReplaceJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, PodName, SecretId, SecretValue
from derny.proto.peloton.api.v1alpha.peloton import Secret as Message
from derny.proto.peloton.api.v1alpha.pod import CommandSpec, ContainerSpec, PodSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpecContainerType as Type
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodEventsRequest, GetPodRequest
from derny.proto.peloton.api.v1alpha.watch import PodFilter, StatelessJobFilter
from derny.proto.peloton.api.v1alpha.watch.svc import WatchRequest, WatchResponse

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
ID = "cccccccc-0000-4000-8000-000000000001"
OTHER = "cccccccc-0000-4000-8000-000000000002"
CONTENT = b"correct-horse-battery-staple"
SPELLINGS = (CONTENT, b64encode(CONTENT))


def a_secret(path: str = "/etc/key", data: bytes = CONTENT, id_: str = "") -> Message:
    return Message(SecretId(id_), path, SecretValue(b64encode(data)))


def mesos(run: str = "server") -> PodSpec:
    container = ContainerSpec(name="main", entrypoint=CommandSpec(run))
    return PodSpec(containers=[container], mesos_spec=MesosSpec(type=Type.MESOS, shell=True))


SPEC = JobSpec(default_spec=mesos())
DOCKER = PodSpec(mesos_spec=MesosSpec(type=Type.DOCKER))

REFUSED = {
    "no path": (a_secret(""), "secrets[0].path is ''; expected an absolute path"),
    "a relative path": (a_secret("etc/key"), "secrets[0].path is 'etc/key'"),
    "a path that leads elsewhere": (a_secret("/etc/../key"), "secrets[0].path is '/etc/../key'"),
    "a path to a directory": (a_secret("/etc/"), "secrets[0].path is '/etc/'"),
    "the root": (a_secret("/"), "secrets[0].path is '/'"),
    "an endless path": (a_secret("/" + "x" * 1024), "at most 1024 characters"),
    "a path that moves the cursor": (a_secret("/x\n"), "not printable"),
    "an id that is none": (a_secret(id_="key"), "secrets[0].secret_id 'key' is not a UUID"),
    "no base64": (Message(None, "/x", SecretValue(CONTENT + b"!")), "secrets[0].value.data is not base64"),
    "base64 without padding": (Message(None, "/x", SecretValue(b"YQ")), "is not base64"),
}


@pytest.mark.parametrize(("message", "words"), REFUSED.values(), ids=REFUSED)
def test_a_secret_that_can_not_be_is_refused_without_its_content(message, words):
    with pytest.raises(Invalid) as refused:
        wanted([message], SPEC, Limits())
    assert words in str(refused.value)
    told = "".join(traceback.format_exception(refused.value))
    assert not any(spelling.decode() in told for spelling in SPELLINGS)


def test_ids_and_paths_are_there_once():
    with pytest.raises(Invalid, match=r"secrets\[1\].path '/a' is there more than once"):
        wanted([a_secret("/a"), a_secret("/a")], SPEC, Limits())
    with pytest.raises(Invalid, match=rf"secrets\[1\].secret_id '{ID}' is there more than once"):
        wanted([a_secret("/a", id_=ID), a_secret("/b", id_=ID)], SPEC, Limits())


def test_there_is_only_so_much_room():
    limits = Limits(secrets_bytes_max=10)
    assert wanted([a_secret("/abc", b"123456")], SPEC, limits)
    with pytest.raises(Exhausted, match=r"secrets have 11 bytes .*\(limit secrets_bytes_max\)"):
        wanted([a_secret("/abc", b"12345"), a_secret("/d", b"")], SPEC, limits)


def test_the_content_is_kept_decoded_and_an_id_is_made_where_there_is_none():
    given, made = wanted([a_secret("/a", id_=ID), a_secret("/b", b"\xff")], SPEC, Limits())
    assert given == Secret(ID, "/a", CONTENT)
    assert made.data == b"\xff"
    assert len({given.id, made.id, wanted([a_secret()], SPEC, Limits())[0].id}) == 3


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        (JobSpec(default_spec=DOCKER), "spec.default_spec"),
        (JobSpec(default_spec=PodSpec(containers=[ContainerSpec()])), "spec.default_spec"),
        (JobSpec(default_spec=mesos(), instance_spec={1: DOCKER}), r"spec.instance_spec\[1\]"),
        (JobSpec(instance_spec={0: mesos(), 1: DOCKER}), r"spec.instance_spec\[1\]"),
    ],
)
def test_secrets_need_the_mesos_containerizer(spec, place):
    with pytest.raises(Invalid, match=f"{place} is not run by the Mesos containerizer"):
        wanted([a_secret()], spec, Limits())
    assert wanted([], spec, Limits()) == ()


def test_the_deprecated_form_says_so_as_well():
    old = ContainerSpec(container=ContainerInfo(type=ContainerInfoType.MESOS))
    assert wanted([a_secret()], JobSpec(default_spec=PodSpec(containers=[old])), Limits())


@pytest.fixture
def restored_logging():
    root, own = logging.getLogger(), logging.getLogger("derny")
    before = root.handlers, root.level, own.level
    yield
    root.handlers, root.level, own.level = before


async def create(counter, job_message, *secrets: Message, run: str = "server") -> None:
    spec = job_message(2, default_spec=mesos(run))
    await counter.jobs.create_job(CreateJobRequest(JobId(JOB), spec, secrets=list(secrets)))
    await counter.rest()


@pytest.mark.asyncio
async def test_a_job_tells_of_its_secrets_without_their_content(counter, job_message):
    await create(counter, job_message, a_secret("/a", id_=ID), a_secret("/b", id_=OTHER))
    expected = [
        Message(SecretId(ID), "/a", SecretValue()),
        Message(SecretId(OTHER), "/b", SecretValue()),
    ]
    for request in (GetJobRequest(JobId(JOB)), GetJobRequest(JobId(JOB), EntityVersion("1-1-1"))):
        assert (await counter.jobs.get_job(request)).secrets == expected


@pytest.mark.asyncio
async def test_a_refused_job_leaves_no_secret_behind(counter, job_message):
    revision = counter.loop.revision
    for bad in (a_secret(data=b""), a_secret("")):
        with pytest.raises(GRPCError) as refused:
            await create(counter, job_message, a_secret("/a"), bad)
        assert refused.value.status is Status.INVALID_ARGUMENT
    assert counter.loop.revision == revision


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it has not become so")


@pytest.mark.asyncio
async def test_nothing_that_anybody_reads_has_a_secret(counter, job_message, caplog, restored_logging):
    logs.configure("json", "debug")
    logging.getLogger().addHandler(caplog.handler)
    launches: list[Launch] = []
    perform = counter.agents.perform

    def heard(effects, at):
        launches.extend(effect for effect in effects if isinstance(effect, Launch))
        perform(effects, at)

    counter.agents.perform = heard
    watched: list[WatchResponse] = []

    async def watch(request: WatchRequest) -> None:
        async for message in counter.watches.watch(request):
            watched.append(message)

    filters = WatchRequest(stateless_job_filter=StatelessJobFilter()), WatchRequest(pod_filter=PodFilter())
    watches = [asyncio.create_task(watch(request)) for request in filters]
    await until(lambda: len(watched) == 2)
    await create(counter, job_message, a_secret("/a", id_=ID))
    assert [launch.secrets for launch in launches] == [(Secret(ID, "/a", CONTENT),)] * 2, "agents need it"
    name = PodName(f"{JOB}-0")
    rotated = CONTENT[::-1]
    request = ReplaceJobRequest(
        JobId(JOB),
        EntityVersion("1-1-1"),
        job_message(2, default_spec=mesos()),
        [a_secret("/a", rotated, ID)],
    )
    await counter.jobs.replace_job(request)
    await counter.rest()
    assert launches[-1].secrets == (Secret(ID, "/a", rotated),)
    await until(lambda: len(watched) >= 10)
    for task in watches:
        task.cancel()
    answers = [
        *watched,
        await counter.jobs.get_workflow_events(GetWorkflowEventsRequest(JobId(JOB))),
        await counter.jobs.list_job_workflows(ListJobWorkflowsRequest(JobId(JOB))),
        await counter.jobs.get_job_cache(GetJobCacheRequest(JobId(JOB))),
        await counter.jobs.get_job(GetJobRequest(JobId(JOB))),
        await counter.jobs.get_job(GetJobRequest(JobId(JOB), EntityVersion("1-1-1"))),
        await counter.jobs.get_job(GetJobRequest(JobId(JOB), summary_only=True)),
        await counter.pods.get_pod(GetPodRequest(name)),
        await counter.pods.get_pod_events(GetPodEventsRequest(name)),
        *[message async for message in counter.jobs.list_jobs(ListJobsRequest())],
        *[message async for message in counter.jobs.list_pods(ListPodsRequest(JobId(JOB)))],
    ]
    job = counter.machine.state.jobs[JobId(JOB).value]
    read = [*map(encode, answers), *(spec.wire for spec in job.specs.values())]
    events = []
    async for chunk in counter.loop._journal.read():  # the file, as whoever looks into it would print it
        for _, _, blob in chunk:
            events += codec.decode(blob)
    assert any(isinstance(event, SecretsKept) for event in events)
    read += [repr((events, launches, job)).encode(), caplog.text.encode()]
    for spelling in (*SPELLINGS, rotated, b64encode(rotated)):
        assert not any(spelling in each for each in read)


@pytest.mark.asyncio
async def test_a_container_finds_its_secrets(cluster, job_message):
    await create(cluster, job_message, a_secret("/run/key"), run="[ -f /run/key ] && server")
    await cluster.live(100)
    found = await cluster.jobs.get_job(GetJobRequest(JobId(JOB), summary_only=True))
    assert found.summary.status.pod_stats["POD_STATE_RUNNING"] == 2
