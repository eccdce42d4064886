"""The latest changes: how many are kept, what is forgotten when, and several commits in one."""

import pytest

from builders import JOB, a_job_view, a_pod_view, job_id
from derny.answers.queries import Changes
from derny.model.states import JobState, PodState
from derny.runtime.commits import History, merged

POD, TASK = a_pod_view(), a_job_view()


def history_of(sizes: list[int], changes_max: int) -> History:
    """A history after commits of so many pods each, at revisions 1, 2, …"""
    history = History(changes_max)
    for revision, size in enumerate(sizes, 1):
        history.add(revision, 0.0, Changes([], [POD] * size))
        history.trim()
    return history


def kept(history: History, after: int = 0) -> list[int]:
    return [commit.revision for commit in history.after(after)]


def test_what_follows_a_revision_comes_in_order() -> None:
    history = history_of([1] * 5, 100)
    assert kept(history, 0) == [1, 2, 3, 4, 5]
    assert kept(history, 3) == [4, 5]
    assert kept(history, 5) == []
    assert (history.revision, history.forgotten, history.middle) == (5, 0, 0)


def test_a_turn_that_changes_nothing_takes_no_room_but_counts() -> None:
    history = history_of([1, 0, 0, 1, 0], 100)
    assert kept(history) == [1, 4]
    assert kept(history, 2) == [4]
    assert history.revision == 5


@pytest.mark.parametrize("size", [1, 3, 7])
def test_no_more_is_kept_than_is_allowed_by_an_eighth_and_a_commit(size: int) -> None:
    history = History(64)
    for revision in range(1, 200):
        history.add(revision, 0.0, Changes([], [POD] * size))
        history.trim()
        assert sum(commit.size for commit in history.after(0)) <= 64 + 8 + 2 * size
        assert kept(history) == list(range(history.forgotten + 1, revision + 1))
        assert history.forgotten <= history.middle < revision


def test_the_latest_commit_is_kept_however_large_it_is() -> None:
    history = history_of([1, 1, 50], 4)
    assert kept(history) == [3]
    assert history.forgotten == 2


def test_encodings_are_forgotten_with_the_older_half() -> None:
    history = History(16)
    for revision in range(1, 40):
        for change in history.add(revision, 0.0, Changes([TASK], [POD])).changes:
            change.encoded = b"kept"
        history.trim()
    encoded = {
        commit.revision: all(change.encoded for change in commit.changes) for commit in history.after(0)
    }
    assert {revision for revision, kept in encoded.items() if not kept} == set(
        range(history.forgotten + 1, history.middle + 1)
    )


def test_the_same_turns_leave_the_same_history() -> None:
    sizes = [3, 0, 1, 9, 2, 0, 4] * 20
    one, other = history_of(sizes, 32), history_of(sizes, 32)
    assert (one.forgotten, one.middle, kept(one)) == (other.forgotten, other.middle, kept(other))


def test_merged_commits_have_the_latest_of_each_object_in_the_order_of_their_latest_changes() -> None:
    history = History(100)
    history.add(1, 0.0, Changes([a_job_view(revision=1)], [a_pod_view(0, 1), a_pod_view(1, 1)]))
    history.add(2, 0.0, Changes([a_job_view(job_id(2))], [a_pod_view(0, 2)]))
    history.add(5, 0.0, Changes([a_job_view(revision=2)], []))
    commit = merged(history.after(0))
    assert commit.revision == 5
    assert [(change.view.id, change.view.revision) for change in commit.jobs] == [(job_id(2), 1), (JOB, 2)]
    assert [(change.view.instance, change.view.revision) for change in commit.pods] == [(1, 1), (0, 2)]


def test_an_end_is_told_even_if_something_of_the_same_name_has_come_since() -> None:
    history = History(100)
    history.add(1, 0.0, Changes([a_job_view(revision=8)], [a_pod_view(0, 8)]))
    gone = Changes([a_job_view(revision=9, state=JobState.DELETED)], [a_pod_view(0, 9, PodState.DELETED)])
    history.add(2, 0.0, gone)
    history.add(3, 0.0, Changes([a_job_view(revision=1)], [a_pod_view(0, 1)]))
    commit = merged(history.after(0))
    assert [change.view.revision for change in commit.jobs] == [9, 1]
    assert [change.view.revision for change in commit.pods] == [9, 1]
