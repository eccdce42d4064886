"""Why a pod does not run: every obstacle at once, and what would clear each of them.

One rule: nothing is decided here; pools are asked by `capacity.admission`, hosts by `placement.explain`,
owed steps by `core.goals`, so what is said is what the machine goes by. A pod runs once all its obstacles
(`answers.obstacles`) are cleared. The look at hosts is made of a copy of their table (`HostSearch`), by a
thread if there are many. Called by `api.pod_insight`. (Behaviour, scheduler §3, §6.3.)
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from derny.answers import queries
from derny.answers.obstacles import (
    Action,
    Kind,
    Obstacle,
    Remedy,
    broken_rule,
    closed_gates,
    no_host,
    verdict,
)
from derny.capacity import admission
from derny.core import placing
from derny.core.goals import step_of
from derny.core.state import State
from derny.model.errors import NotFound
from derny.model.ids import HostName, JobId, VolumeId, pod_name
from derny.model.periods import Periods
from derny.model.records import Job, Pod
from derny.model.rules import Rules
from derny.model.specs import PodTemplate
from derny.model.states import POD_ON_HOST, POD_TERMINAL, Gate, HostState, JobState, PodState, WorkflowState
from derny.placement.constraints import pod_labels
from derny.placement.explain import Explanation, explain, explain_at
from derny.placement.filters import Ask, ask_of
from derny.placement.table_copy import TableCopy


class PodExplanation(NamedTuple):
    """A pod as it is, and what is in its way; nothing while it runs. `message` is that of its status."""

    job: JobId
    instance: int
    run: int
    """0 while the instance has not been begun."""
    state: PodState
    goal: PodState
    host: HostName | None
    since: float
    message: str
    obstacles: tuple[Obstacle, ...]


class HostSearch:
    """The look at all hosts that is still to be made, of a copy: it may be made anywhere and at any time."""

    def __init__(self, state: State, template: PodTemplate, rules: Rules) -> None:
        self._ask = ask_of(template)
        self._table = TableCopy(state.table, [self._ask])
        self._rules = rules

    @property
    def hosts(self) -> int:
        """How many there are to look at."""
        return len(self._table)

    def made(self, names: int) -> Explanation:
        """What it comes to, with so many hosts of each reason named."""
        return explain(self._table, self._ask, self._rules, names=names)


def counts_labels(state: State, templates: Iterable[PodTemplate], budget: int) -> bool:
    """Count the labels of pods that these pods' constraints speak of, as placement does before it looks;
    whether that needs another call."""
    spoken = dict.fromkeys(label for template in templates for label in pod_labels(template.constraint))
    return placing.count_labels(state, spoken, budget) >= budget


def template_of(state: State, job: JobId, instance: int) -> PodTemplate:
    """What a pod is to run next; NotFound."""
    found = _job_with(state, job, instance)
    if instance >= len(found.pods):
        return found.spec.template(instance)
    pod = found.pods[instance]
    return found.specs[pod.desired_config].template(instance) if pod.superseded else pod.template


def needs_host(found: PodExplanation) -> bool:
    """Whether the pod waits for any host that will do, or would if it were started."""
    kinds = [each.kind for each in found.obstacles]
    wanted = found.goal is PodState.RUNNING or Kind.STOPPED in kinds
    return wanted and found.host is None and Kind.OWN_HOST not in kinds


def explain_pod(
    state: State, job: JobId, instance: int, at: float, periods: Periods, rules: Rules
) -> PodExplanation:
    """All obstacles of a pod but what a `HostSearch` finds; NotFound for one that the job does not have, and
    is not to have."""
    found = _job_with(state, job, instance)
    if instance >= len(found.pods):
        return not_begun(state, found, instance)
    pod = found.pods[instance]
    return PodExplanation(
        job,
        instance,
        pod.run,
        pod.state,
        pod.goal,
        pod.host if pod.state in POD_ON_HOST else None,
        pod.changed_at,
        queries.waiting_reason(state, pod) or pod.message,
        tuple(_obstacles(state, found, pod, at, periods, rules)),
    )


def not_begun(state: State, job: Job, instance: int) -> PodExplanation:
    """Of an instance that the job is to have, and that its workflow has not begun."""
    goal = PodState.RUNNING if job.goal is JobState.RUNNING else PodState.KILLED
    obstacles = tuple(_of_workflow(state, job))
    return PodExplanation(
        job.id, instance, 0, PodState.INITIALIZED, goal, None, job.created_at, "", obstacles
    )


def with_hosts(found: PodExplanation, hosts: Explanation) -> PodExplanation:
    """The explanation with what a look at all hosts has found."""
    obstacle = no_host(hosts)
    if obstacle is not None:
        return found._replace(obstacles=(*found.obstacles, obstacle))
    if not found.obstacles:
        turn = f"{hosts.fitting} hosts would take it; it is looked at next"
        return found._replace(obstacles=(Obstacle(Kind.TURN, turn),))
    return found


def _job_with(state: State, job: JobId, instance: int) -> Job:
    found = state.job(job)
    if instance >= max(len(found.pods), found.spec.instance_count):
        raise NotFound(f"pod {job}-{instance} does not exist; the job has {found.spec.instance_count} pods")
    return found


def _of_workflow(state: State, job: Job) -> Iterator[Obstacle]:
    if job.goal is not JobState.RUNNING:
        yield _stopped(job, "the job is stopped")
    workflow = job.workflows[-1]
    name = "its creation" if workflow.prev_version[0] == 0 else "the update"
    if workflow.state is WorkflowState.PAUSED:
        resume = Remedy(Action.RESUME_WORKFLOW, "resume the workflow", job.id)
        yield Obstacle(Kind.WORKFLOW, f"{name} is paused and has not begun this instance", (resume,))
    elif workflow.finished:
        yield Obstacle(Kind.WORKFLOW, f"{name} ended as {workflow.state.name} before it began this instance")
    elif workflow.spec.batch_size:
        yield Obstacle(
            Kind.WORKFLOW,
            f"{name} brings up {workflow.spec.batch_size} instances at a time, and {len(workflow.current)}"
            " are under way",
        )
    yield from closed_gates(state, Gate.GOAL_STATE_ENGINE, Gate.LAUNCH)


def _obstacles(
    state: State, job: Job, pod: Pod, at: float, periods: Periods, rules: Rules
) -> Iterator[Obstacle]:
    if pod.goal is not PodState.RUNNING:
        yield from _unwanted(state, job, pod)
        return
    if pod.state in POD_ON_HOST:
        yield from _on_host(state, pod)
        return
    if pod.state in POD_TERMINAL:
        owed = step_of(pod, periods)
        if owed is not None and owed[1] > at:
            said = f"it failed {pod.failures} times" if pod.failures else "its launch was lost"
            yield Obstacle(Kind.BACK_OFF, f"{said}, and the next run begins after its back-off", (), owed[1])
        yield from closed_gates(state, Gate.GOAL_STATE_ENGINE)
    if pod.state is PodState.PENDING:
        yield from _in_pool(state, job, pod)
    yield from closed_gates(state, Gate.LAUNCH)
    yield from _own_host(state, pod, at, periods, rules)


def _unwanted(state: State, job: Job, pod: Pod) -> Iterator[Obstacle]:
    if pod.goal is PodState.DELETED:
        yield Obstacle(Kind.ENDING, "it is going to be deleted")
    elif pod.state in POD_TERMINAL:
        whole = job.goal is not JobState.RUNNING
        yield _stopped(job, "the job is stopped" if whole else "the pod is stopped", None if whole else pod)
        return
    else:
        yield Obstacle(Kind.ENDING, "it is being stopped")
    yield from closed_gates(state, Gate.GOAL_STATE_ENGINE, Gate.KILL)


def _stopped(job: Job, sentence: str, pod: Pod | None = None) -> Obstacle:
    if job.goal is JobState.DELETED:
        return Obstacle(Kind.ENDING, "the job is going to be deleted")
    subject = pod_name(job.id, pod.instance) if pod is not None else job.id
    start = Remedy(Action.START, f"start the {'pod' if pod is not None else 'job'}", subject)
    return Obstacle(Kind.STOPPED, sentence, (start,))


def _on_host(state: State, pod: Pod) -> Iterator[Obstacle]:
    if pod.state in (PodState.LAUNCHED, PodState.STARTING):
        word = "has been asked to launch it" if pod.state is PodState.LAUNCHED else "is starting it"
        yield Obstacle(Kind.LAUNCHING, f"{pod.host} {word}", host=pod.host)
    elif pod.state is PodState.PREEMPTING:
        yield Obstacle(Kind.ENDING, "its pool has to give back what it holds: the pod is to be preempted")
    elif pod.state is PodState.KILLING:
        yield Obstacle(Kind.ENDING, "this run is being killed; another one follows")
    if pod.superseded and pod.state is not PodState.KILLING:
        yield Obstacle(Kind.ENDING, "this run is going to be replaced by another one")
    if pod.superseded or pod.state is PodState.KILLING:
        yield from closed_gates(state, Gate.GOAL_STATE_ENGINE, Gate.KILL)


def _in_pool(state: State, job: Job, pod: Pod) -> Iterator[Obstacle]:
    spec = job.spec_of(pod)
    pool = state.tree.pools[spec.pool]
    for reason in admission.reasons(state.tree, pool, pod):
        if reason.behind is not None:
            yield _behind(state, state.tree.path(pool), pod, reason.behind)
        else:
            yield broken_rule(state, reason)


def _behind(state: State, path: str, pod: Pod, first: Pod) -> Obstacle:
    priority = state.jobs[first.job].spec_of(first).priority
    raised = Remedy(
        Action.RAISE_PRIORITY, f"a priority above {priority}", "sla.priority", amount=priority + 1
    )
    return Obstacle(
        Kind.BEHIND,
        f"waits behind {pod_name(first.job, first.instance)} in {path}",
        # Pods of one job overtake each other in no way.
        () if first.job == pod.job else (raised,),
        behind=(first.job, first.instance),
    )


def _own_host(state: State, pod: Pod, at: float, periods: Periods, rules: Rules) -> Iterator[Obstacle]:
    """Of a pod that shall go to one certain host."""
    volume = state.volume(pod) if pod.template.volume is not None else None
    if volume is not None:
        yield from _at(state, pod, volume.host, rules, volume.id)
        return
    hold = state.holds.of.get(pod)
    until = state.holds.waits_until(pod, periods) if hold is not None else 0.0
    if hold is not None and until > at:
        yield from _at(state, pod, state.table.name_of[hold.row], rules, until=until)


def _at(
    state: State,
    pod: Pod,
    name: HostName,
    rules: Rules,
    volume: VolumeId | None = None,
    until: float = 0.0,
) -> Iterator[Obstacle]:
    ask = ask_of(pod.template)
    if volume is not None:
        ask = Ask(pod.template.footprint, ask.ports, ask.fds, ask.constraint, ask.labels)
    refusals = explain_at(state.table, ask, rules, state.table.row_of[name])
    host = state.hosts[name]
    why = "; ".join(map(verdict, refusals)) or "would take it; it is looked at next"
    remedies: list[Remedy] = []
    if host.lost or host.state is not HostState.UP:
        remedies.append(Remedy(Action.RETURN_HOST, f"bring {name} back into service", name))
    if volume is not None and refusals:
        remedies.append(
            Remedy(Action.DELETE_VOLUME, f"delete the volume {volume}, and what is in it", volume)
        )
    what = "has its volume" if volume is not None else "is kept for it"
    yield Obstacle(
        Kind.OWN_HOST,
        f"goes back to {name} alone, which {what}: {why}",
        tuple(remedies),
        until,
        host=name,
        refusals=refusals,
    )
