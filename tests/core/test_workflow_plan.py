"""Which instances a configuration touches."""

from builders import Bench, a_job, a_template
from derny.core.workflow_plan import changed_instances
from derny.model.specs import JobSpec
from derny.model.states import PodState


def changed(bench: Bench, spec: JobSpec) -> list[int]:
    return changed_instances(bench.job(), spec, 0, 1000)


def test_equal_pods_are_left_alone_and_others_are_not() -> None:
    bench = Bench()
    bench.running(a_job(4))
    assert changed(bench, a_job(4, name="other", priority=2)) == []
    assert changed(bench, a_job(4, template=a_template(run="other"))) == [0, 1, 2, 3]
    assert changed(bench, a_job(4, others={2: a_template(cpu=2)})) == [2]


def test_instances_beyond_either_count_are_no_update() -> None:
    bench = Bench()
    bench.running(a_job(4))
    other = a_template(run="other")
    assert changed(bench, a_job(2, template=other)) == [0, 1]
    assert changed(bench, a_job(9, template=other)) == [0, 1, 2, 3]


def test_a_slice_is_compared_by_itself() -> None:
    bench = Bench()
    bench.running(a_job(4))
    assert changed_instances(bench.job(), a_job(4, template=a_template(run="other")), 1, 3) == [1, 2]


def test_a_pod_between_two_configurations_is_updated_even_to_an_equal_one() -> None:
    bench = Bench()
    job = bench.running(a_job(2))
    job.pods[1].desired_config = 2
    assert changed(bench, a_job(2)) == [1]


def test_a_pod_that_was_to_go_and_is_wanted_again_is_updated() -> None:
    bench = Bench()
    job = bench.running(a_job(2))
    job.pods[1].goal = PodState.DELETED
    assert changed(bench, a_job(2)) == [1]
