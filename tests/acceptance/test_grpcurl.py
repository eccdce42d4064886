"""What somebody with grpcurl meets: discovery, a job's whole life, and errors they can read."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from acceptance.process import Answer, Daemon, Grpcurl, answer_of, dev, eventually

pytestmark = pytest.mark.acceptance

REPOSITORY = Path(__file__).parents[2]
JOBS = "job.stateless.svc.JobService"
PODS = "pod.svc.PodService"
POOLS = "respool.ResourcePoolService"
HOSTS = "host.svc.HostService"
UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with dev(tmp_path_factory.mktemp("daemon"), "--hosts", 3, "--seed", 7) as daemon:
        yield daemon


@pytest.fixture
def grpcurl(daemon: Daemon, grpcurl_program: Path) -> Grpcurl:
    return Grpcurl(grpcurl_program, daemon.address)


@pytest.fixture
def pool(grpcurl: Grpcurl) -> str:
    found = grpcurl.call(f"{POOLS}/LookupResourcePoolID", {"path": {"value": "/DefaultResPool"}})
    return str(found.message["respoolId"]["value"])


def a_spec(name: str, pool: str, count: int = 3) -> dict[str, object]:
    main = {
        "name": "main",
        "resource": {"cpu_limit": 0.1, "mem_limit_mb": 16},
        "entrypoint": {"value": "sleep 600"},
    }
    return {
        "name": name,
        "instance_count": count,
        "respool_id": {"value": pool},
        "default_spec": {"containers": [main], "mesos_spec": {"shell": True}},
    }


def created(grpcurl: Grpcurl, pool: str, name: str, count: int = 3) -> dict[str, str]:
    """A new job's id, as requests want it."""
    answer = grpcurl.call(f"{JOBS}/CreateJob", {"spec": a_spec(name, pool, count)}).message
    assert answer["version"] == {"value": "1-1-1"}
    return dict(answer["jobId"])


def state_of(grpcurl: Grpcurl, job: dict[str, str]) -> str:
    answer = grpcurl.call(f"{JOBS}/GetJob", {"job_id": job, "summary_only": True}).message
    return str(answer["summary"]["status"]["state"])


def until(grpcurl: Grpcurl, job: dict[str, str], state: str) -> None:
    eventually(lambda: state_of(grpcurl, job) == state, f"job {job['value']} in {state}")


