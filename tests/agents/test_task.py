"""One task's life, without agents around it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derny.agents.task import Latencies, Task, draw, launched
from derny.core.effects import Kill, Launch
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.specs import Command, PodTemplate
from derny.model.states import TaskState

POD, HOST = PodId("p-0-1"), HostName("host0")
EXACT = Latencies(start_s=(2.0, 2.0), kill_s=(3.0, 3.0))


def a_task(script: str, at: float = 100.0) -> Task:
    return launched(Launch(POD, HOST, PodTemplate(Resources(), Command(script)), (), at), 1, EXACT)


def life(task: Task) -> list[tuple[float, TaskState]]:
    lived = []
    while task.next_at < math.inf:
        lived.append((task.next_at, task.step().state))
    return lived


def test_a_life_follows_from_launch_and_command() -> None:
    assert life(a_task("sleep 5")) == [
        (101.0, TaskState.STARTING),
        (102.0, TaskState.RUNNING),
        (107.0, TaskState.FINISHED),
    ]
    assert life(a_task("server")) == [(101.0, TaskState.STARTING), (102.0, TaskState.RUNNING)]


@pytest.mark.parametrize(
    ("script", "steps", "kill_at", "grace_s", "end"),
    [
        ("server", 2, 110.0, 30.0, (113.0, "Command terminated with signal Terminated", "Terminated")),
        ("server", 2, 110.0, 1.0, (111.0, "Command terminated with signal Killed", "Killed")),
        ("trap '' TERM; server", 2, 110.0, 30.0, (140.0, "Command terminated with signal Killed", "Killed")),
        (
            "sleep 9; trap '' TERM; server",
            2,
            110.0,
            30.0,
            (113.0, "Command terminated with signal Terminated", "Terminated"),
        ),
        ("sleep 10; exit 4", 2, 110.0, 30.0, (112.0, "Command exited with status 4", "")),
        (
            "trap '' TERM; sleep 5",
            1,
            101.5,
            30.0,
            (104.5, "Command terminated with signal Terminated", "Terminated"),
        ),
        ("server", 0, 100.0, 30.0, (103.0, "Command terminated with signal Terminated", "Terminated")),
    ],
)
def test_a_kill_takes_whichever_end_comes_first(
    script: str, steps: int, kill_at: float, grace_s: float, end: tuple[float, str, str]
) -> None:
    task = a_task(script)
    for _ in range(steps):
        task.step()
    task.kill(Kill(POD, HOST, grace_s, kill_at), 1, EXACT)
    task.kill(Kill(POD, HOST, 0.0, kill_at), 1, EXACT)
    ended_at, last = task.next_at, task.step()
    assert (ended_at, last.message, last.signal) == end
    assert last.state is TaskState.KILLED
    assert task.has_ended()
    assert task.next_at == math.inf


@given(st.integers(), st.text(st.characters(codec="utf-8")), st.sampled_from(["start", "kill"]))
def test_a_draw_stays_in_its_span(seed: int, name: str, purpose: str) -> None:
    assert 2.0 <= draw(seed, name, purpose, (2.0, 5.0)) <= 5.0


def test_draws_spread_evenly() -> None:
    """A thousand consecutive pods: every tenth of the span gets its share."""
    tenths = [0] * 10
    for number in range(1000):
        tenths[int(draw(3, f"job-{number}-1", "start", (0.0, 10.0)))] += 1
    assert min(tenths) > 60
    assert max(tenths) < 140
