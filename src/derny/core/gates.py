"""Gates: decide and apply. What an operator has closed, and how what was held back is found again.

A closed gate holds things back, it forgets nothing. READ is looked at by the counter alone (`api.gates`),
WRITE there and by `Machine.handle`, the others by the passes of `core.machine`: no pod is placed, no agent
is asked to kill, no step towards a goal is taken. Pods whose kill is held back go on as they are; they are
remembered apart, since looking at them again and again would keep the loop busy for nothing. Gates stay
closed across restarts. (API reference, admin_svc.proto.)
"""

from derny.core.commands import (
    CloseGates,
    Command,
    LoseHosts,
    NoteAgents,
    OpenGates,
    ReconnectAgents,
    ReportPods,
    SeeHosts,
)
from derny.core.events import GatesSet
from derny.core.state import State
from derny.model.errors import Unavailable
from derny.model.records import Pod
from derny.model.states import Gate, PodState

NAMES: dict[Gate, str] = {
    Gate.GOAL_STATE_ENGINE: "GoalStateEngine",
    Gate.READ: "Read",
    Gate.WRITE: "Write",
    Gate.KILL: "Kill",
    Gate.LAUNCH: "Launch",
}
"""As the contract spells them."""

HEARD: tuple[type[Command], ...] = (
    SeeHosts,
    LoseHosts,
    ReconnectAgents,
    NoteAgents,
    ReportPods,
    CloseGates,
    OpenGates,
)
"""Commands that are no client's wish: what agents say has happened already, and the key must not be locked
in."""


_ASKED = {PodState.LAUNCHED: Gate.LAUNCH, PodState.KILLING: Gate.KILL}


def check_is_open(state: State, gate: Gate) -> None:
    """Unavailable when an operator has closed the gate."""
    if gate in state.closed:
        raise Unavailable(
            f"the gate {NAMES[gate]} is closed by an operator (AdminService.Lockdown);"
            " try again when it has been opened"
        )


def check_may_be_decided(state: State, command: Command) -> None:
    """Unavailable for a client's wish while the gate WRITE is closed."""
    if state.closed and not isinstance(command, HEARD):
        check_is_open(state, Gate.WRITE)


def lets_through(state: State, pod: Pod) -> bool:
    """Whether agents may be asked again for what they were last asked of this pod."""
    asked = _ASKED.get(pod.state)
    return asked is None or asked not in state.closed


def decide_close(state: State, command: CloseGates, at: float) -> list[GatesSet]:
    """Nothing happens to gates that are closed already."""
    return _set_to(state, state.closed | set(command.gates))


def decide_open(state: State, command: OpenGates, at: float) -> list[GatesSet]:
    """Nothing happens to gates that are open already."""
    return _set_to(state, state.closed - set(command.gates))


def apply_set(state: State, event: GatesSet, at: float) -> None:
    state.closed = frozenset(event.closed)
    if Gate.KILL not in state.closed:
        state.held_orphans.clear()


def has_held(state: State) -> bool:
    """Whether there are pods whose kill was held back and may now be asked for."""
    return bool(state.held_kills) and Gate.KILL not in state.closed


def release_held(state: State, budget: int) -> None:
    """Let so many pods, at most, be looked at again."""
    for _ in range(min(budget, len(state.held_kills))):
        pod, _none = state.held_kills.popitem(last=False)
        if state.is_live(pod):
            state.dirty_pods[pod] = None


def _set_to(state: State, closed: frozenset[Gate]) -> list[GatesSet]:
    return [GatesSet(sorted(closed))] if closed != state.closed else []
