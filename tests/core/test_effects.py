"""What facts ask of the agents."""

from builders import JOB, Bench, a_host, a_job, a_template
from derny.core import commands
from derny.core.effects import BringUp, Launch, TakeDown
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
