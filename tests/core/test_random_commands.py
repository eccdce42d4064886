"""Any clients, any agents, any order: every invariant holds throughout, and in the end all comes to rest."""

from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from builders import (
    POOL,
    Bench,
    Seen,
    a_host,
    a_job,
    a_pool,
    a_template,
    amounts,
    everything,
    job_id,
    pool_id,
)
from derny.answers import queries
from derny.core import commands
from derny.core.audit import audit, fingerprint
from derny.core.jobs import computed_state
from derny.core.machine import Machine
from derny.model.errors import Refusal
from derny.model.ids import DEFAULT_HOST_POOL, HostName, HostPoolName, JobId, PodId, VolumeId, pod_id
from derny.model.periods import Limits, Periods
from derny.model.records import Job
from derny.model.rules import DEFAULT_RULES, Preempting
from derny.model.secrets import Secret
from derny.model.specs import CheckKind, Container, Labels, PodTemplate, VolumeRequest, WorkflowSpec
from derny.model.specs import HealthCheck as Check
from derny.model.states import (
    POD_ON_HOST,
    POD_TERMINAL,
    Gate,
    JobState,
    PodState,
    TaskState,
    WorkflowState,
    WorkflowType,
)
from derny.placement import engine
from derny.placement.filters import ask_of
from slow_constraints import constraints, label_lists

K = TypeVar("K")
V = TypeVar("V", queries.JobView, queries.PodView)

PERIODS = Periods(
    launch_timeout_s=60,
    start_timeout_s=60,
    placing_timeout_s=300,
    kill_timeout_s=100,
    restart_backoff_first_s=10,
    restart_backoff_max_s=80,
)

CHECK = Check(CheckKind.GRPC)

templates = st.builds(
    a_template,
    cpu=st.sampled_from([0, 0.5, 1, 3, 9]),
    memory=st.sampled_from([0, 100, 30_000]),
    ports=st.integers(0, 2),
    static_ports=st.sampled_from([(), (), (80,), (31_000,)]),
    labels=st.sampled_from([(), (), (("a", "x"),), (("a", "x"), ("b", "y"))]),
    constraint=st.none() | st.none() | constraints,
    controller=st.booleans(),
    preemptible=st.booleans(),
    health_checked=st.booleans(),
    volume=st.sampled_from([None, None, VolumeRequest("/data", 5000)]),
)
shares = st.sampled_from([0.2, 0.5, 0.7])
jobs = st.integers(1, 5).map(job_id)
hosts = st.integers(0, 4)
host_pools = st.sampled_from([DEFAULT_HOST_POOL, HostPoolName("blue"), HostPoolName("red")])
flows = st.builds(
    WorkflowSpec,
    batch_size=st.integers(0, 3),
    max_instance_retries=st.integers(0, 2),
    max_tolerable_instance_failures=st.integers(0, 2),
    rollback_on_failure=st.booleans(),
    start_paused=st.sampled_from([False, False, False, True]),
    in_place=st.booleans(),
    start_pods=st.booleans(),
)
budgets = st.sampled_from([1, 2, 5, 100])


def check_told(told: dict[K, V], before: dict[K, V], after: dict[K, V]) -> None:
    for gone in before.keys() - after.keys():
        last = told.pop(gone)
        assert last.state.name == "DELETED"
        assert last.revision > before[gone].revision
    assert told == {key: view for key, view in after.items() if before.get(key) != view}


