"""Applying spec files to a daemon that serves, and following what becomes of a job."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.app import serving
from derny.client.apply import Applied, ApplyError, apply, check_names, follow
from derny.client.specfile import load
from derny.client.yaml_tree import SpecError
from derny.config import Settings
from derny.proto.peloton.api.v1alpha.job.stateless import svc
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId
from derny.topology import DEFAULT_LATENCIES, fleet_of_shape

DEFAULT_POOL = "/DefaultResPool"
JOB_ID = "aaaaaaaa-0000-4000-8000-000000000001"
POOL_ID = "bbbbbbbb-0000-4000-8000-000000000001"

POD = "{containers: [{name: main, resource: {cpuLimit: 1, memLimitMb: 16}, entrypoint: {value: top}}]}"
BARE = f"{{name: bare, instanceCount: 2, defaultSpec: {POD}}}"
RESOURCES = "[{kind: cpu, limit: 2}, {kind: memory, limit: 100}, {kind: disk, limit: 100}]"


@asynccontextmanager
async def a_daemon() -> AsyncIterator[Channel]:
    settings = Settings(fleet=fleet_of_shape(2), latencies=DEFAULT_LATENCIES, port=0)
    async with serving(settings) as daemon, Channel(daemon.host, daemon.port) as channel:
        yield channel


async def applied(channel: Channel, folder: Path, text: str) -> list[Applied]:
    file = folder / "spec.yaml"
    file.write_text(text, "utf-8")
    return [await apply(channel, document, DEFAULT_POOL) for document in load(file)]


async def pool_of(channel: Channel, job: str) -> str:
    answer = await svc.JobServiceStub(channel).get_job(svc.GetJobRequest(JobId(job), summary_only=True))
    assert answer.summary is not None
    assert answer.summary.respool_id is not None
    return answer.summary.respool_id.value


@pytest.mark.asyncio
async def test_a_bare_spec_goes_to_the_default_pool(tmp_path: Path) -> None:
    async with a_daemon() as channel:
        (job,) = await applied(channel, tmp_path, BARE)
        assert (job.kind, job.name, job.made) == ("job", "bare", True)
        (sibling,) = await applied(
            channel, tmp_path, f"{{kind: Job, respool: {DEFAULT_POOL}, spec: {BARE.replace('bare', 'b')}}}"
        )
        assert await pool_of(channel, job.id) == await pool_of(channel, sibling.id)


@pytest.mark.asyncio
async def test_a_file_with_a_pool_and_its_job_is_applied_from_top_to_bottom(tmp_path: Path) -> None:
    text = (
        f"kind: ResourcePool\nid: {POOL_ID}\nspec: {{name: web, resources: {RESOURCES}}}\n---\n"
        f"kind: ResourcePool\nparent: /web\nspec: {{name: prod, resources: {RESOURCES}}}\n---\n"
        f"kind: Job\nid: {JOB_ID}\nrespool: /web/prod\nspec: {BARE}\n"
    )
    async with a_daemon() as channel:
        web, prod, job = await applied(channel, tmp_path, text)
        assert web == Applied("pool", "web", POOL_ID, True)
        assert (prod.kind, prod.name, prod.made) == ("pool", "prod", True)
        assert job == Applied("job", "bare", JOB_ID, True)
        assert await pool_of(channel, JOB_ID) == prod.id
        again = await applied(channel, tmp_path, text)
        assert again == [one._replace(made=False) for one in (web, prod, job)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (f"{{kind: Job, respool: /nope, spec: {BARE}}}", Status.NOT_FOUND, "'/nope'"),
        (f"{{kind: Job, respool: /, spec: {BARE}}}", Status.INVALID_ARGUMENT, "root"),
        (f"{{kind: Job, id: x, spec: {BARE}}}", Status.INVALID_ARGUMENT, "'x'"),
        (
            f"{{kind: ResourcePool, parent: /nope, spec: {{name: a, resources: {RESOURCES}}}}}",
            None,
            "'/nope'",
        ),
    ],
)
async def test_what_the_daemon_refuses_comes_with_its_words(
    tmp_path: Path, text: str, status: Status | None, words: str
) -> None:
    async with a_daemon() as channel:
        with pytest.raises(ApplyError) as refused:
            await applied(channel, tmp_path, text)
        status = status or Status.NOT_FOUND
        assert refused.value.status is status
        place, _, said = str(refused.value).partition(f": {status.name}: ")
        assert place == f"{tmp_path / 'spec.yaml'}:1:1"
        assert words in said


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (BARE, BARE, "the job bare"),
        (BARE, f"{{kind: Job, respool: /web, spec: {BARE}}}", "the job bare"),
        (
            "{kind: ResourcePool, spec: {name: web}}",
            "{kind: ResourcePool, parent: /, spec: {name: web}}",
            "the pool /web",
        ),
        (
            "{kind: ResourcePool, parent: /web, spec: {name: a}}",
            "{kind: ResourcePool, parent: /web/, spec: {name: a}}",
            "the pool /web/a",
        ),
    ],
)
def test_a_name_used_twice_is_a_mistake_with_both_places(
    tmp_path: Path, first: str, second: str, name: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"{first}\n---\n{second}\n", "utf-8")
    with pytest.raises(SpecError) as wrong:
        check_names(load(file))
    assert str(wrong.value) == f"{file}:3:1: {name} is at {file}:1:1 already; name it once"


def test_the_same_name_may_be_that_of_a_job_and_of_pools_in_different_places(tmp_path: Path) -> None:
    documents = (
        BARE,
        "{kind: ResourcePool, spec: {name: bare}}",
        "{kind: ResourcePool, parent: /bare, spec: {name: bare}}",
    )
    file = tmp_path / "spec.yaml"
    file.write_text("\n---\n".join(documents), "utf-8")
    loaded = load(file)
    assert len(loaded) == 3
    check_names(loaded)


@pytest.mark.asyncio
async def test_a_job_is_followed_until_it_runs_and_until_it_is_gone(tmp_path: Path) -> None:
    async with asyncio.timeout(60), a_daemon() as channel:
        (job,) = await applied(channel, tmp_path, BARE)
        running = []
        async for progress in follow(channel, job.id, 0.01):
            assert progress.wanted == 2
            assert sum(progress.pods.values()) <= 2
            running.append(progress.pods.get("POD_STATE_RUNNING", 0))
            if progress.is_running:
                break
        assert running == sorted(running)
        assert running[-1] == 2
        stub = svc.JobServiceStub(channel)
        await stub.delete_job(svc.DeleteJobRequest(JobId(job.id), EntityVersion("1-1-1"), force=True))
        states = [progress.state async for progress in follow(channel, job.id, 0.01)]
        assert "JOB_STATE_KILLED" not in states[:1]
        with pytest.raises(GRPCError):
            await pool_of(channel, job.id)


@pytest.mark.asyncio
async def test_following_a_job_that_never_was_ends_at_once() -> None:
    async with a_daemon() as channel:
        assert [progress async for progress in follow(channel, JOB_ID, 0.01)] == []
