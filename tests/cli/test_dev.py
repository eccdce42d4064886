"""`derny dev` as people meet it: flags, banner, ready file, --apply, signals, and its words when it can't."""

import asyncio
import json
import logging
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from acceptance.process import PATIENCE_S, command, dev, eventually, run
from derny.__main__ import main
from derny.cli.dev import _sentences
from derny.cli.dev import command as dev_command
from derny.journal.errors import JournalError
from derny.journal.store import DATABASE
from derny.model.errors import Invalid, Unavailable
from derny.proto.peloton.api.v1alpha.job.stateless import svc
from derny.proto.peloton.api.v1alpha.peloton import JobId
from derny.proto.peloton.api.v1alpha.pod import PodState
from derny.proto.peloton.api.v1alpha.respool import (
    QueryResourcePoolsRequest,
    ResourcePoolInfo,
    ResourcePoolServiceStub,
)

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"
HELLO = EXAMPLES / "hello.yaml"

BARE_JOB = """\
name: bare
instanceCount: 2
defaultSpec:
  containers:
  - {name: main, resource: {cpuLimit: 0.1, memLimitMb: 16}, entrypoint: {value: sleep, arguments: ["600"]}}
"""

SECRET_JOB = """\
name: secret
instanceCount: 1
defaultSpec:
  containers:
  - name: main
    resource: {cpuLimit: 0.1, memLimitMb: 16}
    entrypoint: {value: sleep, arguments: ["600", ARGSECRET]}
    environment: [{name: KEY, value: ENVSECRET}]
"""


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """The command sets up the log of its process, which here is pytest's."""
    root, ours = logging.getLogger(), logging.getLogger("derny")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def usage_error(*words: str) -> str:
    """What is said of flags that can't be; the daemon must not have been started."""
    result: Result = CliRunner().invoke(main, ["dev", *words])
    assert result.exit_code == 2, result.output
    assert "serves" not in result.output
    return result.output.partition("Error: ")[2].strip()


def write(folder: Path, text: str, name: str = "spec.yaml") -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def created(output: str, name: str) -> str:
    """The id of the job that --apply says it has made."""
    match = re.search(rf"^job {name} created: ([0-9a-f-]{{36}})$", output, re.MULTILINE)
    assert match is not None, output
    return match[1]


async def pods_of(port: int, job: str) -> dict[str, tuple[PodState, str]]:
    """State and host of each pod, by the id of its present run."""
    found = {}
    async with Channel("127.0.0.1", port) as channel:
        async for answer in svc.JobServiceStub(channel).list_pods(svc.ListPodsRequest(JobId(job))):
            for pod in answer.pods:
                assert pod.status is not None
                assert pod.status.pod_id is not None
                found[pod.status.pod_id.value] = (pod.status.state, pod.status.host)
    return found


def all_running(port: int, job: str) -> dict[str, str]:
    """The job's pods, by the id of their run, with their hosts, once all of them run."""

    def look() -> dict[str, str]:
        pods = asyncio.run(pods_of(port, job))
        running = {pod: host for pod, (state, host) in pods.items() if state is PodState.RUNNING}
        return running if len(running) == len(pods) else {}

    return eventually(look, f"all pods of {job} RUNNING")


async def pools_of(port: int) -> dict[str, ResourcePoolInfo]:
    async with Channel("127.0.0.1", port) as channel:
        answer = await ResourcePoolServiceStub(channel).query_resource_pools(QueryResourcePoolsRequest())
    return {pool.path.value: pool for pool in answer.respools if pool.path is not None}


# Flags.


def test_help_names_every_flag_with_its_default() -> None:
    output = CliRunner().invoke(main, ["dev", "--help"]).output
    flags = set(re.findall(r"^  (--[a-z-]+)", output, re.MULTILINE))
    assert flags == {
        *("--host", "--port", "--hosts", "--host-shape", "--topology", "--seed", "--data-dir", "--apply"),
        *("--ready-file", "--insecure", "--log-format", "--log-level"),
    }
    assert "[default: 127.0.0.1]" in output
    assert "5392" in output


