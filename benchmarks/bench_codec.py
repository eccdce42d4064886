"""Our codec against stock betterproto2 and Google's protobuf (its C core), in microseconds of CPU time.

Every figure of the table is measured in one run, the fastest of several rounds. The messages are those of a
busy day: a running pod of two containers, a job spec with constraints, its creation and its end.

    python benchmarks/bench_codec.py
"""

import time
from collections.abc import Callable
from importlib.resources import files

import betterproto2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from derny.api import codec
from derny.proto.mesos.v1 import (
    AgentId,
    CommandInfo,
    ContainerInfo,
    ContainerInfoDockerInfo,
    ContainerInfoType,
    EnvironmentVariable,
)
from derny.proto.mesos.v1 import Environment as MesosEnvironment
from derny.proto.message_pool import default_message_pool
from derny.proto.peloton.api.v1alpha import peloton, pod
from derny.proto.peloton.api.v1alpha.job import stateless
from derny.proto.peloton.api.v1alpha.job.stateless import svc

ROUNDS = 30
JOB_ID = "6f0a1c5e-9d0b-4c39-8a53-2f6d1d1f8a11"


def container_status(name: str, port: int) -> pod.ContainerStatus:
    return pod.ContainerStatus(
        name=name,
        state=pod.ContainerState.RUNNING,
        ports={"http": port, "admin": port + 1},
        message="Reached healthy state",
        healthy=pod.HealthStatus(state=pod.HealthState.HEALTHY, output="200 OK"),
        image="registry.example.com/team/web:2024.05.17",
        start_time="2024-05-17T09:31:12.000000001Z",
    )


def pod_summary() -> pod.PodSummary:
    version = peloton.EntityVersion(value="3-2-1")
    return pod.PodSummary(
        pod_name=peloton.PodName(value=f"{JOB_ID}-17"),
        status=pod.PodStatus(
            state=pod.PodState.RUNNING,
            pod_id=peloton.PodId(value=f"{JOB_ID}-17-4"),
            start_time="2024-05-17T09:31:12.000000001Z",
            host="peloton-mesos-agent-0017.example.com",
            containers_status=[container_status("web", 31007), container_status("sidecar", 31022)],
            desired_state=pod.PodState.RUNNING,
            message="Command is running",
            reason="REASON_COMMAND_RUNNING",
            failure_count=3,
            version=version,
            desired_version=version,
            agent_id=AgentId(value="a1b2c3d4-0000-4f2a-9c3e-5d6e7f809a1b-S17"),
            revision=peloton.Revision(
                version=4, created_at=1715938272, updated_at=1715938300, updated_by="ci"
            ),
        ),
    )


def on_label(key: str, value: str, requirement: int) -> pod.Constraint:
    return pod.Constraint(
        type=pod.ConstraintType.CONSTRAINT_TYPE_LABEL,
        label_constraint=pod.LabelConstraint(
            kind=pod.LabelConstraintKind.LABEL_CONSTRAINT_KIND_HOST,
            condition=pod.LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_EQUAL,
            label=peloton.Label(key=key, value=value),
            requirement=requirement,
        ),
    )


def container() -> pod.ContainerSpec:
    return pod.ContainerSpec(
        name="web",
        resource=pod.ResourceSpec(cpu_limit=1.5, mem_limit_mb=2048.0, disk_limit_mb=4096.0, fd_limit=1024),
        container=ContainerInfo(
            type=ContainerInfoType.DOCKER,
            docker=ContainerInfoDockerInfo(
                image="registry.example.com/team/web:2024.05.17", force_pull_image=False
            ),
        ),
        command=CommandInfo(
            value="exec /srv/web --port $PORT_HTTP --workers 8",
            shell=True,
            environment=MesosEnvironment(variables=[EnvironmentVariable(name="ZONE", value="dca1")]),
        ),
        ports=[pod.PortSpec(name="http", env_name="PORT_HTTP"), pod.PortSpec(name="admin", value=31999)],
        environment=[pod.Environment(name="STAGE", value="production")],
    )


