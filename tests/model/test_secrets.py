"""Secrets can be kept, compared and sent about, but not printed."""

import msgspec

from derny.core.commands import CreateJob
from derny.core.events import SecretsKept
from derny.journal import codec
from derny.model.ids import JobId, PoolId
from derny.model.secrets import Secret, SecretRef
from derny.model.specs import JobSpec

SECRET = Secret("id", "/etc/key", b"hunter2")


def test_nothing_prints_a_secret() -> None:
    command = CreateJob(JobId("j"), JobSpec("n", PoolId("p"), 0, b""), secrets=(SECRET,))
    event = SecretsKept(JobId("j"), [SECRET])
    for told in (SECRET, command, event, [event], {"a": (SECRET,)}):
        for text in (repr(told), str(told), f"{told}", f"{told!r}"):
            assert "hunter2" not in text
            assert "/etc/key" in text
    assert SECRET.__rich_repr__() == [("id", "id"), ("path", "/etc/key")]


def test_the_journal_keeps_it_all_the_same() -> None:
    event = SecretsKept(JobId("j"), [SECRET])
    (read,) = codec.decode(codec.encode([event]))
    assert isinstance(read, SecretsKept)
    assert read.secrets[0].data == b"hunter2"
    ref = SecretRef("id", "/x", 2)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ref), type=SecretRef) == ref