def test_help_is_the_same_for_who_has_the_verb_alone() -> None:
    assert "-h, --help" in CliRunner().invoke(dev_command, ["-h"]).output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--port", "70000"), "'--port': 70000 is not in the range 0<=x<=65535"),
        (("--hosts", "0"), "'--hosts': 0 is not in the range x>=1"),
        (("--seed", "-1"), "'--seed': -1 is not in the range x>=0"),
        (("--log-format", "xml"), "'xml' is not one of 'text', 'json'"),
        (("--log-level", "loud"), "'loud' is not one of"),
        (("--host-shape", "cpu=x"), "--host-shape: cpu is 'x'; expected a number of cpus"),
        (("--host-shape", "cpus=8"), "--host-shape: 'cpus' is no kind of resource; did you mean \"cpu\"?"),
        (("--hosts", "1000000"), "--hosts is 1000000; expected a number from 1 to 100000"),
        (("--topology", "no-such-file"), "no-such-file: No such file or directory"),
        (("--apply", "no-such-file"), "no-such-file: No such file or directory"),
    ],
)
def test_a_flag_that_cannot_be_is_refused_in_a_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in " ".join(usage_error(*words).split())


@pytest.mark.parametrize("words", [("--hosts", "4"), ("--host-shape", "cpu=1")])
def test_a_topology_leaves_no_room_for_other_words_about_hosts(words: tuple[str, ...]) -> None:
    said = usage_error("--topology", str(EXAMPLES / "topology.yaml"), *words)
    assert said == "--topology describes all hosts; leave out --hosts and --host-shape"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_listening_beyond_loopback_wants_to_be_meant(host: str) -> None:
    said = usage_error("--host", host)
    assert said.startswith(f"--host {host} can be reached from other machines")
    assert "--insecure" in said


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("kind: Job\nspec:\n  name: x\n  instanceCuont: 1\n", ":4:3: ", 'did you mean "instanceCount"?'),
        ("kind: Jobb\nspec: {}\n", ":1:7: ", "expected Job or ResourcePool"),
        ("name: x\ninstanceCount: many\n", ":2:16: ", "expected a whole number"),
        ("a: [1\n", ":2:1: ", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_spec_file_is_shown_with_its_place(
    tmp_path: Path, text: str, place: str, what: str
) -> None:
    file = write(tmp_path, text)
    said = usage_error("--apply", str(HELLO), "--apply", str(file))
    assert said.startswith(f"{file}{place}")
    assert what in said


def test_every_dev_command_of_the_readme_has_flags_that_exist() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "derny dev" in line]
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line.partition("derny dev")[2], comments=True)
        context = dev_command.make_context("dev", words)
        for file in (*context.params["files"], context.params["topology"]):
            assert file is None or (REPOSITORY / file).is_file()


# A process of its own.


@pytest.mark.acceptance
def test_the_banner_says_where_how_long_and_what_next(tmp_path: Path) -> None:
    with dev(tmp_path, "--hosts", 2, "--seed", 11) as daemon:
        assert daemon.says("Next:").splitlines() == [
            f"derny serves the Peloton v1alpha API on {daemon.address}",
            "  state   in memory: it is gone when this process ends (--data-dir keeps it)",
            "  hosts   2, simulated",
            "  pool    /DefaultResPool",
            "  seed    11",
            f"Next: grpcurl -plaintext {daemon.address} list",
        ]
        assert daemon.ready == {
            "address": daemon.address,
            "pid": daemon.process.pid,
            "seed": 11,
            "data_dir": None,
        }
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d+", daemon.address)
        assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.acceptance
def test_a_data_directory_is_named_and_keeps_the_seed_and_the_jobs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with dev(tmp_path, "--data-dir", data, "--apply", HELLO) as daemon:
        assert f"  state   {data}\n" in daemon.says("Next:")
        job = created(daemon.output, "hello")
        seed = daemon.ready["seed"]
        assert daemon.ready["data_dir"] == str(data)
        assert daemon.stop() == 0
    with dev(tmp_path, "--data-dir", data, "--apply", HELLO) as daemon:
        assert re.search(
            rf"^  state   {re.escape(str(data))}, \d+ turns replayed$", daemon.output, re.MULTILINE
        )
        assert f"job hello is there already and is left as it is: {job}\n" in daemon.says("Next:")
        assert daemon.ready["seed"] == seed
        assert all_running(daemon.port, job).keys() == {f"{job}-{n}-1" for n in range(3)}


@pytest.mark.acceptance
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("dev", "--port", port, "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*address already in use\n", done.stderr)
    assert str(port) in done.stderr


@pytest.mark.acceptance
def test_a_ready_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    ready = tmp_path / "missing" / "ready.json"
    done = run("dev", "--port", 0, "--ready-file", ready)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: {re.escape(str(ready))}.*: No such file or directory\n", done.stderr)


