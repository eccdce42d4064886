"""Any clients, any calls, any disturbance: every answer is the one that the reference model gives, what was
refused leaves no trace, and in the end every job, pod, workflow and host is where it was wanted.

The whole daemon on virtual time, through its services (see `stage`). Between calls time passes, agents obey,
fail, fall silent and come back, and the daemon is started again from its journal.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from builders import POOL, a_host
from derny.core.audit import audit, fingerprint
from derny.model.periods import Periods
from derny.proto.derny.simulation import v1 as simulation
from derny.proto.mesos.v1 import CommandInfo
from derny.proto.peloton.api.v1alpha import respool
from derny.proto.peloton.api.v1alpha.admin import svc as admin
from derny.proto.peloton.api.v1alpha.host import HostState
from derny.proto.peloton.api.v1alpha.host import svc as hosts
from derny.proto.peloton.api.v1alpha.job.stateless import (
    CreateSpec,
    JobSpec,
    JobState,
    QuerySpec,
    RestartSpec,
    SlaSpec,
    UpdateSpec,
    WorkflowState,
)
from derny.proto.peloton.api.v1alpha.job.stateless import svc as jobs
from derny.proto.peloton.api.v1alpha.peloton import (
    EntityVersion,
    JobId,
    Label,
    OpaqueData,
    PodId,
    PodName,
    ResourcePoolId,
    VolumeId,
)
from derny.proto.peloton.api.v1alpha.pod import (
    Constraint,
    ConstraintType,
    ContainerSpec,
    InstanceIdRange,
    LabelConstraint,
    LabelConstraintCondition,
    LabelConstraintKind,
    PersistentVolumeSpec,
    PodSpec,
    PodState,
    PodStatus,
    ResourceSpec,
)
from derny.proto.peloton.api.v1alpha.pod import svc as pods
from derny.proto.peloton.api.v1alpha.volume import PersistentVolumeInfo
from derny.proto.peloton.api.v1alpha.volume import svc as volumes
from scenarios.reference_model import (
    ENDED,
    GATES,
    READ,
    TO_THE_LAST,
    WORKFLOW_OVER,
    WRITE,
    Job,
    Model,
    Pool,
    Refused,
    host_states,
    job_state,
    run_of,
    text,
)
from scenarios.stage import Stage

T = TypeVar("T")

HOSTS = [a_host(number).name for number in range(3)]
POOLS = [f"11111111-0000-4000-8000-00000000000{number}" for number in (1, 2)]
JOBS = [f"aaaaaaaa-0000-4000-8000-00000000000{number}" for number in (1, 2)]
NOBODY = "aaaaaaaa-0000-4000-8000-00000000000f"

PERIODS = Periods(
    placing_retry_s=20,
    placing_timeout_s=300,
    launch_timeout_s=60,
    start_timeout_s=60,
    kill_timeout_s=100,
    restart_backoff_first_s=5,
    restart_backoff_max_s=40,
    reconcile_s=60,
    failures_forgiven_s=300,
)
REST_S = 900
"""Longer than all of these together."""


def a_pod(run: str, **fields: Any) -> PodSpec:
    resources = ResourceSpec(cpu_limit=0.25, mem_limit_mb=8, disk_limit_mb=1)
    return PodSpec(containers=[ContainerSpec("main", resources, command=CommandInfo(value=run))], **fields)


NOWHERE = LabelConstraint(
    LabelConstraintKind.LABEL_CONSTRAINT_KIND_HOST,
    LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_EQUAL,
    Label("hostname", "nowhere"),
    1,
)
TEMPLATES = {
    "well": a_pod("sleep 100000000"),
    "better": a_pod("sleep 200000000"),
    "with a volume": a_pod("sleep 100000000", volume=PersistentVolumeSpec("/data", 5)),
    "failing": a_pod("exit 1"),
    "for nowhere": a_pod(
        "sleep 100000000", constraint=Constraint(ConstraintType.CONSTRAINT_TYPE_LABEL, NOWHERE)
    ),
    "empty": PodSpec(),
}


class Wanted(NamedTuple):
    """A job as a client wants it; so short, a failing example can be read."""

    name: str
    count: int
    template: str
    pool: str
    sla: SlaSpec
    other: tuple[int, str] | None = None

    @property
    def spec(self) -> JobSpec:
        return JobSpec(
            name=self.name,
            instance_count=self.count,
            default_spec=TEMPLATES[self.template],
            instance_spec={self.other[0]: TEMPLATES[self.other[1]]} if self.other is not None else {},
            respool_id=ResourcePoolId(self.pool),
            sla=self.sla,
        )


job_ids = st.sampled_from(JOBS)
all_job_ids = st.sampled_from([*JOBS * 8, NOBODY, "job", ""])
counts = st.integers(0, 5)
templates = st.sampled_from(["well", "better", "with a volume", "failing", "for nowhere"])
opaques = st.sampled_from([None, None, OpaqueData(), OpaqueData("why"), OpaqueData("because")])
versions = st.sampled_from(["current"] * 14 + ["before", "9-9-9", "junk", "", None])
cpus = st.sampled_from([(1, 20), (2, 24), (12, 24), (13, 24), (7, 30), (5, 4)])
host_names = st.sampled_from([*HOSTS * 3, "nowhere"])
host_pools = st.sampled_from(["default", "blue", "red"])
updates = st.none() | st.builds(
    UpdateSpec,
    batch_size=st.integers(0, 2),
    rollback_on_failure=st.booleans(),
    max_instance_retries=st.integers(0, 1),
    max_tolerable_instance_failures=st.integers(0, 2),
    start_paused=st.sampled_from([False, False, False, True]),
    in_place=st.booleans(),
    start_pods=st.sampled_from([False, False, True]),
)
creations = st.none() | st.builds(
    CreateSpec,
    batch_size=st.integers(0, 2),
    max_instance_retries=st.integers(0, 1),
    max_tolerable_instance_failures=st.integers(0, 2),
    start_paused=st.sampled_from([False, False, True]),
)


slas = st.sampled_from(
    [SlaSpec(preemptible=True, maximum_unavailable_instances=n) for n in (0, 0, 1, 2)] * 8
    + [SlaSpec(revocable=True)]
)


def wishes(*pools: str) -> st.SearchStrategy[Wanted]:
    """Mostly good ones."""
    return st.builds(
        Wanted,
        st.sampled_from(["one", "two"] * 10 + [""]),
        st.sampled_from([*range(6)] * 4 + [100_001]),
        st.sampled_from(["well", "better", "with a volume", "failing", "for nowhere"] * 5 + ["empty"]),
        st.sampled_from(pools),
        slas,
        st.none() | st.none() | st.tuples(st.integers(0, 6), templates),
    )


class Clients(RuleBasedStateMachine):
    """Some clients of one daemon of three hosts, who know of each other's jobs, pools and hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory()
        self.stage = Stage(Path(self.folder.name), len(HOSTS), 7, PERIODS)
        self.run(self.stage.begin())
        known = {
            "root": Pool("root", "", 24, 24, [POOL]),
            POOL: Pool("pool", "root", 24, 24),
        }
        self.model = Model(known, HOSTS)
        self.earlier: dict[str, str] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # Calls, and what is looked at after them.

    def call(self, method: str, request: Any) -> Any:
        return self.run(self.stage.call(method, request))

    def ask(self, method: str, request: Any) -> Status | Any:
        """The answer or the status of a refusal, which is told in words."""
        try:
            return self.call(method, request)
        except GRPCError as error:
            assert error.message
            return error.status

    def change(self, method: str, request: Any) -> tuple[Any, Any]:
        """A call that changes something: what the model expects of it, and what is answered.

        Both are checked to agree on whether it is refused, and that a refusal leaves no trace.
        """
        expected: Any
        try:
            if WRITE in self.model.closed and not method.endswith("ockdown"):
                raise Refused(Status.UNAVAILABLE)
            expected = getattr(self.model, re.sub(r"(?<!^)([A-Z])", r"_\1", method).lower())(request)
        except Refused as refused:
            expected = refused.status
        before = self.trace()
        answer = self.ask(method, request)
        if isinstance(expected, Status):
            assert answer is expected, f"{method}: {answer}, the model says {expected}"
            assert self.trace() == before, f"{method} was refused and has changed something"
        else:
            assert not isinstance(answer, Status), f"{method}: {answer}, the model says {expected}"
        return expected, answer

    def change_job(self, method: str, request: Any) -> None:
        """A call about a job, which is answered its new version."""
        job = text(request.job_id)
        if job in self.model.jobs:
            version = str(self.model.jobs[job].version)
        expected, answer = self.change(method, request)
        if not isinstance(expected, Status):
            self.earlier[job] = version
            if expected is not None:
                assert answer.version == expected
        self.look_at(job)

    def trace(self) -> tuple[bytes, int]:
        daemon = self.stage.daemon
        return fingerprint(daemon.state), daemon.loop.revision

    @contextmanager
    def reading(self) -> Iterator[None]:
        """With the gate READ open for as long as it takes: who saw nothing could expect nothing."""
        if READ not in self.model.closed:
            yield
            return
        for method, request in (
            ("GetJob", jobs.GetJobRequest(JobId(JOBS[0]))),
            ("QueryHosts", hosts.QueryHostsRequest()),
        ):
            assert self.ask(method, request) is Status.UNAVAILABLE
        self.call("RemoveLockdown", admin.RemoveLockdownRequest([admin.Component.Read]))
        yield
        self.call("Lockdown", admin.LockdownRequest([admin.Component.Read]))

    def look_at(self, job: str) -> None:
        with self.reading():
            self.look(job)

    def look(self, job: str) -> None:
        if job in self.model.jobs:
            self.look_at_existing(job)
        else:
            wrong = Status.NOT_FOUND if job else Status.INVALID_ARGUMENT
            assert self.ask("GetJob", jobs.GetJobRequest(JobId(job))) is wrong
            assert self.ask("ListPods", jobs.ListPodsRequest(JobId(job))) is wrong

    def look_at_existing(self, job: str) -> None:
        known = self.model.jobs[job]
        answer = self.ask("GetJob", jobs.GetJobRequest(JobId(job)))
        if answer is Status.NOT_FOUND:
            assert known.goal is JobState.DELETED, f"{job} is gone"
            del self.model.jobs[job]
            return
        listed = self.pods_of(job)
        self.model.look(known, answer.job_info, [pod for _name, pod in listed])
        assert [name for name, _pod in listed] == [f"{job}-{instance}" for instance in range(len(listed))]
        known.volumes = self.volumes_of(job)
        opaque = answer.workflow_info.opaque_data
        assert (opaque.data if opaque is not None else "") == known.now.opaque
        self.look_at_workflows(job, known)
        if listed:
            self.look_at_pod(*listed[-1])

    def look_at_workflows(self, job: str, known: Job) -> None:
        """Ten are remembered, latest first; those before the latest are over."""
        answer = self.call("ListJobWorkflows", jobs.ListJobWorkflowsRequest(JobId(job)))
        told = [
            (info.status.type, text(info.status.version).partition("-")[0]) for info in answer.workflow_infos
        ]
        assert told == [(flow.type, str(flow.version)) for flow in known.workflows[:-11:-1]]
        assert all(info.status.state in WORKFLOW_OVER for info in answer.workflow_infos[1:])
        assert answer.workflow_infos[0].events[0].state == known.now.state
        events = self.call("GetWorkflowEvents", jobs.GetWorkflowEventsRequest(JobId(job), 0)).events
        assert all(event.type == known.now.type for event in events)

    def look_at_pod(self, name: str, status: PodStatus) -> None:
        answer = self.call("GetPod", pods.GetPodRequest(PodName(name), status_only=True))
        assert answer.current.status == status
        runs = [run_of(pod.status) for pod in answer.previous]
        assert runs == sorted(set(runs), reverse=True) and all(run < run_of(status) for run in runs)

    def pods_of(self, job: str) -> list[tuple[str, PodStatus]]:
        batches = self.call("ListPods", jobs.ListPodsRequest(JobId(job)))
        return [(text(pod.pod_name), pod.status) for batch in batches for pod in batch.pods]

    def volumes_of(self, job: str) -> list[PersistentVolumeInfo]:
        listed = self.call("ListVolumes", volumes.ListVolumesRequest(JobId(job))).volumes
        return list(listed.values())

    def version(self, job: str, asked: str | None) -> EntityVersion | None:
        if asked is None:
            return None
        if asked == "current":
            asked = str(self.model.jobs[job].version) if job in self.model.jobs else "1-1-1"
        return EntityVersion(self.earlier.get(job, "9-9-9") if asked == "before" else asked)

    # JobService.

    @initialize(count=st.integers(2, 4), batch_size=st.integers(0, 1))
    def begin_with_a_job(self, count: int, batch_size: int) -> None:
        wanted = Wanted("one", count, "well", POOL, SlaSpec(preemptible=True))
        self.create_job(job=JOBS[0], wanted=wanted, how=CreateSpec(batch_size), opaque=None)
        self.wait(10)

    @rule(
        job=st.sampled_from([*JOBS * 8, "job"]),
        wanted=wishes(POOL, POOL, *POOLS, "root", NOBODY, ""),
        how=creations,
        opaque=opaques,
    )
    def create_job(self, job: str, wanted: Wanted, how: CreateSpec | None, opaque: OpaqueData | None) -> None:
        request = jobs.CreateJobRequest(JobId(job), wanted.spec, [], how, opaque)
        expected, answer = self.change("CreateJob", request)
        if not isinstance(expected, Status):
            assert (text(answer.job_id), answer.version) == expected
            self.earlier.pop(job, None)
        self.look_at(job)

    @rule(job=job_ids, count=counts, template=templates, how=creations)
    def create_good_job(self, job: str, count: int, template: str, how: CreateSpec | None) -> None:
        """So that there are some, whatever the pools have become."""
        pool = next(pool for pool in (*POOLS, POOL) if pool in self.model.pools)
        wanted = Wanted("one", count, template, pool, SlaSpec(preemptible=True))
        self.create_job(job=job, wanted=wanted, how=how, opaque=None)

    @rule(
        job=all_job_ids,
        method=st.sampled_from(["StartJob", "StopJob", "StopJob"]),
        version=versions,
    )
    def start_or_stop_job(self, job: str, method: str, version: str | None) -> None:
        request = getattr(jobs, f"{method}Request")(JobId(job), self.version(job, version))
        self.change_job(method, request)

    @rule(
        then=st.sampled_from(["StopJob", "StartJob"]),
        paused=st.booleans(),
        seconds=st.sampled_from([0, 1, 3]),
    )
    def interfere_with_a_slow_restart(self, then: str, paused: bool, seconds: float) -> None:
        job = JOBS[0]
        self.restart_job(
            job=job, version="current", batch_size=1, in_place=None, asked=[], repeats=False, opaque=None
        )
        self.wait(seconds)
        if paused:
            self.steer_workflow(job=job, method="PauseJobWorkflow", version="current", opaque=None)
        self.start_or_stop_job(job=job, method=then, version="current")

    @rule(job=all_job_ids, version=versions, force=st.sampled_from([False, False, True]))
    def delete_job(self, job: str, version: str | None, force: bool) -> None:
        self.change_job("DeleteJob", jobs.DeleteJobRequest(JobId(job), self.version(job, version), force))

    @rule(
        job=all_job_ids,
        version=versions,
        wanted=wishes(POOL, *POOLS),
        keeps_pool=st.sampled_from([True] * 9 + [False]),
        repeats=st.sampled_from([False, False, True]),
        how=updates,
        opaque=opaques,
    )
    def replace_job(
        self,
        job: str,
        version: str | None,
        wanted: Wanted,
        keeps_pool: bool,
        repeats: bool,
        how: UpdateSpec | None,
        opaque: OpaqueData | None,
    ) -> None:
        spec = wanted.spec
        if job in self.model.jobs:
            known = self.model.jobs[job]
            if keeps_pool:
                spec.respool_id = known.spec.respool_id
            if repeats and isinstance(known.now.asked, UpdateSpec):
                spec, how = known.spec, known.now.asked
        request = jobs.ReplaceJobRequest(JobId(job), self.version(job, version), spec, [], how, opaque)
        self.change_job("ReplaceJob", request)

    @rule(
        job=all_job_ids,
        version=versions,
        spec=st.none()
        | st.builds(
            JobSpec,
            name=st.sampled_from(["", "", "two"]),
            description=st.sampled_from(["", "Of some use"]),
            instance_count=st.sampled_from([0, 0, 2, 4, 100_001]),
            labels=st.sampled_from([[], [], [Label("a", "b")]]),
            default_spec=st.sampled_from([None, TEMPLATES["well"], TEMPLATES["better"]]),
            sla=st.sampled_from([None, SlaSpec(priority=2), SlaSpec(preemptible=True)]),
        ),
        how=updates,
        opaque=opaques,
    )
    def patch_job(
        self,
        job: str,
        version: str | None,
        spec: JobSpec | None,
        how: UpdateSpec | None,
        opaque: OpaqueData | None,
    ) -> None:
        request = jobs.PatchJobRequest(JobId(job), self.version(job, version), spec, [], how, opaque)
        self.change_job("PatchJob", request)

    @rule(
        job=all_job_ids,
        version=versions,
        batch_size=st.integers(0, 2),
        in_place=st.none() | st.booleans(),
        asked=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 3, 5, TO_THE_LAST])), max_size=2),
        repeats=st.sampled_from([False, False, True]),
        opaque=opaques,
    )
    def restart_job(
        self,
        job: str,
        version: str | None,
        batch_size: int,
        in_place: bool | None,
        asked: list[tuple[int, int]],
        repeats: bool,
        opaque: OpaqueData | None,
    ) -> None:
        """In the form of the reference, or in the released one, which alone has `in_place`."""
        ranges = [InstanceIdRange(first, end) for first, end in asked]
        if repeats:
            ranges, batch_size, in_place = [], 1, False
        request = jobs.RestartJobRequest(JobId(job), self.version(job, version), opaque_data=opaque)
        if in_place is None:
            request.batch_size, request.ranges = batch_size, ranges
        else:
            request.restart_spec = RestartSpec(batch_size, ranges, in_place)
        self.change_job("RestartJob", request)

    @rule(
        job=all_job_ids,
        method=st.sampled_from(
            ["PauseJobWorkflow", "ResumeJobWorkflow", "ResumeJobWorkflow", "AbortJobWorkflow"]
        ),
        version=versions,
        opaque=opaques,
    )
    def steer_workflow(self, job: str, method: str, version: str | None, opaque: OpaqueData | None) -> None:
        request = getattr(jobs, f"{method}Request")(JobId(job), self.version(job, version), opaque)
        self.change_job(method, request)

    @rule(job=all_job_ids)
    def refresh_job(self, job: str) -> None:
        self.change_job("RefreshJob", jobs.RefreshJobRequest(JobId(job)))

    # PodService.

    @rule(
        job=st.sampled_from([*JOBS * 6, NOBODY, "job"]),
        instance=st.sampled_from(["0", "0", "1", "1", "2", "3", "4", "5", "x"]),
        method=st.sampled_from(["StartPod", "StopPod", "StopPod", "RestartPod", "RefreshPod"]),
    )
    def change_pod(self, job: str, instance: str, method: str) -> None:
        name = PodName(f"{job}-{instance}")
        self.change(method, getattr(pods, f"{method}Request")(name))
        self.look_at(job)

    @rule(
        job=job_ids,
        instance=st.integers(0, 5),
        run=st.sampled_from(["", "-0", "-1", "-1", "-2", "-x", "-7"]),
    )
    def delete_pod_events(self, job: str, instance: int, run: str) -> None:
        name = f"{job}-{instance}"
        pod = PodId(f"{name}{run}") if run else None
        expected, _ = self.change("DeletePodEvents", pods.DeletePodEventsRequest(PodName(name), pod))
        if not isinstance(expected, Status):
            with self.reading():
                told = self.call("GetPodEvents", pods.GetPodEventsRequest(PodName(name), pod))
            assert told.events == []

    # The other services.

    @rule(
        pool=st.sampled_from([*POOLS * 4, POOL, "pool"]),
        parent=st.sampled_from([POOL, POOL, POOL, POOL, NOBODY]),
        name=st.sampled_from(["a", "b", "c", "", "a/b"]),
        cpu=cpus,
        method=st.sampled_from(["CreateResourcePool", "CreateResourcePool", "UpdateResourcePool"]),
    )
    def configure_pool(
        self, pool: str, parent: str, name: str, cpu: tuple[float, float], method: str
    ) -> None:
        per_cpu = {"cpu": 1, "memory": 4096, "disk": 12_800}
        resources = [
            respool.ResourceSpec(kind, cpu[0] * size, cpu[1] * size, 1) for kind, size in per_cpu.items()
        ]
        spec = respool.ResourcePoolSpec(name=name, parent=ResourcePoolId(parent), resources=resources)
        expected, answer = self.change(
            method, getattr(respool, f"{method}Request")(ResourcePoolId(pool), spec)
        )
        if isinstance(expected, str):
            assert text(answer.respool_id) == expected
        self.look_around()

    @rule(pool=st.sampled_from([*POOLS * 3, POOL, "root", "", NOBODY]))
    def delete_pool(self, pool: str) -> None:
        if pool == POOL and not self.model.pools[POOL].children:
            # Where jobs go if no other pool is left.
            return
        self.change("DeleteResourcePool", respool.DeleteResourcePoolRequest(ResourcePoolId(pool)))
        self.look_around()

    @rule(
        chosen=st.lists(host_names, max_size=2),
        method=st.sampled_from(["StartMaintenance", "CompleteMaintenance", "CompleteMaintenance"]),
    )
    def maintain(self, chosen: list[str], method: str) -> None:
        self.change(method, getattr(hosts, f"{method}Request")(hostnames=chosen))
        self.look_around()

    @rule(
        pool=st.sampled_from(["blue", "red", "default", ""]),
        method=st.sampled_from(["CreateHostPool", "CreateHostPool", "DeleteHostPool"]),
    )
    def change_host_pools(self, pool: str, method: str) -> None:
        self.change(method, getattr(hosts, f"{method}Request")(name=pool))
        self.look_around()

    @rule(host=host_names, source=host_pools, destination=host_pools)
    def change_host_pool(self, host: str, source: str, destination: str) -> None:
        self.change("ChangeHostPool", hosts.ChangeHostPoolRequest(host, source, destination))
        self.look_around()

    @precondition(lambda self: any(job.volumes for job in self.model.jobs.values()))
    @rule(data=st.data())
    def delete_volume(self, data: st.DataObject) -> None:
        known = [text(volume.volume_id) for job in self.model.jobs.values() for volume in job.volumes]
        volume = data.draw(st.sampled_from([*known * 3, "", NOBODY]))
        self.change("DeleteVolume", volumes.DeleteVolumeRequest(VolumeId(volume)))
        self.look_at_all()

    @rule(
        gates=st.lists(st.sampled_from([*GATES, 7]), max_size=2),
        method=st.sampled_from(["Lockdown", "RemoveLockdown"]),
    )
    def set_gates(self, gates: list[int], method: str) -> None:
        request = getattr(admin, f"{method}Request")(gates)
        expected, answer = self.change(method, request)
        if not isinstance(expected, Status):
            assert set(map(int, answer.successes)) == set(expected)

    @rule()
    def open_all_gates(self) -> None:
        self.change("RemoveLockdown", admin.RemoveLockdownRequest(list(GATES)))  # type: ignore[arg-type]  # numbers are components
        self.look_at_all()

    # The world.

    @rule(seconds=st.sampled_from([0.01, 1, 1, 3, 11, 70]))
    def wait(self, seconds: float) -> None:
        self.run(self.stage.wait(seconds))
        self.look_at_all()

    @rule(host=st.sampled_from(HOSTS), what=st.sampled_from(["StopAgent", "StartAgent", "RestartAgent"]))
    def disturb_agent(self, host: str, what: str) -> None:
        self.call(what, getattr(simulation, f"{what}Request")(host))
        self.wait(0)

    @rule(what=st.sampled_from(["CutLink", "RestoreLink", "RestoreLink"]))
    def disturb_link(self, what: str) -> None:
        self.call(what, getattr(simulation, f"{what}Request")())
        self.wait(0)

    @rule()
    def restart_daemon(self) -> None:
        """All that is remembered is in the journal."""
        before = fingerprint(self.stage.daemon.state)
        self.run(self.stage.close())
        assert fingerprint(self.stage.daemon.state) == before
        self.run(self.stage.restart())
        self.wait(0)

    # Looks.

    def look_at_all(self) -> None:
        with self.reading():
            for job in list(self.model.jobs):
                self.look(job)
            self.look_at_lists()
        assert audit(self.stage.daemon.state) == []

    def look_around(self) -> None:
        with self.reading():
            self.look_at_lists()

    def look_at_lists(self) -> None:
        """What is told of everything together."""
        model = self.model
        listed = [
            text(job.job_id) for batch in self.call("ListJobs", jobs.ListJobsRequest()) for job in batch.jobs
        ]
        assert Counter(listed) == Counter(model.jobs.keys())
        for name in ("one", "two"):
            ids = sorted(job for job, known in model.jobs.items() if known.spec.name == name)
            found = self.ask("GetJobIDFromJobName", jobs.GetJobIdFromJobNameRequest(name))
            assert (sorted(map(text, found.job_id)) == ids) if ids else (found is Status.NOT_FOUND)
            queried = self.call("QueryJobs", jobs.QueryJobsRequest(QuerySpec(name=name)))
            assert sorted(text(job.job_id) for job in queried.records) == ids
            assert queried.pagination.total == len(ids)
        known = self.call("QueryResourcePools", respool.QueryResourcePoolsRequest()).respools
        assert {text(pool.respool_id): sorted(map(text, pool.children)) for pool in known} == {
            pool: sorted(found.children) for pool, found in model.pools.items()
        }
        told = self.call("QueryHosts", hosts.QueryHostsRequest()).host_infos
        assert sorted(host.hostname for host in told) == sorted(HOSTS)
        assert all(host.state in host_states(model.drained[host.hostname]) for host in told)
        pooled = self.call("ListHostPools", hosts.ListHostPoolsRequest()).pools
        assert {pool.name: set(pool.hosts) for pool in pooled} == model.host_pools

    # The end.

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.run(self.stage.close())
            self.runner.close()
            self.folder.cleanup()

    def come_to_rest(self) -> None:
        """Nothing is disturbed any more, all gates are open, and there is time enough for everything."""
        self.open_all_gates()
        self.disturb_link("RestoreLink")
        for host in HOSTS:
            self.disturb_agent(host, "StartAgent")
        self.wait(REST_S)
        for host in self.call("QueryHosts", hosts.QueryHostsRequest()).host_infos:
            assert host.state == (HostState.DOWN if self.model.drained[host.hostname] else HostState.UP)
        self.maintain(HOSTS, "CompleteMaintenance")
        self.wait(REST_S)
        self.restart_daemon()
        self.wait(2)
        for job, known in self.model.jobs.items():
            assert known.goal is not JobState.DELETED, f"{job} has not gone"
            self.check_rest(job, known)

    def check_rest(self, job: str, known: Job) -> None:
        told = self.call("GetJob", jobs.GetJobRequest(JobId(job), summary_only=True)).summary.status
        unwell = [self.why_not_at_goal(known, instance) for instance in range(len(known.pods))]
        if not any(unwell):
            assert told.state == job_state(known)
            assert known.now.over or known.now.state is WorkflowState.PAUSED
        # Pods that are still to be created are told as INITIALIZED.
        counts = Counter(f"POD_STATE_{PodState(pod.state).name}" for pod in known.pods)
        missing = max(known.spec.instance_count - len(known.pods), 0)
        assert +Counter(told.pod_stats) == +(counts + Counter(POD_STATE_INITIALIZED=missing))

    def why_not_at_goal(self, known: Job, instance: int) -> str:
        """Empty for a pod that is where it is wanted; fails for one without an excuse."""
        pod = known.pods[instance]
        if pod.desired_state == PodState.KILLED:
            assert pod.state in ENDED
            return ""
        assert (
            pod.desired_state == PodState.RUNNING
            or not known.now.over
            or known.now.state is WorkflowState.PAUSED
        )
        spec = known.specs[int(text(pod.version).partition("-")[0])]
        own, default = spec.instance_spec.get(instance, spec.default_spec), spec.default_spec
        assert own is not None and default is not None
        if own.constraint is not None or default.constraint is not None:
            assert pod.state == PodState.PLACING and "nowhere" in pod.message, pod.message
            return "no host has the label"
        if own.containers[0].command == TEMPLATES["failing"].containers[0].command:
            assert pod.failure_count
            return "it fails again and again"
        assert pod.state == PodState.RUNNING, f"{text(pod.pod_id)} is {PodState(pod.state).name}"
        assert text(pod.version) == text(pod.desired_version) and text(pod.desired_pod_id) == text(pod.pod_id)
        return ""


def clients(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


TestClients = Clients.TestCase
TestClients.settings = clients(40, 30)


@pytest.mark.slow
def test_many_more_of_them() -> None:
    run_state_machine_as_test(Clients, settings=clients(80, 50))
