"""Which pods count against the SLA, and what that forbids."""

import pytest

from builders import JOB, Bench, a_job
from derny.core import commands, events
from derny.core.availability import is_unavailable, may_disrupt
from derny.model.errors import WrongState
from derny.model.records import Termination
from derny.model.states import HealthState, PodState, TaskState, TerminationReason

Reason = TerminationReason


def test_a_pod_that_runs_well_is_available_and_one_that_waits_or_is_unhealthy_is_not() -> None:
    bench = Bench()
    job = bench.create(a_job(2, unavailable_max=1))
    assert job.unavailable == 2
    bench.report(TaskState.RUNNING, 0)
    assert (job.unavailable, is_unavailable(job.pods[0]), is_unavailable(job.pods[1])) == (1, False, True)
    job.pods[0].health = HealthState.UNHEALTHY
    assert is_unavailable(job.pods[0])


@pytest.mark.parametrize(
    ("reason", "counted"),
    [
        (Reason.KILLED_HOST_MAINTENANCE, True),
        (Reason.KILLED_FOR_UPDATE, True),
        (Reason.FAILED, True),
        (Reason.KILLED_FOR_SLA_AWARE_RESTART, True),
        (Reason.KILLED_FOR_RESTART, False),
        (Reason.PREEMPTED_RESOURCES, False),
        (Reason.KILLED_ON_REQUEST, False),
    ],
)
def test_a_pod_that_is_about_to_stop_counts_by_the_reason(reason: Reason, counted: bool) -> None:
    bench = Bench()
    pod = bench.running(a_job()).pods[0]
    pod.termination = Termination(reason)
    assert is_unavailable(pod) is counted


def test_pods_that_are_to_be_stopped_do_not_count() -> None:
    bench = Bench()
    job = bench.running(a_job(3))
    bench.do(commands.StopPod(JOB, 0))
    assert job.unavailable == 0
    bench.stop()
    assert job.unavailable == 0


def test_one_more_may_be_disturbed_while_fewer_than_the_limit_are_unavailable() -> None:
    bench = Bench()
    job = bench.running(a_job(4, unavailable_max=2))
    assert may_disrupt(job, job.pods[0])
    bench.report(TaskState.FAILED, 1)
    assert may_disrupt(job, job.pods[0])
    bench.report(TaskState.FAILED, 2)
    assert not may_disrupt(job, job.pods[0])
    assert may_disrupt(job, job.pods[1]), "it is unavailable already, so nothing gets worse"


def test_without_a_limit_anything_may_be_disturbed() -> None:
    bench = Bench()
    job = bench.create(a_job(4))
    assert job.unavailable == 4
    assert may_disrupt(job, job.pods[0])


def test_a_restart_within_the_sla_counts_its_first_victim_at_once() -> None:
    bench = Bench()
    job = bench.running(a_job(3, unavailable_max=1))
    bench.do(commands.RestartPod(JOB, 0, check_sla=True))
    assert job.unavailable == 1
    with pytest.raises(WrongState, match="within the SLA: 1 pods"):
        bench.do(commands.RestartPod(JOB, 1, check_sla=True))
    bench.settle()
    bench.report(TaskState.KILLED, 0)
    bench.report(TaskState.RUNNING, 0)
    assert job.unavailable == 0
    (event,) = bench.do(commands.RestartPod(JOB, 1, check_sla=True))
    assert isinstance(event, events.RunsSuperseded)
    assert event.reason is Reason.KILLED_FOR_SLA_AWARE_RESTART


def test_a_plain_restart_does_not_ask_the_sla() -> None:
    bench = Bench()
    job = bench.running(a_job(2, unavailable_max=1))
    bench.report(TaskState.FAILED, 0)
    assert bench.do(commands.RestartPod(JOB, 1))
    assert job.pods[1].state is PodState.RUNNING