@pytest.mark.acceptance
def test_a_ready_file_is_there_for_as_long_as_the_daemon_is(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with dev(tmp_path) as daemon:
        assert ready.exists()
        assert daemon.stop() == 0
        assert not ready.exists()


@pytest.mark.acceptance
def test_the_ready_file_of_an_earlier_daemon_is_gone_when_the_next_one_fails_to_start(tmp_path: Path) -> None:
    ready, data = tmp_path / "ready.json", tmp_path / "data"
    ready.write_text("{}", "utf-8")
    data.mkdir()
    (data / DATABASE).write_bytes(b"no database" * 1000)
    done = run("dev", "--port", 0, "--ready-file", ready, "--data-dir", data)
    assert done.returncode == 1
    assert "Move it away to start afresh" in done.stderr
    assert not ready.exists()


def test_of_a_journal_that_fails_nobody_hears_what_only_follows_from_it() -> None:
    ends = "the daemon ends; whether this was kept is not known"
    broken = JournalError("The disk is full.")
    consequences = [Unavailable(ends), GRPCError(Status.UNAVAILABLE, ends)]
    group = BaseExceptionGroup("", [*consequences, BaseExceptionGroup("", [broken, Invalid("no")])])
    assert _sentences(group) == ["The disk is full.", "no"]
    assert _sentences(BaseExceptionGroup("", consequences)) == [ends, ends], "else they are all there is"


@pytest.mark.acceptance
def test_the_default_pool_has_the_whole_capacity(tmp_path: Path) -> None:
    with dev(tmp_path, "--hosts", 3, "--host-shape", "cpu=5,mem=1Gi,disk=2Gi,gpu=1") as daemon:
        pools = asyncio.run(pools_of(daemon.port))
    assert pools.keys() == {"/", "/DefaultResPool"}
    spec = pools["/DefaultResPool"].spec
    assert spec is not None
    assert {part.kind: part.limit for part in spec.resources} == {
        "cpu": 15,
        "memory": 3 * 1024,
        "disk": 3 * 2048,
        "gpu": 3,
    }


@pytest.mark.acceptance
def test_the_default_pool_follows_the_fleet_and_says_nothing(tmp_path: Path) -> None:
    for hosts in (4, 2):
        with dev(tmp_path, "--data-dir", tmp_path / "data", "--hosts", hosts) as daemon:
            assert "WARNING" not in daemon.says("Next:")
            spec = asyncio.run(pools_of(daemon.port))["/DefaultResPool"].spec
            assert {part.kind: part.limit for part in spec.resources}["cpu"] == 8 * hosts
            assert daemon.stop() == 0


# --apply.


@pytest.mark.acceptance
def test_apply_makes_jobs_and_pools_and_bare_specs_and_says_what_to_try(tmp_path: Path) -> None:
    bare = write(tmp_path, BARE_JOB)
    with dev(tmp_path, "--apply", HELLO, "--apply", EXAMPLES / "pool.yaml", "--apply", bare) as daemon:
        output = daemon.says("ListPods\n")
        jobs = {name: created(output, name) for name in ("hello", "report", "bare")}
        assert re.search(r"^pool analytics created: [0-9a-f-]{36}$", output, re.MULTILINE)
        assert "\x1b" not in output, "no moving line where nobody looks"
        next_steps = output[output.index("Next:") :].splitlines()[1:]
        assert [shlex.split(line)[:2] for line in next_steps] == [["grpcurl", "-plaintext"]] * 3
        assert all(daemon.address in line for line in next_steps)
        assert jobs["hello"] in next_steps[1]
        assert len(all_running(daemon.port, jobs["bare"])) == 2
        assert len(all_running(daemon.port, jobs["report"])) == 2
        assert "/analytics" in asyncio.run(pools_of(daemon.port))


@pytest.mark.acceptance
def test_applying_again_changes_nothing(tmp_path: Path) -> None:
    flags = ("--data-dir", tmp_path / "data", "--apply", HELLO, "--apply", EXAMPLES / "pool.yaml")
    with dev(tmp_path, *flags) as daemon:
        first = daemon.says("ListPods\n")
        assert daemon.stop() == 0
    with dev(tmp_path, *flags) as daemon:
        second = daemon.says("ListPods\n")
        pools = asyncio.run(pools_of(daemon.port))
    ids = re.compile(
        r"^(job|pool) (\w+) (created|is there already and is left as it is): (\S+)$", re.MULTILINE
    )
    assert {match[:2] + match[3:] for match in ids.findall(first)} == {
        match[:2] + match[3:] for match in ids.findall(second)
    }
    assert {match[2] for match in ids.findall(first)} == {"created"}
    assert {match[2] for match in ids.findall(second)} == {"is there already and is left as it is"}
    assert pools.keys() == {"/", "/DefaultResPool", "/analytics"}


@pytest.mark.acceptance
def test_a_mistake_in_a_spec_file_leaves_no_daemon_behind(tmp_path: Path) -> None:
    file = write(tmp_path, "name: x\ninstanceCuont: 1\n")
    done = run("dev", "--port", 0, "--data-dir", tmp_path / "data", "--apply", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Error: {file}:2:1: " in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.acceptance
def test_a_job_that_the_daemon_refuses_ends_it_with_the_sentence(tmp_path: Path) -> None:
    file = write(tmp_path, f"kind: Job\nrespool: /Nope\nspec:\n{indented(BARE_JOB)}")
    done = run("dev", "--port", 0, "--apply", file)
    assert done.returncode == 1
    assert done.stderr == f"Error: {file}:1:1: NOT_FOUND: no resource pool has the path '/Nope'\n"


def test_a_name_used_twice_is_refused_before_there_is_a_daemon(tmp_path: Path) -> None:
    one, other = write(tmp_path, BARE_JOB, "one.yaml"), write(tmp_path, BARE_JOB, "other.yaml")
    data = tmp_path / "data"
    said = usage_error("--data-dir", str(data), "--apply", str(one), "--apply", str(other))
    assert said == f"{other}:1:1: the job bare is at {one}:1:1 already; name it once"
    assert not data.exists()


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


@contextmanager
def on_a_terminal(*flags: object) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """`derny dev` with a terminal as its output; the process, and the terminal's other end."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command("dev", "--port", 0, *flags),
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait(PATIENCE_S)
    finally:
        os.close(ours)


def read_until(terminal: int, text: str) -> str:
    """All that the terminal shows up to the text."""
    shown, deadline = b"", time.monotonic() + PATIENCE_S
    while text.encode() not in shown:
        readable, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert readable, f"{text!r} has not come: {shown.decode()}"
        shown += os.read(terminal, 65536)
    return shown.decode()


@pytest.mark.acceptance
def test_on_a_terminal_the_job_is_seen_coming_up_and_then_what_to_try() -> None:
    with on_a_terminal("--apply", HELLO) as (process, terminal):
        shown = read_until(terminal, "ListPods\r\n")
        before, _, after = shown.partition("Next:")
        lines = [line for line in before.split("\r\x1b[K") if "RUNNING" in line]
        counts = [int(match[1]) for line in lines if (match := re.match(r"  hello  (\d)/3 RUNNING", line))]
        assert counts[-1] == 3
        assert counts == sorted(counts)
        assert lines[-1].startswith("  hello  3/3 RUNNING\r\n"), "nothing else is left on the line"
        assert after.count("grpcurl -plaintext") == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.acceptance
def test_a_job_deleted_while_it_is_shown_does_not_take_the_daemon_along(tmp_path: Path) -> None:
    """It asks for more than there is, so it is shown until somebody deletes it."""
    file = write(tmp_path, BARE_JOB.replace("cpuLimit: 0.1", "cpuLimit: 7"))
    ready = tmp_path / "ready.json"
    with on_a_terminal("--hosts", 1, "--apply", file, "--ready-file", ready) as (process, terminal):
        job = created(read_until(terminal, "1/2 RUNNING").replace("\r", ""), "bare")
        port = int(json.loads(ready.read_text("utf-8"))["address"].rpartition(":")[2])
        asyncio.run(delete(port, job))
        read_until(terminal, "Next:")
        assert process.poll() is None


async def delete(port: int, job: str) -> None:
    async with Channel("127.0.0.1", port) as channel:
        stub = svc.JobServiceStub(channel)
        answer = await stub.get_job(svc.GetJobRequest(JobId(job), summary_only=True))
        assert answer.summary is not None
        assert answer.summary.status is not None
        await stub.delete_job(svc.DeleteJobRequest(JobId(job), answer.summary.status.version, force=True))


# The log and the end.


@pytest.mark.acceptance
def test_the_log_in_json_is_one_object_a_line_and_keeps_out_of_the_output(tmp_path: Path) -> None:
    flags = ("--data-dir", tmp_path / "data", "--log-format", "json", "--log-level", "info")
    with dev(tmp_path, *flags) as daemon:
        assert daemon.stop() == 0
    with dev(tmp_path, *flags) as daemon:
        lines = [json.loads(line) for line in daemon.log.splitlines()]
        assert daemon.output.startswith("derny serves")
    assert {"ts", "level", "logger", "msg"} == set(lines[0])
    assert any("replayed" in line["msg"] and line["level"] == "info" for line in lines)


@pytest.mark.acceptance
@pytest.mark.parametrize("style", ["text", "json"])
def test_no_log_level_brings_a_secret_into_the_log(tmp_path: Path, style: str) -> None:
    file = write(tmp_path, SECRET_JOB)
    with dev(
        tmp_path,
        *("--data-dir", tmp_path / "data", "--apply", file, "--log-level", "debug", "--log-format", style),
    ) as daemon:
        created(daemon.says("ListPods\n"), "secret")
        asyncio.run(call_with_a_token(daemon.port))
        assert daemon.stop() == 0
        for secret in ("HDRTOKEN", "ENVSECRET", "ARGSECRET"):
            assert secret not in daemon.log


async def call_with_a_token(port: int) -> None:
    async with Channel("127.0.0.1", port) as channel:
        stub = ResourcePoolServiceStub(channel, metadata={"authorization": "Bearer HDRTOKEN"})
        answer = await stub.query_resource_pools(QueryResourcePoolsRequest())
    assert answer.respools


@pytest.mark.acceptance
def test_nothing_is_logged_when_nothing_is_wrong(tmp_path: Path) -> None:
    with dev(tmp_path, "--data-dir", tmp_path / "data", "--apply", HELLO) as daemon:
        all_running(daemon.port, created(daemon.says("Next:"), "hello"))
        assert daemon.stop() == 0
        assert daemon.log == ""


@pytest.mark.acceptance
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, by: signal.Signals) -> None:
    data = tmp_path / "data"
    with dev(tmp_path, "--data-dir", data, "--apply", HELLO) as daemon:
        daemon.says("Next:")
        assert daemon.stop(by) == 0
        assert daemon.output.endswith("\nStopping.\n")
        assert daemon.log == ""
    assert {file.name for file in data.iterdir()} == {DATABASE, "derny.lock"}, "the log is folded in"
    assert {oct(file.stat().st_mode & 0o777) for file in data.iterdir()} == {"0o600"}


@pytest.mark.acceptance
def test_a_stream_in_flight_is_ended_with_a_status_when_the_daemon_stops(tmp_path: Path) -> None:
    async def watch_to_the_end() -> tuple[list[int], Status]:
        seen: list[int] = []
        try:
            async with (
                Channel("127.0.0.1", daemon.port) as channel,
                HealthStub(channel).Watch.open() as stream,
            ):
                await stream.send_message(HealthCheckRequest(), end=True)
                async for answer in stream:
                    seen.append(answer.status)
                    if len(seen) == 1:
                        daemon.process.send_signal(signal.SIGTERM)
        except GRPCError as error:
            return seen, error.status
        return seen, Status.OK

    with dev(tmp_path) as daemon:
        seen, status = asyncio.run(asyncio.wait_for(watch_to_the_end(), PATIENCE_S))
        assert daemon.process.wait(PATIENCE_S) == 0
    assert seen == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]
    assert status is Status.UNAVAILABLE


@pytest.mark.acceptance
def test_pods_of_hosts_that_are_gone_at_a_restart_run_elsewhere(tmp_path: Path) -> None:
    group = "  resources: {{cpu: 2, mem: 4Gi, disk: 10Gi}}\n"
    periods = "periods: {{restart_backoff_first: 100ms}}\n"
    before = write(tmp_path, f"groups:\n- name: 'h{{1..3}}'\n{group.format()}{periods.format()}", "a.yaml")
    after = write(tmp_path, f"groups:\n- name: 'h{{2..3}}'\n{group.format()}{periods.format()}", "b.yaml")
    job_file = write(tmp_path, BARE_JOB.replace("instanceCount: 2", "instanceCount: 4").replace("0.1", "1"))
    data = tmp_path / "data"
    with dev(tmp_path, "--data-dir", data, "--topology", before, "--apply", job_file) as daemon:
        job = created(daemon.says("Next:"), "bare")
        old = all_running(daemon.port, job)
        assert "h1" in old.values(), "else nothing is lost"
        assert daemon.stop() == 0
    with dev(tmp_path, "--data-dir", data, "--topology", after) as daemon:

        def moved() -> dict[str, str]:
            hosts = all_running(daemon.port, job)
            return {} if "h1" in hosts.values() else hosts

        new = eventually(moved, "all pods on the hosts that are left")
    stayed = {pod: host for pod, host in old.items() if host != "h1"}
    assert new.items() >= stayed.items(), "who was not on the lost host does not move"
    lost = {pod for pod, host in old.items() if host == "h1"}
    assert new.keys() - stayed.keys() == {re.sub(r"-1$", "-2", pod) for pod in lost}
