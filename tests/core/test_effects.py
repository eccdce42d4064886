"""What facts ask of the agents."""

from builders import JOB, Bench, a_host, a_job, a_template, job_id
from derny.core import commands
from derny.core.effects import BringUp, Kill, Launch, Reconcile, TakeDown
from derny.model.ids import HostName, PodId
from derny.model.states import TaskState

T = TaskState


def test_nothing_is_asked_for_pods_that_wait() -> None:
    bench = Bench(hosts=0)
    bench.create(a_job(template=a_template(0, 0, 0)))
    bench.stop()
    assert bench.effects == []


def test_a_launch_names_run_host_ports_and_the_moment_of_the_decision() -> None:
    bench = Bench()
    bench.at = 1234.5
    pod = bench.create(a_job(template=a_template(ports=2))).pods[0]
    assert bench.effects == [Launch(PodId(f"{JOB}-0-1"), a_host().name, pod.template, (31000, 31001), 1234.5)]


def test_reconciliation_lists_what_should_run_and_the_kills_still_owed() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.at += 10
    bench.create(a_job(1, name="launched"), job_id(2))
    bench.at += 10
    bench.create(a_job(300, name="too many"), job_id(3))
    bench.running(a_job(1, name="ended", template=a_template(0, 0, 0), priority=1), job_id(4))
    bench.report(T.FAILED, 0, job=job_id(4))
    bench.running(a_job(1, name="dying", template=a_template(0, 0, 0), priority=1), job_id(5))
    bench.at += 10
    bench.stop(job_id(5))
    order = bench.machine.reconciliation()
    assert isinstance(order, Reconcile)
    asked = {(launch.pod, launch.at) for launch in order.launches if str(job_id(3)) not in launch.pod}
    assert asked == {
        (f"{JOB}-0-1", 1000.0),
        (f"{JOB}-1-1", 1000.0),
        (f"{job_id(2)}-0-1", 1010.0),
        (f"{job_id(5)}-0-1", 1020.0),
    }
    assert order.kills == [Kill(PodId(f"{job_id(5)}-0-1"), a_host().name, 30, 1030.0)]
    waiting = sum(pod.host is None for pod in bench.job(job_id(3)).pods)
    assert waiting and len(order.launches) == 304 - waiting


def test_agents_are_sent_away_and_called_back_only_where_a_host_is_down() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(2, template=a_template(cpu=8)))
    both = [HostName("host-0"), HostName("host-1")]
    before = len(bench.effects)
    bench.do(commands.StartMaintenance(both))
    bench.settle()
    bench.report(T.KILLED, *(pod.instance for pod in bench.machine.state.hosts[both[0]].pods))
    bench.do(commands.CompleteMaintenance(both))
    hosts_asked = [e for e in bench.effects[before:] if isinstance(e, TakeDown | BringUp)]
    assert hosts_asked == [TakeDown(both[:1]), BringUp(both[:1])]


def test_reconciliation_is_the_same_after_a_replay() -> None:
    bench = Bench()
    bench.running(a_job(3, template=a_template(ports=1)))
    bench.stop()
    assert bench.replayed().reconciliation() == bench.machine.reconciliation()