def job_spec() -> stateless.JobSpec:
    both = pod.AndConstraint(constraints=[on_label("zone", "dca1", 1), on_label("rack", "r42", 2)])
    return stateless.JobSpec(
        revision=peloton.Revision(version=2, created_at=1715938272),
        name="web-frontend",
        owner="team-web",
        owning_team="web",
        ldap_groups=["web-oncall", "web-dev"],
        description="Serves the pages that customers see",
        labels=[peloton.Label(key=f"label-{n}", value=f"value-{n}") for n in range(5)],
        instance_count=200,
        sla=stateless.SlaSpec(priority=5, preemptible=True, maximum_unavailable_instances=2),
        default_spec=pod.PodSpec(
            labels=[
                peloton.Label(key="tier", value="frontend"),
                peloton.Label(key="stage", value="production"),
            ],
            containers=[container()],
            constraint=pod.Constraint(type=pod.ConstraintType.CONSTRAINT_TYPE_AND, and_constraint=both),
            restart_policy=pod.RestartPolicy(max_failures=3),
            kill_grace_period_seconds=30,
        ),
        instance_spec={0: pod.PodSpec(labels=[peloton.Label(key="canary", value="true")])},
        respool_id=peloton.ResourcePoolId(value="5f0c6a4e-1111-4c39-8a53-2f6d1d1f8a11"),
    )


def messages() -> list[betterproto2.Message]:
    version = peloton.EntityVersion(value="3-2-1")
    return [
        pod_summary(),
        job_spec(),
        svc.CreateJobRequest(job_id=peloton.JobId(value=JOB_ID), spec=job_spec()),
        svc.StopJobRequest(job_id=peloton.JobId(value=JOB_ID[:29]), version=version),
    ]


def google_class(cls: type) -> type:
    pool = descriptor_pool.DescriptorPool()
    described = descriptor_pb2.FileDescriptorSet.FromString(
        files("derny.proto").joinpath("descriptors.binpb").read_bytes()
    )
    for file in described.file:
        pool.Add(file)
    name = default_message_pool.type_to_url[cls].partition("/")[2]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def fastest_us(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    repeats = max(1, int(0.004 / (time.thread_time() - started)))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(repeats):
            work()
        best = min(best, (time.thread_time() - started) / repeats)
    return best * 1e6


def row(name: str, ours: float, stock: float, google: float) -> str:
    return f"{name:34}{ours:10.2f}{stock:10.1f}{google:10.2f}{stock / ours:12.1f}{ours / google:12.1f}"


def compare(message: betterproto2.Message) -> None:
    cls = type(message)
    data = codec.encode(message)
    google = google_class(cls)
    parsed = google.FromString(data)
    if codec.decode(cls, data) != message or google.FromString(bytes(message)) != parsed:
        raise AssertionError(f"the three do not agree on {cls.__name__}")
    title = f"{cls.__name__} ({len(data)} B)"
    encoding = (lambda: codec.encode(message), lambda: bytes(message), parsed.SerializeToString)
    decoding = (lambda: codec.decode(cls, data), lambda: cls.parse(data), lambda: google.FromString(data))
    print(row(f"{title} encode", *map(fastest_us, encoding)))
    print(row(f"{title} decode", *map(fastest_us, decoding)))


def packed_megabyte(title: str, numbers: list[int]) -> None:
    """A field of packed uint32 numbers, cut to a megabyte."""
    google = google_class(stateless.WorkflowStatus)
    data = google(instances_current=numbers).SerializeToString()
    ours = fastest_us(lambda: codec.decode(stateless.WorkflowStatus, data)) / 1e3
    theirs = fastest_us(lambda: google.FromString(data)) / 1e3
    size = f"{len(data) / 1e6:.2f} MB, {len(numbers):7} numbers"
    print(f"{title:34}{ours:10.1f} ms   {size}   Google {theirs:.1f} ms")


def main() -> None:
    columns = ("ours", "stock", "Google")
    ratios = ("stock/ours", "ours/Google")
    title = f"us, fastest of {ROUNDS}"
    print(f"{title:34}{''.join(f'{c:>10}' for c in columns)}{''.join(f'{c:>12}' for c in ratios)}")
    for message in messages():
        compare(message)
    packed_megabyte("packed, 1 byte each", [7] * 1_000_000)
    packed_megabyte("packed, 2 bytes each", list(range(128, 16_384)) * 31)
    packed_megabyte("packed, instance ids from 0", list(range(355_000)))
    packed_megabyte("packed, 5 bytes each", [2**32 - 1 - n for n in range(200_000)])
    packed_megabyte("packed, mixed widths", [(n * 2654435761) % 2 ** (1 + n % 32) for n in range(355_000)])
    packed_megabyte("packed, one wide in a hundred", ([1] * 99 + [2**31]) * 9_600)


if __name__ == "__main__":
    main()