def tour() -> list[list[str]]:
    """The grpcurl commands of README's tour, in order, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ")
    commands = re.split(r"\n(?=grpcurl|derny|python3)", lines)
    return [shlex.split(command) for command in commands if command.startswith("grpcurl")]


def test_list_names_every_service_of_the_contract_and_health(grpcurl: Grpcurl) -> None:
    """grpcurl 1.8.6 speaks v1alpha reflection, so that this is its test too."""
    assert grpcurl.run().returncode != 0, "grpcurl needs a verb: the test's own plumbing is broken"
    assert set(grpcurl.run("--", "list").stdout.split()) >= {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        *(f"peloton.api.v1alpha.{service}" for service in (JOBS, PODS, POOLS, HOSTS)),
        "peloton.api.v1alpha.volume.svc.VolumeService",
        "peloton.api.v1alpha.watch.svc.WatchService",
        "peloton.api.v1alpha.admin.svc.AdminService",
    }


def test_describe_shows_a_request_with_comments_that_help(grpcurl: Grpcurl) -> None:
    described = grpcurl.run("--", "describe", "peloton.api.v1alpha.job.stateless.svc.CreateJobRequest").stdout
    assert "message CreateJobRequest {" in described
    assert ".peloton.api.v1alpha.job.stateless.JobSpec spec = 2;" in described
    for line in described.splitlines():
        if line.endswith(";"):
            before = described[: described.index(line)].rstrip().splitlines()[-1]
            assert before.strip().startswith("//"), f"{line.strip()} has no comment"


def test_describe_shows_a_method_with_its_errors(grpcurl: Grpcurl) -> None:
    described = grpcurl.run("--", "describe", f"peloton.api.v1alpha.{JOBS}.CreateJob").stdout
    assert "// Errors: ALREADY_EXISTS" in described
    assert "returns ( .peloton.api.v1alpha.job.stateless.svc.CreateJobResponse )" in described


def test_reflection_v1alpha_can_be_asked_directly(grpcurl: Grpcurl) -> None:
    answer = grpcurl.call(
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", {"list_services": ""}
    ).message
    services = {service["name"] for service in answer["list_services_response"]["service"]}
    assert {"grpc.health.v1.Health", f"peloton.api.v1alpha.{JOBS}"} <= services


def test_the_tour_of_the_readme_works_as_it_is_written(grpcurl: Grpcurl, daemon: Daemon, pool: str) -> None:
    commands = tour()
    answers: dict[str, Answer] = {}
    for words in commands:
        own = [word.replace("POOL_ID", pool) for word in words if word not in ("grpcurl", "-plaintext")]
        cut = own.index("localhost:5392")
        done = grpcurl.run(*own[:cut], "--", *own[cut + 1 :])
        assert done.returncode == 0, f"{words}: {done.stderr}"
        verb = words[-1].rpartition("/")[2]
        if own[-1] != "list" and "describe" not in own:
            answers[verb] = answer_of(done)
    assert answers["LookupResourcePoolID"].message == {"respoolId": {"value": pool}}
    cpu = answers["ExplainResourcePool"].message["kinds"][0]
    assert cpu["kind"] == "cpu"
    assert 0 < cpu["entitlement"] <= cpu["limit"]
    assert cpu["steps"][0].startswith("The hosts that are up")
    job = answers["CreateJob"].message["jobId"]
    assert answers["ExplainPod"].message["podName"] == {"value": f"{job['value']}-0"}
    # What the tour broke is mended, for the tests that follow.
    assert {"StopAgent", "StartMaintenance"} <= set(answers)
    simulation = "derny.simulation.v1.SimulationService"
    assert grpcurl.call(f"{simulation}/StartAgent", {"hostname": "host-1"}).code == "OK"
    assert grpcurl.call(f"{HOSTS}/CompleteMaintenance", {"hostnames": ["host-2"]}).code == "OK"
    until(grpcurl, job, "JOB_STATE_RUNNING")
    assert len(grpcurl.call(f"{JOBS}/ListPods", {"job_id": job}).message["pods"]) == 3


def test_health_is_serving_for_the_server_and_for_a_service(grpcurl: Grpcurl) -> None:
    check = "grpc.health.v1.Health/Check"
    assert grpcurl.call(check).message == {"status": "SERVING"}
    assert grpcurl.call(check, {"service": f"peloton.api.v1alpha.{JOBS}"}).message == {"status": "SERVING"}
    assert grpcurl.call(check, {"service": "no.such.Service"}).code == "NotFound"


def test_list_pods_streams_all_pods_in_order_until_all_run(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "streamed", count=5)
    until(grpcurl, job, "JOB_STATE_RUNNING")

    def all_running() -> list[dict[str, dict[str, str]]]:
        pods = grpcurl.call(f"{JOBS}/ListPods", {"job_id": job}).message["pods"]
        return pods if all(pod["status"]["state"] == "POD_STATE_RUNNING" for pod in pods) else []

    pods = eventually(all_running, "five pods RUNNING")
    assert [pod["podName"]["value"] for pod in pods] == [f"{job['value']}-{n}" for n in range(5)]
    some = grpcurl.call(f"{JOBS}/ListPods", {"job_id": job, "range": {"from": 1, "to": 3}}).message["pods"]
    assert [pod["podName"]["value"] for pod in some] == [f"{job['value']}-{n}" for n in (1, 2)]


def test_a_pod_tells_where_it_runs_and_how_it_came_there(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "told", count=1)
    until(grpcurl, job, "JOB_STATE_RUNNING")
    pod = {"pod_name": {"value": f"{job['value']}-0"}}
    info = grpcurl.call(f"{PODS}/GetPod", pod).message["current"]
    assert info["status"]["podId"] == {"value": f"{job['value']}-0-1"}
    assert info["spec"]["containers"][0]["entrypoint"] == {"value": "sleep 600"}
    events = grpcurl.call(f"{PODS}/GetPodEvents", pod).message["events"]
    states = [event["actualState"].removeprefix("POD_STATE_") for event in reversed(events)]
    assert states[0] == "INITIALIZED"
    assert states[-3:] == ["LAUNCHED", "STARTING", "RUNNING"]
    assert {event["podId"]["value"] for event in events} == {f"{job['value']}-0-1"}
    assert events[0]["hostname"] == info["status"]["host"]


def test_pools_and_hosts_can_be_listed(grpcurl: Grpcurl, pool: str) -> None:
    pools = {
        entry["path"]["value"]: entry
        for entry in grpcurl.call(f"{POOLS}/QueryResourcePools").message["respools"]
    }
    assert set(pools) == {"/", "/DefaultResPool"}
    amounts = {part["kind"]: part.get("limit", 0) for part in pools["/DefaultResPool"]["spec"]["resources"]}
    assert amounts["cpu"] == 3 * 8, "the default pool has the whole capacity"
    assert grpcurl.call(f"{POOLS}/GetResourcePool", {"respool_id": {"value": pool}}).code == "OK"
    hosts = grpcurl.call(f"{HOSTS}/QueryHosts").message["hostInfos"]
    assert {host["hostname"]: host["state"] for host in hosts} == dict.fromkeys(
        ("host-0", "host-1", "host-2"), "HOST_STATE_UP"
    )


def test_a_job_is_found_by_its_name_and_in_the_list(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "named")
    assert grpcurl.call(f"{JOBS}/GetJobIDFromJobName", {"job_name": "named"}).message == {"jobId": [job]}
    answers = grpcurl.call(f"{JOBS}/ListJobs").messages
    assert "named" in {found["name"] for answer in answers for found in answer["jobs"]}


def test_a_job_is_stopped_started_and_deleted(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "mortal")
    until(grpcurl, job, "JOB_STATE_RUNNING")
    stop = grpcurl.call(f"{JOBS}/StopJob", {"job_id": job, "version": {"value": "1-1-1"}})
    assert stop.message == {"version": {"value": "1-2-1"}}
    until(grpcurl, job, "JOB_STATE_KILLED")
    start = grpcurl.call(f"{JOBS}/StartJob", {"job_id": job, "version": {"value": "1-2-1"}})
    assert start.message == {"version": {"value": "1-3-1"}}
    until(grpcurl, job, "JOB_STATE_RUNNING")
    grpcurl.call(f"{JOBS}/StopJob", {"job_id": job, "version": {"value": "1-3-1"}})
    until(grpcurl, job, "JOB_STATE_KILLED")
    assert grpcurl.call(f"{JOBS}/DeleteJob", {"job_id": job, "version": {"value": "1-4-1"}}).message == {}
    eventually(lambda: grpcurl.call(f"{JOBS}/GetJob", {"job_id": job}).code == "NotFound", "a deleted job")


def test_a_stale_version_is_aborted_with_both_versions(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "stale")
    refused = grpcurl.call(f"{JOBS}/StopJob", {"job_id": job, "version": {"value": "1-9-1"}})
    assert refused.code == "Aborted"
    assert refused.sentence.startswith("unexpected entity version")
    assert "1-1-1" in refused.sentence
    assert "1-9-1" in refused.sentence


def test_an_unknown_job_is_not_found_by_each_method_that_takes_one(grpcurl: Grpcurl) -> None:
    job = {"job_id": {"value": UNKNOWN_JOB}}
    versioned = {**job, "version": {"value": "1-1-1"}}
    for method, request in (
        ("GetJob", job),
        ("ListPods", job),
        ("StopJob", versioned),
        ("StartJob", versioned),
        ("DeleteJob", versioned),
    ):
        refused = grpcurl.call(f"{JOBS}/{method}", request)
        assert (refused.code, UNKNOWN_JOB in refused.sentence) == ("NotFound", True), method


def test_a_repeated_create_is_told_that_the_job_exists(grpcurl: Grpcurl, pool: str) -> None:
    job = created(grpcurl, pool, "twice")
    again = grpcurl.call(f"{JOBS}/CreateJob", {"job_id": job, "spec": a_spec("twice", pool)})
    assert again.code == "AlreadyExists"
    assert job["value"] in again.sentence


def test_a_job_without_a_name_is_refused(grpcurl: Grpcurl, pool: str) -> None:
    refused = grpcurl.call(f"{JOBS}/CreateJob", {"spec": a_spec("", pool)})
    assert (refused.code, "name" in refused.sentence) == ("InvalidArgument", True)


def test_a_field_that_does_not_exist_never_leaves_grpcurl(grpcurl: Grpcurl) -> None:
    refused = grpcurl.call(f"{JOBS}/GetJob", {"zzz": 1})
    assert refused.code == "grpcurl"
    assert "no known field named zzz" in refused.sentence


def test_headers_of_yarpc_are_ignored(grpcurl: Grpcurl) -> None:
    headers = {
        "rpc-caller": "peloton-cli",
        "rpc-service": "peloton-jobmgr",
        "rpc-encoding": "proto",
        "rpc-header-x": "y",
    }
    flags = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    found = grpcurl.call(f"{POOLS}/LookupResourcePoolID", {"path": {"value": "/DefaultResPool"}}, *flags)
    assert found.code == "OK"
