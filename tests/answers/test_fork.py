"""What is written in a fork is not seen in the original; what stands there stands in the fork as well."""

from copy import copy

from builders import JOB, POOL, Bench, a_job, a_template, job_id
from derny.answers.fork import Overlay, fork
from derny.core.audit import audit
from derny.core.state import State
from derny.model.records import Pod
from derny.model.specs import Labels, VolumeRequest
from derny.model.states import PodState, TaskState

WEB: Labels = (("app", "web"),)


def forked(bench: Bench) -> tuple[State, dict[Pod, Pod]]:
    mine = {pod: copy(pod) for pod in bench.job().pods}
    return fork(bench.machine.state, [], bench.job(), mine), mine


def test_an_overlay_looks_below_and_counts_its_own() -> None:
    below = {"a": [1], "b": [2]}
    plain: Overlay[str, list[int]] = Overlay(below)
    assert plain["a"] is below["a"]
    assert ("a" in plain, len(plain)) == (False, 0)
    plain["a"] = [9]
    assert (plain["a"], below["a"]) == ([9], [1])
    taken: Overlay[str, list[int]] = Overlay(below, copy)
    taken["b"].append(3)
    assert (taken["b"], below["b"], list(taken)) == ([2, 3], [2], ["b"])


def test_pods_are_copied_wherever_they_stand() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(1, name="others", template=a_template(cpu=4)), job_id(2))
    bench.create(a_job(20, template=a_template(labels=WEB, ports=1)))
    state, mine = forked(bench)
    job = state.jobs[JOB]
    assert job.pods == list(mine.values())
    assert not {id(pod) for pod in job.pods} & {id(pod) for pod in bench.job().pods}
    on_hosts = [pod for pod in job.pods if pod.host]
    assert all(pod in state.hosts[pod.host].pods for pod in on_hosts if pod.host)
    (queue,) = state.tree.pools[POOL].queues.values()
    assert list(queue) == [pod for pod in job.pods if pod.state is PodState.PENDING]
    others = bench.pod(0, job_id(2))
    assert others.host is not None
    assert others in state.hosts[others.host].pods, "those of others are the very same"


def test_of_others_only_the_first_in_line_are_there() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(9, name="first", template=a_template(cpu=5)), job_id(2))
    bench.create(a_job(3))
    bench.create(a_job(4, name="last", priority=1, template=a_template(cpu=9)), job_id(3))
    state, mine = forked(bench)
    (queue,) = state.tree.pools[POOL].queues.values()
    expected = [bench.pod(0, job_id(3)), bench.pod(1, job_id(2)), *mine.values()]
    assert list(queue) == expected
    new = fork(bench.machine.state, [a_template()], None, {})
    (queue,) = new.tree.pools[POOL].queues.values()
    assert list(queue) == [bench.pod(0, job_id(3)), bench.pod(1, job_id(2))]


def test_groups_holds_and_volumes_of_the_job_come_along() -> None:
    bench = Bench(hosts=2)
    volume = a_template(cpu=8, volume=VolumeRequest("/data", 1000))
    bench.running(a_job(2, template=volume))
    bench.restart(in_place=True)
    bench.report(TaskState.KILLED, 0)
    bench.create(a_job(1, name="other", template=a_template(cpu=0.1)), job_id(2))
    before = bench.machine.state
    state, mine = forked(bench)
    assert list(state.volumes) == list(before.volumes)
    assert all(state.volumes[name] is not before.volumes[name] for name in before.volumes)
    assert {mine[pod]: hold for pod, hold in before.holds.of.items()} == dict(state.holds.of)
    assert [key for key in before.groups if key[0] == JOB] == list(state.groups)
    assert state.table.holds[:2].tolist() == before.table.holds[:2].tolist()
    assert not audit(before)


def test_what_a_pool_holds_is_its_own() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(3))
    state, _mine = forked(bench)
    before = bench.machine.state.tree.pools[POOL].allocation
    state.tree.charge(POOL, a_template(), 2)
    state.jobs[JOB].counts[PodState.RUNNING] = 77
    state.jobs[JOB].workflows[-1].log += b"x"
    assert bench.machine.state.tree.pools[POOL].allocation == before
    assert bench.job().counts[PodState.RUNNING] == 3
    assert not bench.workflow().log.endswith(b"x")
