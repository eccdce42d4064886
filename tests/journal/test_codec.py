"""What was written is read back, by this release and by later ones."""

import msgspec
import pytest

from builders import JOB, Bench, a_host, a_job, a_template, job_id
from derny.core import commands, events
from derny.core.events import Event
from derny.journal import codec
from derny.model.states import PodState, TaskState


def a_log() -> list[Event]:
    """Events of a life with everything in it."""
    bench = Bench(hosts=2, cpu=8)
    bench.running(a_job(4, template=a_template(ports=2), others={1: a_template(cpu=2)}))
    bench.create(a_job(1, template=a_template(cpu=12)), job_id(2))
    bench.create(a_job(5), job_id(3))
    bench.report(TaskState.FAILED, 0, code=7)
    bench.report(TaskState.RUNNING, 3, run=9)
    bench.live(100)
    bench.do(commands.LoseHosts([a_host(1).name]))
    for job in (job_id(3), JOB):
        bench.delete(job, force=True)
    bench.obey()
    return bench.log


def test_events_come_back_equal_and_of_their_types() -> None:
    log = a_log()
    kinds = {type(event) for event in log}
    assert len(kinds) >= 18
    read = codec.decode(codec.encode(log))
    assert read == log
    assert [type(event) for event in read] == [type(event) for event in log]


def test_states_come_back_as_states() -> None:
    (event,) = codec.decode(codec.encode([events.PodsReported(JOB, PodState.FAILED, [1])]))
    assert isinstance(event, events.PodsReported)
    assert event.state is PodState.FAILED


def test_fields_that_were_added_later_have_their_defaults_in_old_journals() -> None:
    old = msgspec.msgpack.encode([["PodsReported", JOB, PodState.FAILED, [1, 2]]])
    assert codec.decode(old) == [events.PodsReported(JOB, PodState.FAILED, [1, 2], "", "", 0, "")]


@pytest.mark.parametrize(
    "blob",
    [b"", b"\xc1", b"nonsense", codec.encode([events.JobRemoved(JOB)])[:-1], msgspec.msgpack.encode([["X"]])],
)
def test_what_was_never_written_is_not_read(blob: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.decode(blob)
