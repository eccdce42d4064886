"""The history of a pod, packed: one fixed-size entry per write, newest last.

A pod event of the API is one such write (behaviour, jobs §3.5). A million pods keep theirs in memory, so an
entry is some thirty bytes: texts are numbers into a table that all pods share. Of an instance the last runs
are kept, no more than the limits say. Called by `core.state` to write and by `answers.queries` to read.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from derny.core.containers import Runs, undated
from derny.model.ids import HostName
from derny.model.records import Pod
from derny.model.states import HealthState, PodState, TerminationReason

T = TypeVar("T")

_ENTRY = struct.Struct("<dBBBIIIiHHH")
_STATE_AT = 8
"""Where in an entry the byte of the state is."""
_REASON_SHIFT = 4
"""The byte of the health has the reason of the end in its upper half."""
_LAUNCHED = int(PodState.LAUNCHED)
_FULL_TABLE = 2**16 - 1

ENTRIES_MAX = 1000
"""Of one instance; a pod that flaps for a day must not grow without bounds."""
_BYTES_MAX = ENTRIES_MAX * _ENTRY.size
RUNS_MAX = 100
"""Of one instance (behaviour, jobs §7.9)."""


class Entry(NamedTuple):
    """One write of a pod: the new state and what else there was to say."""

    at: float
    state: PodState
    goal: PodState
    health: HealthState
    config: int
    desired_config: int
    run: int
    host: int
    """Row of the host table; -1 when the run has no host."""
    message: str
    reason: str
    rerun: bool
    """A new run was wanted."""
    containers: Runs = ()
    """As in the pod's record, without times."""
    because: TerminationReason = TerminationReason.INVALID
    """Why the run ends; INVALID while it does not."""


class Numbered(Generic[T]):
    """Values by number; 0 is the empty one. Beyond 65,535 different ones, new values are not kept."""

    def __init__(self, empty: T) -> None:
        self.all: list[T] = [empty]
        self.numbers: dict[T, int] = {empty: 0}

    def number(self, value: T) -> int:
        """The number of a value, given on first sight."""
        known = self.numbers.get(value)
        if known is None:
            if len(self.all) >= _FULL_TABLE:
                return 0
            known = self.numbers[value] = len(self.all)
            self.all.append(value)
        return known


class Texts(Numbered[str]):
    """What histories say by number: messages and reasons, and the states of containers."""

    def __init__(self) -> None:
        super().__init__("")
        self.containers: Numbered[Runs] = Numbered(())


def extend(pods: Sequence[Pod], at: float, rows: Mapping[HostName, int], texts: Texts) -> None:
    """Give each pod's history an entry for what it is now, and shorten one that has become too long."""
    # Pods of one batch mostly say the same, and the loop is run for every write of every pod.
    pack, number, message, reason = _ENTRY.pack, texts.number, 0, 0
    said = why = ""
    for pod in pods:
        if pod.message != said:
            said, message = pod.message, number(pod.message)
        if pod.reason != why:
            why, reason = pod.reason, number(pod.reason)
        pod.history += pack(
            at,
            pod.state,
            pod.goal | pod.rerun << 7,
            pod.health | (pod.termination.reason << _REASON_SHIFT if pod.termination is not None else 0),
            pod.config,
            pod.desired_config,
            pod.run,
            -1 if pod.host is None else rows[pod.host],
            message,
            reason,
            texts.containers.number(undated(pod.containers)) if pod.containers else 0,
        )
        if len(pod.history) > _BYTES_MAX:
            pod.history = _shortened(pod.history, pod.run)


def entries(pod: Pod, texts: Texts) -> Iterator[Entry]:
    """All kept entries of a pod, oldest first."""
    for packed in _ENTRY.iter_unpack(pod.history):
        at, state, goal, health, config, desired, run, host, message, reason, containers = packed
        yield Entry(
            at,
            PodState(state),
            PodState(goal & 127),
            HealthState(health & 15),
            config,
            desired,
            run,
            host,
            texts.all[message],
            texts.all[reason],
            goal > 127,
            texts.containers.all[containers],
            TerminationReason(health >> _REASON_SHIFT),
        )


def without_run(history: bytes, run: int) -> bytes:
    """A history without the entries of one run."""
    size = _ENTRY.size
    packed = (history[offset : offset + size] for offset in range(0, len(history), size))
    return b"".join([entry for entry in packed if _ENTRY.unpack_from(entry)[6] != run])


def launched_at(pod: Pod) -> float:
    """When the current run was launched; for one too long ago to be kept, when the pod last changed.

    Reads backwards and only what it needs: after a restart this is asked of every pod.
    """
    history = pod.history
    for offset in range(len(history) - _ENTRY.size, -1, -_ENTRY.size):
        if history[offset + _STATE_AT] == _LAUNCHED:
            at, _, _, _, _, _, run, *_ = _ENTRY.unpack_from(history, offset)
            if run == pod.run:
                return float(at)
    return pod.changed_at


def message_before(pod: Pod, texts: Texts, later: str) -> str:
    """What was said of the current run before this was said of it; empty where nothing is kept."""
    history = pod.history
    for offset in range(len(history) - _ENTRY.size, -1, -_ENTRY.size):
        *_, run, _host, message, _reason, _containers = _ENTRY.unpack_from(history, offset)
        if run != pod.run:
            break
        said: str = texts.all[message]
        if said != later:
            return said
    return ""


def _shortened(history: bytes, run: int) -> bytes:
    """Without the oldest tenth, and without runs that are too long ago."""
    kept = history[ENTRIES_MAX // 10 * _ENTRY.size :]
    while kept and _ENTRY.unpack_from(kept)[6] <= run - RUNS_MAX:
        kept = kept[_ENTRY.size :]
    return kept
