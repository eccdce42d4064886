"""The machine: commands and the time in, events out.

    handle   decides one command and applies what it decides; a refusal changes nothing
    advance  moves entities towards their goals, a bounded bit at a time: settle, admit, place
    replay   applies events of the journal, the same appliers as live
    effects  what the events since the last call ask of the agents
    changes  what clients see differently since the last call

One rule: everything that changes state passes through `_apply`, and is returned as an event. The two
dispatch tables below are the table of contents of this room. Called by `runtime.loop`, and by tests without
any loop.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from derny.capacity.admission import admissible
from derny.capacity.cycle import FEW_POOLS
from derny.core import (
    commands,
    events,
    gates,
    host_pools,
    hosts,
    jobs,
    maintenance,
    pods,
    pools,
    preemption,
    reconciliation,
    reports,
    secrets,
    upkeep,
    volumes,
    workflows,
)
from derny.core.commands import Command
from derny.core.effects import Effect, Reconcile, effects_of
from derny.core.events import Event
from derny.core.goals import Step, owed_to_job, owed_to_pod
from derny.core.placing import PlacePass
from derny.core.preemption import Preemption
from derny.core.state import State
from derny.model.ids import HostName, JobId
from derny.model.periods import Limits, Periods
from derny.model.records import Host, Job, Pod
from derny.model.rules import DEFAULT_PREEMPTING, DEFAULT_RULES, Preempting, Rules
from derny.model.states import Gate, HostState

Decider = Callable[[State, Any, float], list[Any]]
Applier = Callable[[State, Any, float], None]

APPLIERS: dict[type[Event], Applier] = {
    events.PoolCreated: pools.apply_created,
    events.PoolUpdated: pools.apply_updated,
    events.PoolRemoved: pools.apply_removed,
    events.HostsSeen: hosts.apply_seen,
    events.HostsLost: hosts.apply_lost,
    events.AgentsReconnected: reconciliation.apply_reconnected,
    events.AgentsNoted: reconciliation.apply_noted,
    events.HostGoalsSet: maintenance.apply_goals_set,
    events.HostStatesChanged: maintenance.apply_states_changed,
    events.HostPoolCreated: host_pools.apply_created,
    events.HostPoolDeleted: host_pools.apply_deleted,
    events.HostPoolChanged: host_pools.apply_changed,
    events.JobCreated: workflows.apply_job_created,
    events.JobGoalSet: jobs.apply_goal_set,
    events.JobStateChanged: jobs.apply_state_changed,
    events.JobRemoved: jobs.apply_removed,
    events.SecretsKept: secrets.apply_kept,
    events.WorkflowStarted: workflows.apply_started,
    events.WorkflowSteered: workflows.apply_steered,
    events.WorkflowPlanned: workflows.apply_planned,
    events.WorkflowMoved: workflows.apply_moved,
    events.WorkflowRolledBack: workflows.apply_rolled_back,
    events.InstancesBegun: workflows.apply_begun,
    events.InstancesSettled: workflows.apply_settled,
    events.PodsCreated: workflows.apply_pods_created,
    events.PodsGoalSet: pods.apply_goal_set,
    events.PodsWanted: pods.apply_wanted,
    events.RunsSuperseded: pods.apply_superseded,
    events.PodsPreempted: preemption.apply_preempted,
    events.PodsSpared: preemption.apply_spared,
    events.FailuresForgiven: pods.apply_forgiven,
    events.PodsRemoved: workflows.apply_pods_removed,
    events.GangsAdmitted: pods.apply_admitted,
    events.PodsPlaced: pods.apply_placed,
    events.PodsUnplaced: pods.apply_unplaced,
    events.PodsRequeued: pods.apply_requeued,
    events.PodsReported: reports.apply,
    events.PodsThrottled: pods.apply_throttled,
    events.PodsRestarted: pods.apply_restarted,
    events.PodsKillRequested: pods.apply_kill_requested,
    events.PodsKilled: pods.apply_killed,
    events.VolumeDeleted: volumes.apply_deleted,
    events.OrphansFound: pods.apply_orphans_found,
    events.GatesSet: gates.apply_set,
    events.PodsRefreshed: upkeep.apply_refreshed,
    events.PodEventsDeleted: upkeep.apply_events_deleted,
}

EVENT_OF_STEP: dict[Step, Callable[[JobId, list[int]], Event]] = {
    Step.RESTART: events.PodsRestarted,
    Step.THROTTLE: events.PodsThrottled,
    Step.KILL: events.PodsKillRequested,
    Step.KILL_WAITING: lambda job, instances: events.PodsKilled(job, instances, "Non-running pod killed"),
    Step.FORGIVE: events.FailuresForgiven,
    Step.SPARE: events.PodsSpared,
    Step.REQUEUE: lambda job, instances: events.PodsRequeued(job, instances, "No host in time; queued again"),
}

VAIN_COST = 4
"""What a look at a pool's queues counts against a turn's budget that lets nobody go, in entities."""


class Terms(NamedTuple):
    """What a machine goes by."""

    periods: Periods
    limits: Limits
    rules: Rules


class Machine:
    """All state, and the only way to change it."""

    def __init__(
        self,
        periods: Periods,
        limits: Limits,
        rules: Rules = DEFAULT_RULES,
        seed: int = 0,
        preempting: Preempting = DEFAULT_PREEMPTING,
        state: State | None = None,
    ) -> None:
        """With `seed` begins the turn of hosts that are equally good. A `state` is gone on from as it is."""
        self.state = State() if state is None else state
        if state is None:
            self.state.cursor = seed
            self.state.tree.preemption = preempting.enabled
        self._preemption = Preemption(self.state, periods, limits, preempting)
        self.terms = Terms(periods, limits, rules)
        self._periods = periods
        self._limits = limits
        self._effects: list[Effect] = []
        self._placing = PlacePass(self.state, periods, rules, self._take)
        self.deciders: dict[type[Command], Decider] = {
            commands.CreatePool: partial(pools.decide_create, limits=limits),
            commands.UpdatePool: pools.decide_update,
            commands.DeletePool: pools.decide_delete,
            commands.CreateJob: partial(jobs.decide_create, limits=limits),
            commands.ReplaceJob: partial(workflows.decide_replace, limits=limits),
            commands.RestartJob: partial(workflows.decide_restart, limits=limits),
            commands.PauseWorkflow: workflows.decide_pause,
            commands.ResumeWorkflow: workflows.decide_resume,
            commands.AbortWorkflow: workflows.decide_abort,
            commands.StartJob: jobs.decide_start,
            commands.StopJob: jobs.decide_stop,
            commands.DeleteJob: jobs.decide_delete,
            commands.StartPod: pods.decide_start,
            commands.StopPod: pods.decide_stop,
            commands.RestartPod: pods.decide_restart,
            commands.SeeHosts: hosts.decide_see,
            commands.LoseHosts: hosts.decide_lose,
            commands.ReconnectAgents: reconciliation.decide_reconnect,
            commands.NoteAgents: reconciliation.decide_note,
            commands.StartMaintenance: maintenance.decide_start,
            commands.CompleteMaintenance: maintenance.decide_complete,
            commands.CreateHostPool: partial(host_pools.decide_create, limits=limits),
            commands.DeleteHostPool: host_pools.decide_delete,
            commands.ChangeHostPool: host_pools.decide_change,
            commands.DeleteVolume: volumes.decide_delete,
            commands.ReportPods: reports.decide,
            commands.RefreshPods: upkeep.decide_refresh,
            commands.DeletePodEvents: upkeep.decide_delete_events,
            commands.CloseGates: gates.decide_close,
            commands.OpenGates: gates.decide_open,
        }

    def handle(self, command: Command, at: float) -> list[Event]:
        """Decide a command and apply its events. Raises a Refusal, with nothing changed."""
        gates.check_may_be_decided(self.state, command)
        decided: list[Event] = self.deciders[type(command)](self.state, command, at)
        for event in decided:
            self._apply(event, at)
        return decided

    def advance(self, at: float, budget: int) -> tuple[list[Event], bool]:
        """One bounded sweep towards all goals: the events, already applied, and whether the budget cut it
        short.

        Each of the three passes looks at no more than `budget` entities; settle at so many pods and jobs.
        """
        done: list[Event] = []
        if self._settles:
            self._wake_due(at, budget)
            self._settle(at, budget, done)
        calculated = self.state.cycle.run(self.state.tree, at, self._periods.entitlement_s)
        if calculated > max(budget, FEW_POOLS):
            # The entitlements of thousands of pools take as long as everything else in a turn.
            return done, True
        more = self._preempt(at, budget, done)
        more |= self._admit(at, budget, done)
        more |= self._placing.run(at, budget, done)
        compared = reconciliation.next_slice(self.state, at, budget, self._periods)
        if compared is not None:
            self._effects.append(compared)
        # Asked last, since what was just admitted or placed may owe a step, if only to set a timer.
        return done, more or (self._settles and self._is_owing)

    def replay(self, at: float, journaled: Iterable[Event]) -> None:
        """Apply what was decided before; no effects come of it."""
        for event in journaled:
            APPLIERS[type(event)](self.state, event, at)

    def take_effects(self) -> list[Effect]:
        """What the events since the last call ask of the agents."""
        taken, self._effects = self._effects, []
        return taken

    def take_changed(self) -> tuple[dict[Job, None], dict[Pod, None]]:
        """The jobs and pods that the events since the last call have changed, replayed ones too, each once,
        in the order in which they first changed; removed ones with their last state."""
        state = self.state
        taken = state.changed_jobs, state.changed_pods
        state.changed_jobs, state.changed_pods = {}, {}
        return taken

    def reconciliation(self) -> Iterator[Reconcile]:
        """What agents should be running by all that is known, to be compared with them after a replay, in
        orders of some thousand pods."""
        return reconciliation.whole(self.state)

    @property
    def next_wake(self) -> float | None:
        """When time alone will owe a step; None when only a command can."""
        next_due = self.state.timers.next_due if self._settles else None
        preemption = self._preemption.next_wake if self._settles else None
        entitlement = self.state.cycle.next_due(self.state.tree, self._periods.entitlement_s)
        due = (next_due, self._placing.wake, entitlement, preemption, reconciliation.next_due(self.state))
        wakes = [wake for wake in due if wake is not None]
        return min(wakes, default=None)

    @property
    def _settles(self) -> bool:
        """Whether steps may be taken; while they may not, timers and what is dirty stay as they are."""
        return Gate.GOAL_STATE_ENGINE not in self.state.closed

    @property
    def _is_owing(self) -> bool:
        return self.state.has_dirty or gates.has_held(self.state)

    def _apply(self, event: Event, at: float) -> None:
        # Effects are read off first: an applier may forget the host or the run that they speak of.
        self._effects += effects_of(self.state, event, at)
        APPLIERS[type(event)](self.state, event, at)

    def _take(self, event: Event, at: float, done: list[Event]) -> None:
        self._apply(event, at)
        done.append(event)

    def _wake_due(self, at: float, budget: int) -> None:
        """Mark dirty whatever was to be looked at by now."""
        for item in self.state.timers.due(at):
            if isinstance(item, str):
                if item in self.state.jobs:
                    self.state.dirty_jobs[item] = None
            elif isinstance(item, Host):
                self.state.dirty_hosts[item.name] = None
            elif self.state.is_live(item):
                self.state.dirty_pods[item] = None
        if gates.has_held(self.state):
            gates.release_held(self.state, budget)

    def _settle(self, at: float, budget: int, done: list[Event]) -> None:
        """Take the steps owed to dirty pods, then to dirty jobs."""
        state = self.state
        owed: dict[tuple[JobId, Step], list[int]] = {}
        for _ in range(min(budget, len(state.dirty_pods))):
            pod, _none = state.dirty_pods.popitem(last=False)
            step = owed_to_pod(state, pod, at, self._periods)
            if step is Step.KILL and Gate.KILL in state.closed:
                state.held_kills[pod] = None
            elif step is not None:
                owed.setdefault((pod.job, step), []).append(pod.instance)
        for (job, step), instances in owed.items():
            self._take(EVENT_OF_STEP[step](job, instances), at, done)
        # Jobs and hosts have budgets of their own: however many pods are in motion, a stop must get through.
        self._settle_jobs(at, budget, done)
        self._settle_hosts(at, budget, done)

    def _settle_jobs(self, at: float, budget: int, done: list[Event]) -> None:
        state = self.state
        while state.dirty_jobs and budget > 0:
            job_id, _none = state.dirty_jobs.popitem(last=False)
            event, cost = owed_to_job(state, state.jobs[job_id], at, budget, self._periods)
            budget -= cost
            if event is not None:
                # Applying it marks the job dirty again, behind the others: jobs take turns.
                self._take(event, at, done)

    def _settle_hosts(self, at: float, budget: int, done: list[Event]) -> None:
        """Show placement those that have moved, take hosts into and out of maintenance, and empty those that
        drain."""
        state = self.state
        for _ in range(min(budget, len(state.moved_hosts))):
            hosts.show_labels(state, state.hosts[state.moved_hosts.popleft()])
        moves: dict[HostState, list[HostName]] = {}
        while state.dirty_hosts and budget > 0:
            name, _none = state.dirty_hosts.popitem(last=False)
            host, cost = state.hosts[name], 1
            to = maintenance.owed_state(host)
            if to is not None:
                moves.setdefault(to, []).append(name)
            elif host.state is HostState.DRAINING:
                evicted, cost = maintenance.eviction(state, host, at, budget, self._periods)
                if evicted is not None:
                    self._take(evicted, at, done)
            budget -= cost
        for to, names in moves.items():
            self._take(events.HostStatesChanged(names, to), at, done)

    def _preempt(self, at: float, budget: int, done: list[Event]) -> bool:
        """Take back what pools hold too much of."""
        if not self._settles:
            return False
        decided, more = self._preemption.advance(at, budget)
        for event in decided:
            self._take(event, at, done)
        return more

    def _admit(self, at: float, budget: int, done: list[Event]) -> bool:
        """Admit the heads of all queues as far as they fit; pools take turns."""
        tree = self.state.tree
        for pool in [tree.pools[pool] for pool in tree.waiting]:
            while budget > 0 and pool.queues and pool.blocked_at != tree.version:
                batch = admissible(tree, pool, budget)
                if batch is None:
                    pool.blocked_at = tree.version
                    budget -= VAIN_COST
                    continue
                job, gangs = batch
                budget -= len(gangs)
                self._take(events.GangsAdmitted(job, [pod.instance for pod in gangs]), at, done)
            if pool.queues:
                tree.waiting.move_to_end(pool.id)
            if budget <= 0:
                break
        return any(tree.pools[pool].blocked_at != tree.version for pool in tree.waiting)