class Cluster(RuleBasedStateMachine):
    """Five jobs' ids and five hosts' names, so that commands meet. `Bench` audits after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(
            hosts=2,
            periods=PERIODS,
            limits=Limits(pods_max=60),
            part=0.7,
            preempting=Preempting(by_priority=True),
        )

    def try_to(self, command: commands.Command) -> None:
        """A refusal is an answer too: then nothing may have changed."""
        before = fingerprint(self.bench.machine.state)
        try:
            self.bench.do(command)
        except Refusal as refusal:
            assert str(refusal)
            assert fingerprint(self.bench.machine.state) == before

    @rule(
        job=jobs,
        count=st.integers(0, 8),
        template=templates,
        other=templates,
        priority=st.integers(-1, 2),
        pool=st.sampled_from([POOL, pool_id(1), pool_id(2), pool_id(3)]),
        mixed=st.booleans(),
        unavailable_max=st.integers(0, 2),
    )
    def create_job(
        self,
        job: JobId,
        count: int,
        template: PodTemplate,
        other: PodTemplate,
        priority: int,
        pool: str,
        mixed: bool,
        unavailable_max: int,
    ) -> None:
        others = {1: other} if mixed else None
        spec = a_job(count, pool, "twin", priority, template, others=others, unavailable_max=unavailable_max)  # type: ignore[arg-type]  # pools are pool ids
        self.try_to(commands.CreateJob(job, spec))

    @rule(job=jobs, count=st.integers(1, 4), size=st.integers(1, 2), checked=st.booleans())
    def create_job_of_several_containers(self, job: JobId, count: int, size: int, checked: bool) -> None:
        template = PodTemplate(
            amounts(1, 10),
            containers=tuple(Container(f"c{n}", check=CHECK if checked else None) for n in range(size)),
            init_containers=(Container("init"),),
            health_checked=checked,
        )
        secret = Secret(f"s{count}", "/s", bytes([size]))
        self.try_to(commands.CreateJob(job, a_job(count, template=template), secrets=(secret,)))

    @precondition(lambda self: self.on_hosts())
    @rule(
        data=st.data(),
        state=st.sampled_from([TaskState.STARTING, TaskState.RUNNING, TaskState.RUNNING, TaskState.FAILED]),
        told=st.lists(
            st.builds(
                commands.ContainerReport,
                st.sampled_from([TaskState.STAGING, TaskState.RUNNING, TaskState.FINISHED, TaskState.FAILED]),
                healthy=st.sampled_from([None, True, False]),
            ),
            max_size=3,
        ),
        healthy=st.sampled_from([None, True, False]),
    )
    def report_containers_and_health(
        self,
        data: st.DataObject,
        state: TaskState,
        told: list[commands.ContainerReport],
        healthy: bool | None,
    ) -> None:
        """Several times over, in one batch, of containers that the pod may or may not have."""
        pods = data.draw(st.lists(st.sampled_from(sorted(self.on_hosts())), max_size=4))
        reason = commands.REASON_HEALTH
        reports = [
            commands.PodReport(pod, state, "", reason, healthy=healthy, containers=tuple(told))
            for pod in pods
        ]
        self.bench.do(commands.ReportPods(reports))

    @rule(job=jobs, count=st.integers(1, 4))
    def create_revocable_job(self, job: JobId, count: int) -> None:
        self.try_to(
            commands.CreateJob(job, a_job(count, template=a_template(revocable=True), revocable=True))
        )

    @rule(number=st.integers(1, 3), parent=st.integers(0, 3), part=shares)
    def create_pool(self, number: int, parent: int, part: float) -> None:
        tree = self.bench.machine.state.tree
        above = pool_id(parent) if parent else tree.root.id
        if above in tree.pools:
            capacity = amounts(4, 40_000, 9_000) if parent else tree.capacity
            self.try_to(commands.CreatePool(pool_id(number), a_pool(capacity, above, f"p{number}", part)))

    @rule(number=st.integers(0, 3), part=shares, force=st.booleans())
    def update_pool(self, number: int, part: float, force: bool) -> None:
        tree = self.bench.machine.state.tree
        pool = pool_id(number) if number else POOL
        if pool in tree.pools:
            known = tree.pools[pool].spec
            spec = a_pool(tree.capacity, known.parent, f"{known.name}'"[:5], part)
            self.try_to(commands.UpdatePool(pool, spec, force))

    @rule(number=st.integers(0, 3))
    def delete_pool(self, number: int) -> None:
        self.try_to(commands.DeletePool(pool_id(number) if number else POOL))

    @rule(
        job=jobs,
        command=st.sampled_from([commands.StartJob, commands.StopJob, commands.DeleteJob]),
        stale=st.sampled_from([False, False, False, True]),
    )
    def change_job(
        self,
        job: JobId,
        command: type[commands.StartJob | commands.StopJob | commands.DeleteJob],
        stale: bool,
    ) -> None:
        known = job in self.bench.machine.state.jobs and not stale
        self.try_to(command(job, self.bench.version(job) if known else "9-9-9"))

    @rule(
        job=jobs,
        count=st.integers(0, 8),
        template=templates,
        name=st.sampled_from(["twin", "other"]),
        priority=st.integers(0, 2),
        workflow=flows,
    )
    def replace_job(
        self,
        job: JobId,
        count: int,
        template: PodTemplate,
        name: str,
        priority: int,
        workflow: WorkflowSpec,
    ) -> None:
        state = self.bench.machine.state
        if job in state.jobs:
            old = state.jobs[job].spec
            revocable = old.revocable and template.demand.cpu == 0
            spec = a_job(count, old.pool, name, priority, template, revocable)
            self.try_to(commands.ReplaceJob(job, self.bench.version(job), spec, workflow))

    @rule(job=jobs, first=st.integers(0, 8), size=st.integers(0, 9), workflow=flows)
    def restart_job(self, job: JobId, first: int, size: int, workflow: WorkflowSpec) -> None:
        if job in self.bench.machine.state.jobs:
            asked = ((first, first + size),) if size else ()
            self.try_to(commands.RestartJob(job, self.bench.version(job), workflow, asked))

    @rule(
        job=jobs,
        command=st.sampled_from(
            [commands.PauseWorkflow, commands.ResumeWorkflow, commands.ResumeWorkflow, commands.AbortWorkflow]
        ),
    )
    def steer_workflow(
        self,
        job: JobId,
        command: type[commands.PauseWorkflow | commands.ResumeWorkflow | commands.AbortWorkflow],
    ) -> None:
        if job in self.bench.machine.state.jobs:
            self.try_to(command(job, self.bench.version(job), None))

    @rule(job=jobs)
    def delete_by_force(self, job: JobId) -> None:
        if job in self.bench.machine.state.jobs:
            self.try_to(commands.DeleteJob(job, self.bench.version(job), True))

    @rule(
        job=jobs,
        instance=st.integers(0, 8),
        command=st.sampled_from([commands.StartPod, commands.StopPod, commands.RestartPod]),
    )
    def change_pod(
        self,
        job: JobId,
        instance: int,
        command: type[commands.StartPod | commands.StopPod | commands.RestartPod],
    ) -> None:
        self.try_to(command(job, instance))

    @rule(data=st.data())
    def delete_volume(self, data: st.DataObject) -> None:
        volumes = [*self.bench.machine.state.volumes, VolumeId("nobody's")]
        self.try_to(commands.DeleteVolume(data.draw(st.sampled_from(volumes))))

    @rule(job=jobs, instance=st.integers(0, 8))
    def restart_within_the_sla(self, job: JobId, instance: int) -> None:
        self.try_to(commands.RestartPod(job, instance, check_sla=True))

    @rule(
        number=hosts,
        cpu=st.sampled_from([2, 8, 16]),
        revocable_cpu=st.integers(0, 3),
        ports=st.sampled_from([(31_000, 32_000), (31_000, 31_002), (70, 90)]),
        labels=label_lists,
    )
    def see_host(
        self, number: int, cpu: int, revocable_cpu: int, ports: tuple[int, int], labels: Labels
    ) -> None:
        """A known host may come back with less than is in use."""
        seen = a_host(number, cpu, revocable_cpu=revocable_cpu, ports=ports, labels=labels)
        self.bench.do(commands.SeeHosts([seen]))

    @rule(number=hosts, report=st.booleans())
    def lose_host(self, number: int, report: bool) -> None:
        name = HostName(f"host-{number}")
        self.bench.do(commands.LoseHosts([name]))
        if report:
            self.say({pod: TaskState.LOST for pod, host in self.on_hosts().items() if host == name})

    @rule(
        numbers=st.lists(hosts, max_size=3),
        command=st.sampled_from([commands.StartMaintenance, commands.CompleteMaintenance]),
    )
    def maintain(
        self, numbers: list[int], command: type[commands.StartMaintenance | commands.CompleteMaintenance]
    ) -> None:
        self.try_to(command([HostName(f"host-{number}") for number in numbers]))

    @rule(number=hosts, source=host_pools, destination=host_pools)
    def change_host_pool(self, number: int, source: HostPoolName, destination: HostPoolName) -> None:
        self.try_to(commands.ChangeHostPool(HostName(f"host-{number}"), source, destination))

    @rule(pool=host_pools, command=st.sampled_from([commands.CreateHostPool, commands.DeleteHostPool]))
    def change_host_pools(
        self, pool: HostPoolName, command: type[commands.CreateHostPool | commands.DeleteHostPool]
    ) -> None:
        self.try_to(command(pool))

    @rule(
        told=st.lists(
            st.tuples(jobs, st.integers(0, 8), st.integers(-1, 1), st.sampled_from(TaskState)), max_size=6
        )
    )
    def report_anything(self, told: list[tuple[JobId, int, int, TaskState]]) -> None:
        """Of any run of any pod, whether it exists or not."""
        reports = []
        for job, instance, later, state in told:
            pods = self.bench.job(job).pods if job in self.bench.machine.state.jobs else []
            run = pods[instance].run if instance < len(pods) else 1
            reports.append(commands.PodReport(pod_id(job, instance, max(run + later, 0)), state))
        self.bench.do(commands.ReportPods(reports))

    @precondition(lambda self: self.on_hosts())
    @rule(data=st.data(), state=st.sampled_from([TaskState.RUNNING, TaskState.FAILED, TaskState.FINISHED]))
    def report_what_runs(self, data: st.DataObject, state: TaskState) -> None:
        pods = sorted(self.on_hosts())
        self.say(dict.fromkeys(data.draw(st.lists(st.sampled_from(pods), unique=True)), state))

    @rule(job=jobs, first=st.integers(0, 3), end=st.integers(3, 9))
    def refresh_pods(self, job: JobId, first: int, end: int) -> None:
        self.try_to(commands.RefreshPods(job, first, end))

    @rule(job=jobs, instance=st.integers(0, 3), run=st.integers(1, 3))
    def delete_pod_events(self, job: JobId, instance: int, run: int) -> None:
        self.try_to(commands.DeletePodEvents(job, instance, run))

    @rule(
        command=st.sampled_from([commands.CloseGates, commands.OpenGates, commands.OpenGates]),
        chosen=st.lists(st.sampled_from(Gate), max_size=3),
    )
    def close_or_open_gates(
        self, command: type[commands.CloseGates | commands.OpenGates], chosen: list[Gate]
    ) -> None:
        self.bench.do(command(chosen))

    @rule()
    def obey(self) -> None:
        self.bench.obey()

    @rule(budget=budgets)
    def advance(self, budget: int) -> None:
        self.bench.advance(budget)

    @rule(budget=budgets)
    def settle(self, budget: int) -> None:
        self.bench.settle(budget)

    @rule(seconds=st.sampled_from([0.001, 1, 11, 61, 301]))
    def let_time_pass(self, seconds: float) -> None:
        self.bench.at += seconds

    def teardown(self) -> None:
        bench, state = self.bench, self.bench.machine.state
        self.check_replay()
        self.check_changes()
        bench.do(commands.OpenGates(list(Gate)))
        bench.do(commands.CompleteMaintenance(list(state.hosts)))
        bench.do(commands.SeeHosts([a_host(number, revocable_cpu=2) for number in range(2)]))
        # With agents that do as they are told at once, and time enough for every time-out and back-off.
        end = bench.at + 400
        self.answer_all()
        while (wake := bench.machine.next_wake) is not None and wake <= end:
            bench.at = max(bench.at, wake)
            self.answer_all()
        assert bench.advance(1) == ([], False)
        for job in state.jobs.values():
            assert job.goal is not JobState.DELETED, f"{job.id} has not been forgotten"
            assert job.state is computed_state(job)
            self.check_workflow(job)
            for instance in range(len(job.pods)):
                self.check_rest(job.id, instance)
        self.check_replay()

    def check_workflow(self, job: Job) -> None:
        """Over, held, or as far as pods without room let it come; then all pods are there that it is for."""
        workflow = job.workflows[-1]
        # A restart does not make or remove what aborted updates have left; that takes an update.
        is_update = workflow.type is WorkflowType.UPDATE
        if is_update and workflow.state in (WorkflowState.SUCCEEDED, WorkflowState.ROLLED_BACK):
            assert len(job.pods) == job.spec.instance_count
            assert {pod.desired_config for pod in job.pods} <= {job.config}
            assert not job.leaving
        elif not workflow.finished and workflow.state is not WorkflowState.PAUSED:
            stuck = [job.pods[instance] for instance in workflow.current]
            assert stuck, f"{workflow.state.name} and nothing in progress"
            assert all(
                pod.state in (PodState.PENDING, PodState.PLACING)
                or (pod.template.health_checked and pod.state is PodState.RUNNING)
                for pod in stuck
            )

    def check_rest(self, job: JobId, instance: int) -> None:
        """The pod is where it shall be, or says why not, and that is true."""
        state = self.bench.machine.state
        pod = state.pod(job, instance)
        if pod.goal is PodState.KILLED:
            assert pod.state in POD_TERMINAL
        elif pod.state is PodState.PENDING:
            assert queries.waiting_reason(state, queries.pod_info(state, job, instance))
        elif pod.state is PodState.PLACING:
            assert pod.message
            if (volume := state.volume(pod)) is not None and pod.template.volume is not None:
                assert volume.host in pod.message
            else:
                assert engine.place(state.table, ask_of(pod.template), 1, DEFAULT_RULES).unplaced
        else:
            # Notice may have been given to it just now.
            assert pod.goal is PodState.RUNNING and pod.state in (PodState.RUNNING, PodState.PREEMPTING)

    def check_replay(self) -> None:
        again = self.bench.replayed().state
        assert fingerprint(again) == fingerprint(self.bench.machine.state)
        assert audit(again) == []

    def check_changes(self) -> None:
        """What each turn is said to have changed is what looks different after it, no more and no less."""
        machine, before = Machine(self.bench.periods, self.bench.limits), Seen({}, {})
        for at, happened in self.bench.turns:
            machine.replay(at, happened)
            told = queries.changes(machine.state, *machine.take_changed())
            after = everything(machine.state)
            check_told({view.id: view for view in told.jobs}, before.jobs, after.jobs)
            pods = {(view.job, view.instance): view for view in told.pods}
            check_told(pods, before.pods, after.pods)
            before = after

    def on_hosts(self) -> dict[PodId, HostName | None]:
        return {
            pod_id(pod.job, pod.instance, pod.run): pod.host
            for job in self.bench.machine.state.jobs.values()
            for pod in job.pods
            if pod.state in POD_ON_HOST
        }

    def say(self, states: dict[PodId, TaskState]) -> None:
        self.bench.do(commands.ReportPods([commands.PodReport(pod, state) for pod, state in states.items()]))

    def answer_all(self) -> None:
        """Whatever is to run runs, whatever is to be killed is, until nothing is left to be said."""
        answers = {PodState.LAUNCHED: TaskState.RUNNING, PodState.STARTING: TaskState.RUNNING}
        for _ in range(20):
            self.bench.settle()
            told = {
                pod_id(pod.job, pod.instance, pod.run): answers.get(pod.state, TaskState.KILLED)
                for job in self.bench.machine.state.jobs.values()
                for pod in job.pods
                if pod.state in POD_ON_HOST - {PodState.RUNNING}
            }
            if not told:
                return
            self.say(told)
        raise AssertionError("pods are launched and killed for ever")


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
