"""A pod that is restarted in place comes back to its host, which is kept for it; nobody waits for ever."""

from builders import JOB, Bench, a_host, a_job, a_template, job_id
from derny.answers import queries
from derny.core import commands, events
from derny.core.audit import audit
from derny.model.ids import HostName
from derny.model.periods import Periods
from derny.model.specs import Condition, JobSpec, LabelConstraint, LabelKind
from derny.model.states import PodState, TaskState, TerminationReason

OTHER = job_id(2)


def supersede(bench: Bench, *instances: int, in_place: bool = True) -> None:
    """New runs of these pods are wanted, on the hosts they are on."""
    event = events.RunsSuperseded(
        JOB, list(instances), TerminationReason.KILLED_FOR_UPDATE, in_place=in_place
    )
    bench.machine._apply(event, bench.at)
    bench._keep([event])
    bench.settle()


def ended(bench: Bench, *instances: int) -> None:
    bench.do(commands.ReportPods([commands.PodReport(f"{JOB}-{i}-1", TaskState.KILLED) for i in instances]))  # type: ignore[arg-type]  # spelled out on purpose


def test_all_pods_of_a_full_cluster_come_back_to_their_hosts() -> None:
    """Behaviour, jobs §8.7: 30 instances, no batches, all on the same hosts again."""
    bench = Bench(hosts=30, cpu=2)
    bench.running(a_job(30, template=a_template(cpu=1.5)))
    before = [pod.host for pod in bench.job().pods]
    assert len(set(before)) == 30
    supersede(bench, *range(30))
    # They end in another order than that of their hosts, one after the other.
    for instance in range(29, -1, -1):
        bench.report(TaskState.KILLED, instance)
    assert [pod.host for pod in bench.job().pods] == before
    assert {pod.run for pod in bench.job().pods} == {2}
    assert not bench.machine.state.holds.of


def stranded(**periods: float) -> tuple[Bench, HostName]:
    """A pod that waits for its host, which has shrunk, though another one has room; and that host."""
    bench = Bench(hosts=2, cpu=8, periods=Periods(placing_timeout_s=1000, **periods))
    bench.running(a_job(1, template=a_template(cpu=8)))
    host = bench.pod().host
    assert host is not None
    supersede(bench, 0)
    bench.do(commands.SeeHosts([a_host(int(host.removeprefix("host-")), cpu=4)]))
    bench.report(TaskState.KILLED, 0)
    assert bench.states() == [PodState.PLACING]
    assert "waits for its host" in bench.pod().message
    return bench, host


def a_neighbour(host: HostName) -> JobSpec:
    """A job that only wants this host, where there is room for it."""
    there = LabelConstraint(LabelKind.HOST, Condition.EQUAL, "hostname", host, 1)
    return a_job(1, template=a_template(cpu=1, constraint=there), name="neighbour")


def test_a_held_host_takes_no_other_pod_until_the_hold_expires() -> None:
    bench, host = stranded(host_held_s=50, desired_host_timeout_s=50)
    bench.create(a_neighbour(host), OTHER)
    assert bench.states(OTHER) == [PodState.PLACING]
    assert "mismatch_status" in bench.pod(job=OTHER).message
    assert audit(bench.replayed().state) == []
    bench.live(52)
    assert bench.states(OTHER) == [PodState.LAUNCHED]


def test_past_its_deadline_a_pod_goes_anywhere_and_its_host_is_free() -> None:
    bench, host = stranded()
    bench.create(a_neighbour(host), OTHER)
    bench.live(119)
    assert (bench.states(), bench.states(OTHER)) == ([PodState.PLACING], [PodState.PLACING])
    bench.live(3)
    assert (bench.states(), bench.states(OTHER)) == ([PodState.LAUNCHED], [PodState.LAUNCHED])
    assert bench.pod().host not in (host, None)
    assert not bench.machine.state.holds.of


