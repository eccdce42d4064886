"""What is kept of a pod's past."""

from hypothesis import given
from hypothesis import strategies as st

from builders import Bench, a_job, a_template
from derny.core.history import ENTRIES_MAX, Entry, Texts, entries, extend, message_before, without_run
from derny.core.pods import THROTTLED
from derny.model.ids import HostName, JobId
from derny.model.records import Pod, Termination
from derny.model.states import HealthState, PodState, TaskState, TerminationReason


def a_pod() -> Pod:
    return Pod(
        JobId("j"), 0, a_template(), PodState.PENDING, PodState.RUNNING, 1, 2, 3, 12.5, HealthState.DISABLED
    )


def test_an_entry_says_what_the_pod_was() -> None:
    pod, texts = a_pod(), Texts()
    pod.message, pod.reason = "a message", "A_REASON"
    pod.host = HostName("a-host")
    extend([pod], 12.5, {pod.host: 7}, texts)
    pod.host = None
    pod.message, pod.state, pod.health = "", PodState.READY, HealthState.UNHEALTHY
    pod.termination = Termination(TerminationReason.KILLED_FOR_SLA_AWARE_RESTART)
    extend([pod], 13.0, {}, texts)
    first, second = entries(pod, texts)
    assert first == Entry(
        12.5,
        PodState.PENDING,
        PodState.RUNNING,
        HealthState.DISABLED,
        2,
        3,
        1,
        7,
        "a message",
        "A_REASON",
        False,
    )
    assert (second.state, second.host, second.message) == (PodState.READY, -1, "")
    assert second.health is HealthState.UNHEALTHY
    assert second.because is TerminationReason.KILLED_FOR_SLA_AWARE_RESTART


def test_what_is_written_in_one_batch_is_what_would_be_written_one_by_one() -> None:
    said = [("a", "X"), ("a", ""), ("", ""), ("b", "X"), ("b", "X"), ("", "Y")]
    batch, single = [a_pod() for _ in said], [a_pod() for _ in said]
    for pods in (batch, single):
        for pod, words in zip(pods, said, strict=True):
            pod.message, pod.reason = words
    texts, others = Texts(), Texts()
    extend(batch, 1.0, {}, texts)
    for pod in single:
        extend([pod], 1.0, {}, others)
    assert [pod.history for pod in batch] == [pod.history for pod in single]
    assert [(e.message, e.reason) for pod in batch for e in entries(pod, texts)] == said


@given(st.lists(st.sampled_from(list(PodState)), min_size=1, max_size=30))
def test_entries_come_back_in_the_order_in_which_they_were_written(states: list[PodState]) -> None:
    pod, texts = a_pod(), Texts()
    for at, state in enumerate(states):
        pod.state = state
        extend([pod], float(at), {}, texts)
    assert [(entry.at, entry.state) for entry in entries(pod, texts)] == list(enumerate(states))


def test_a_history_does_not_grow_without_bounds_and_forgets_the_oldest() -> None:
    pod, texts = a_pod(), Texts()
    for run in range(1, 3 * ENTRIES_MAX):
        pod.run = run
        extend([pod], 13.0, {}, texts)
    kept = [entry.run for entry in entries(pod, texts)]
    assert 100 <= len(kept) <= ENTRIES_MAX
    assert kept == list(range(3 * ENTRIES_MAX - len(kept), 3 * ENTRIES_MAX))


def test_an_entry_takes_some_thirty_bytes() -> None:
    pod = a_pod()
    extend([pod], 0.0, {}, Texts())
    assert 0 < len(pod.history) < 40


def test_a_text_is_kept_once_and_more_than_65535_are_not_kept() -> None:
    texts = Texts()
    assert texts.number("") == 0
    assert texts.number("same") == texts.number("same") == 1
    for number in range(70_000):
        texts.number(f"text {number}")
    assert len(texts.all) == 65_535
    assert texts.number("one too many") == 0
    assert texts.all[texts.number("same")] == "same"


def test_a_history_without_a_run_has_all_others() -> None:
    pod, texts = a_pod(), Texts()
    for run in (1, 1, 2, 3, 2):
        pod.run = run
        extend([pod], float(run), {}, texts)
    pod.history = without_run(pod.history, 2)
    assert [entry.run for entry in entries(pod, texts)] == [1, 1, 3]
    assert without_run(pod.history, 2) == pod.history
    assert without_run(b"", 1) == b""


def test_what_was_said_before_is_found_in_the_current_run_alone() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(TaskState.FAILED, 0)
    texts = bench.machine.state.texts
    assert bench.pod().message == THROTTLED
    assert message_before(bench.pod(), texts, THROTTLED) == "said FAILED"
    bench.live(30)
    assert message_before(bench.pod(), texts, bench.pod().message) != "said FAILED"
