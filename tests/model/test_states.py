"""The numbers of the states, and which may follow which."""

import csv
from enum import IntEnum
from pathlib import Path

import pytest

from derny.model import states
from derny.model.states import (
    POD_ADMITTED,
    POD_MOVES,
    POD_ON_HOST,
    POD_STATE_OF_TASK,
    POD_TERMINAL,
    PodState,
    TaskState,
)

S = PodState
ENDS = {S.SUCCEEDED, S.FAILED, S.LOST, S.KILLED}


@pytest.mark.parametrize(
    ("ours", "prefix"),
    [
        (states.PodState, "POD_STATE_"),
        (states.JobState, "JOB_STATE_"),
        (states.HostState, "HOST_STATE_"),
        (states.HealthState, "HEALTH_STATE_"),
        (states.TerminationReason, "TERMINATION_STATUS_REASON_"),
    ],
)
def test_members_and_numbers_are_those_of_the_contract(ours: type[IntEnum], prefix: str) -> None:
    with (Path(__file__).parent.parent / "contract.tsv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    theirs = {
        row["name"]: int(row["number"])
        for row in rows
        if row["kind"] == "enum" and row["name"].startswith(prefix)
    }
    assert {prefix + member.name: member.value for member in ours} == theirs


def test_every_word_of_an_agent_means_a_state_of_a_launched_pod() -> None:
    assert set(POD_STATE_OF_TASK) == set(TaskState)
    assert set(POD_STATE_OF_TASK.values()) == {S.LAUNCHED, S.STARTING, S.RUNNING} | ENDS
    assert POD_STATE_OF_TASK[TaskState.KILLING] is S.RUNNING
    assert POD_STATE_OF_TASK[TaskState.ERROR] is S.FAILED
    for lost in (TaskState.DROPPED, TaskState.UNREACHABLE, TaskState.GONE, TaskState.UNKNOWN):
        assert POD_STATE_OF_TASK[lost] is S.LOST


@pytest.mark.parametrize(
    ("was", "to", "legal"),
    [
        (S.SUCCEEDED, S.RUNNING, False),
        (S.INITIALIZED, S.PENDING, True),
        (S.PENDING, S.KILLED, True),
        (S.RUNNING, S.PENDING, False),
        (S.KILLING, S.RUNNING, False),
        (S.KILLING, S.FAILED, True),
        (S.LAUNCHED, S.RUNNING, True),
        (S.STARTING, S.LAUNCHED, False),
        (S.PENDING, S.KILLING, False),
    ],
)
def test_moves_that_the_behaviour_names(was: PodState, to: PodState, legal: bool) -> None:
    assert (to in POD_MOVES[was]) is legal


def test_an_end_is_left_by_a_new_run_only() -> None:
    assert ENDS | {S.DELETED} == POD_TERMINAL
    for end in ENDS:
        assert POD_MOVES[end] == {S.INITIALIZED}


def test_from_everywhere_a_pod_can_come_to_an_end() -> None:
    for start in POD_MOVES:
        reached, fresh = {start}, {start}
        while fresh:
            fresh = {to for was in fresh for to in POD_MOVES[was]} - reached
            reached |= fresh
        assert reached >= ENDS


def test_a_pod_waits_or_is_on_a_host_or_has_ended() -> None:
    waiting = {S.INITIALIZED, S.PENDING, S.READY, S.PLACING}
    assert set(POD_MOVES) == waiting | POD_ON_HOST | ENDS
    assert not waiting & POD_ON_HOST
    assert POD_ON_HOST < POD_ADMITTED
    assert {S.READY, S.PLACING} == POD_ADMITTED - POD_ON_HOST