def test_a_pod_that_waits_for_its_host_takes_it_as_soon_as_it_has_room() -> None:
    bench, host = stranded()
    bench.do(commands.SeeHosts([a_host(int(host.removeprefix("host-")), cpu=8)]))
    bench.live(2)
    assert (bench.states(), bench.pod().host) == ([PodState.LAUNCHED], host)


def test_stopping_a_job_in_mid_update_frees_its_hosts() -> None:
    """Behaviour, jobs §8.7: so that another job's update completes."""
    bench, host = stranded()
    bench.create(a_neighbour(host), OTHER)
    bench.stop()
    bench.live(2)
    assert bench.states(OTHER) == [PodState.LAUNCHED]


def test_pods_that_wait_for_their_hosts_hold_up_no_others_of_their_job() -> None:
    """Ten wait for ten hosts; an eleventh, of the same spec, has nothing to wait for."""
    bench = Bench(hosts=11, cpu=8, periods=Periods(placing_timeout_s=1000))
    bench.running(a_job(11, template=a_template(cpu=8)))
    supersede(bench, *range(10))
    hosts = [int(bench.pod(n).host.removeprefix("host-")) for n in range(10)]  # type: ignore[union-attr]  # they run
    # What shrinks is made up for by a host that none of them may use, so that all are admitted.
    spare = a_host(99, cpu=99, labels=(("peloton/exclusive", "spare"),))
    bench.do(commands.SeeHosts([spare, *(a_host(number, cpu=4) for number in hosts)]))
    bench.report(TaskState.KILLED, *range(10))
    assert set(bench.states()[:10]) == {PodState.PLACING}
    bench.report(TaskState.LOST, 10)
    bench.live(2)
    assert bench.states()[10] is PodState.LAUNCHED


def test_nobody_waits_for_a_host_that_takes_no_pods() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    host = bench.pod().host
    assert host is not None
    supersede(bench, 0)
    bench.do(commands.LoseHosts([host]))
    bench.report(TaskState.KILLED, 0)
    assert bench.states() == [PodState.LAUNCHED]
    assert bench.pod().host != host


def test_a_lost_run_wants_its_host_no_more() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    supersede(bench, 0)
    bench.report(TaskState.LOST, 0)
    assert bench.pod().desired_host is None
    assert not bench.machine.state.holds.of


def test_without_in_place_nothing_is_held() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    supersede(bench, 0, in_place=False)
    ended(bench, 0)
    assert not bench.machine.state.holds.of


def test_a_pod_that_is_being_stopped_has_nothing_to_come_back_for() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    bench.stop()
    supersede(bench, 0)
    bench.report(TaskState.KILLED, 0)
    assert bench.states() == [PodState.KILLED]
    assert not bench.machine.state.holds.of


def test_holds_live_through_a_restart() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(2))
    supersede(bench, 0, 1)
    ended(bench, 0, 1)
    again = bench.replayed().state
    assert list(again.holds.of.values()) == list(bench.machine.state.holds.of.values())
    assert audit(again) == []


def test_a_pod_whose_host_is_kept_no_longer_says_what_it_waits_for_now() -> None:
    """Its own message is from the time when its host was still kept for it."""
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    nowhere = LabelConstraint(LabelKind.HOST, Condition.EQUAL, "hostname", "nowhere", 1)
    bench.replace(a_job(1, template=a_template(constraint=nowhere)), in_place=True)
    bench.report(TaskState.KILLED, 0)
    pod = bench.pod()
    assert (pod.state, pod.message) == (PodState.PLACING, "waits for its host, which is kept for it")
    assert not queries.waiting_reason(bench.machine.state, pod)
    bench.live(200)
    assert "hostname=nowhere" in queries.waiting_reason(bench.machine.state, pod)
    assert queries.waiting_reasons(bench.machine.state, JOB, [pod]) == [
        queries.waiting_reason(bench.machine.state, pod)
    ]
