"""The life of a persistent volume, as events in and events out."""

import pytest

from builders import JOB, Bench, a_host, a_job, a_template, amounts, job_id
from derny.core import commands, events
from derny.model.errors import Busy, Invalid, NotFound
from derny.model.ids import VolumeId, is_uuid
from derny.model.resources import Resources
from derny.model.specs import PodTemplate, VolumeRequest, WorkflowSpec
from derny.model.states import PodState, TaskState, VolumeState

SIZE = 1000


def with_volume(size: int = SIZE, path: str = "/data", cpu: float = 1) -> PodTemplate:
    """A pod of 10 MB of disk of its own, beside its volume of so many MB."""
    return a_template(cpu=cpu, disk=10 + size, volume=VolumeRequest(path, size * 1000))


def running(bench: Bench, count: int = 1) -> None:
    bench.running(a_job(count, template=with_volume()))


def volume_of(bench: Bench, instance: int = 0) -> VolumeId:
    return bench.job().volumes[instance]


def free_disk(bench: Bench, number: int) -> int:
    host = bench.machine.state.hosts[a_host(number).name]
    return bench.machine.state.table.free(host.row).disk


def end(bench: Bench, state: TaskState = TaskState.FAILED) -> None:
    bench.report(state, 0)
    bench.live(40)


def test_a_volume_is_made_on_the_host_of_the_first_run_and_created_when_it_runs() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(template=with_volume()))
    volume = bench.machine.state.volumes[volume_of(bench)]
    assert (volume.state, volume.host, volume.path) == (VolumeState.INITIALIZED, bench.pod().host, "/data")
    assert is_uuid(volume.id)
    assert volume.size == SIZE * 1000
    bench.report(TaskState.RUNNING, 0)
    assert volume.state is VolumeState.CREATED


def test_its_disk_stays_reserved_when_the_pod_has_ended() -> None:
    bench = Bench(hosts=1)
    whole = free_disk(bench, 0)
    running(bench)
    assert free_disk(bench, 0) == whole - (10 + SIZE) * 1000
    bench.stop()
    bench.report(TaskState.KILLED, 0)
    assert free_disk(bench, 0) == whole - SIZE * 1000
    assert bench.machine.state.tree.root.allocation == Resources()


def test_the_next_run_goes_back_to_its_host_however_full_the_others_are() -> None:
    bench = Bench(hosts=4)
    running(bench)
    host, volume = bench.pod().host, volume_of(bench)
    for time in range(3):
        bench.report(TaskState.FAILED, 0)
        bench.after(30 * 2**time)
        assert (bench.pod().state, bench.pod().host) == (PodState.LAUNCHED, host)
        bench.report(TaskState.RUNNING, 0)
    assert volume_of(bench) == volume


def test_it_waits_for_its_host_and_says_so_and_goes_on_once_the_host_is_back() -> None:
    bench = Bench(hosts=2)
    running(bench)
    host = bench.pod().host
    assert host is not None
    bench.do(commands.LoseHosts([host]))
    end(bench, TaskState.LOST)
    assert bench.pod().state is PodState.PLACING
    assert str(host) in bench.pod().message
    bench.do(commands.SeeHosts([a_host(int(host.removeprefix("host-")))]))
    bench.live(5)
    assert (bench.pod().state, bench.pod().host) == (PodState.LAUNCHED, host)


def test_waiting_for_its_host_it_is_in_nobody_s_way() -> None:
    bench = Bench(hosts=2)
    running(bench)
    assert bench.pod().host is not None
    bench.do(commands.LoseHosts([bench.pod().host]))
    end(bench, TaskState.LOST)
    bench.create(a_job(2, template=a_template()), job_id(2))
    assert bench.states(job_id(2)) == [PodState.LAUNCHED] * 2


def test_a_volume_in_use_is_not_deleted() -> None:
    bench = Bench()
    running(bench)
    with pytest.raises(Busy, match="stop the pod first"):
        bench.do(commands.DeleteVolume(volume_of(bench)))
    with pytest.raises(NotFound):
        bench.do(commands.DeleteVolume(VolumeId("nobody's")))


def test_a_deleted_volume_gives_its_disk_back_and_the_next_run_gets_another() -> None:
    bench = Bench(hosts=2)
    running(bench)
    host, first = bench.pod().host, volume_of(bench)
    assert host is not None
    bench.do(commands.LoseHosts([host]))
    end(bench, TaskState.LOST)
    assert bench.do(commands.DeleteVolume(first)) == [events.VolumeDeleted(first)]
    assert bench.do(commands.DeleteVolume(first)) == [], "it is gone already"
    assert bench.machine.state.volumes[first].state is VolumeState.DELETED
    bench.live(5)
    assert bench.pod().state is PodState.LAUNCHED
    assert bench.pod().host != host
    assert volume_of(bench) != first
    assert first not in bench.machine.state.volumes


def test_with_its_job_every_volume_goes() -> None:
    bench = Bench(hosts=2)
    whole = free_disk(bench, 0) + free_disk(bench, 1)
    running(bench, 3)
    bench.stop()
    bench.report(TaskState.KILLED, 0, 1, 2)
    bench.delete()
    assert bench.machine.state.volumes == {}
    assert free_disk(bench, 0) + free_disk(bench, 1) == whole


def test_a_host_without_room_for_the_volume_gets_no_pod() -> None:
    bench = Bench(hosts=1, disk=SIZE)
    bench.create(a_job(template=with_volume()))
    assert bench.pod().state is PodState.PENDING, "the pool has no room for it either"
    bench.do(commands.SeeHosts([a_host(1, disk=SIZE + 10)]))
    assert bench.machine.state.volumes == {}


def test_replay_makes_the_same_volumes_again() -> None:
    bench = Bench(hosts=2)
    running(bench, 2)
    end(bench)
    again = bench.replayed().state
    assert list(again.volumes) == list(bench.machine.state.volumes)
    assert amounts(disk=1).disk == 1000


def test_an_update_may_move_a_volume_but_not_resize_it() -> None:
    bench = Bench(hosts=2)
    running(bench)
    volume = volume_of(bench)
    larger = a_job(template=with_volume(2 * SIZE))
    with pytest.raises(Invalid, match=r"a volume of 2000 MB for instance 0, whose volume '.*' has 1000 MB"):
        bench.do(commands.ReplaceJob(JOB, bench.version(), larger, WorkflowSpec()))
    moved = a_job(template=with_volume(path="/elsewhere"))
    bench.do(commands.ReplaceJob(JOB, bench.version(), moved, WorkflowSpec()))
    bench.settle()
    bench.report(TaskState.KILLED, 0)
    assert volume_of(bench) == volume
    assert bench.machine.state.volumes[volume].path == "/elsewhere"


def test_an_instance_that_is_removed_leaves_its_volume_for_when_it_comes_back() -> None:
    bench = Bench(hosts=4)
    running(bench, 2)
    host, volume = bench.pod(1).host, volume_of(bench, 1)
    for count in (1, 2):
        spec = a_job(count, template=with_volume())
        bench.do(commands.ReplaceJob(JOB, bench.version(), spec, WorkflowSpec()))
        bench.settle()
        bench.obey()
    assert (bench.pod(1).host, volume_of(bench, 1)) == (host, volume)
