"""Upkeep: decide and apply. What a person has the daemon do by hand: look again, and forget what happened.

Looking again takes the owed step anew, from the state alone: pods and their job are marked, and what agents
were last asked of a pod that has not got there is asked once more, which they ignore if they have heard it.
(API reference, RefreshJob, RefreshPod, DeletePodEvents; behaviour, jobs §2.18 and §3.7.)
"""

from derny.core.commands import DeletePodEvents, RefreshPods
from derny.core.events import PodEventsDeleted, PodsRefreshed
from derny.core.history import without_run
from derny.core.state import State
from derny.model.errors import NotFound


def decide_refresh(state: State, command: RefreshPods, at: float) -> list[PodsRefreshed]:
    """NotFound. Instances that do not exist are passed over."""
    made = len(state.job(command.job).pods)
    return [PodsRefreshed(command.job, min(command.first, made), min(command.end, made))]


def decide_delete_events(state: State, command: DeletePodEvents, at: float) -> list[PodEventsDeleted]:
    """NotFound: no such pod, or it has not had this run. Nothing happens where nothing is kept."""
    pod = state.pod(command.job, command.instance)
    if not 1 <= command.run <= pod.run:
        raise NotFound(
            f"pod {command.job}-{command.instance} has had no run {command.run}; its current run is {pod.run}"
        )
    if without_run(pod.history, command.run) == pod.history:
        return []
    return [PodEventsDeleted(command.job, command.instance, command.run)]


def apply_refreshed(state: State, event: PodsRefreshed, at: float) -> None:
    for pod in state.jobs[event.job].pods[event.first : event.end]:
        state.dirty_pods[pod] = None
    state.dirty_jobs[event.job] = None


def apply_events_deleted(state: State, event: PodEventsDeleted, at: float) -> None:
    pod = state.jobs[event.job].pods[event.instance]
    pod.history = without_run(pod.history, event.run)
