"""Watching the real daemon with grpcurl, through `kill -9` and beyond."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acceptance.process import PATIENCE_S, Grpcurl, answer_of, dev, eventually
from acceptance.test_grpcurl import JOBS, POOLS, a_spec, until

pytestmark = pytest.mark.acceptance

WATCH = "watch.svc.WatchService"
JOB = {"value": "aaaaaaaa-0000-4000-8000-000000000001"}


class Watching:
    """A grpcurl that watches; what it prints is in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path, errors: Path) -> None:
        self._process = process
        self._output = output
        self._errors = errors

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All that have been printed whole by now, the first one too."""
        text, found, decoder = self._output.read_text("utf-8").strip(), [], json.JSONDecoder()
        while text:
            try:
                message, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                break
            found.append(message)
            text = text[end:].strip()
        return found

    @property
    def told(self) -> list[dict[str, Any]]:
        """All with objects, without the id of the watch."""
        parts = [
            {key: part for key, part in message.items() if key != "watchId"} for message in self.messages[1:]
        ]
        return [message for message in parts if message.keys() != {"revision"}]

    def ended(self) -> tuple[str, str]:
        """Code and sentence, once it has."""
        code = self._process.wait(PATIENCE_S)
        done = subprocess.CompletedProcess([], code, "", self._errors.read_text("utf-8"))
        return answer_of(done)[:2]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)


@contextmanager
def watching(grpcurl: Grpcurl, folder: Path, name: str, start: str = "0") -> Iterator[Watching]:
    """A watch of everything that has had its first message."""
    request = {"start_revision": start, "stateless_job_filter": {}, "pod_filter": {}}
    words = ["-plaintext", "-max-time", str(PATIENCE_S), "-d", json.dumps(request), grpcurl.address]
    output, errors = folder / f"{name}.out", folder / f"{name}.err"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [grpcurl.program, *words, f"peloton.api.v1alpha.{WATCH}/Watch"], stdout=out, stderr=err
        )
    watch = Watching(process, output, errors)
    try:
        eventually(lambda: watch.messages or process.poll() is not None, "the first message of a watch")
        yield watch
    finally:
        watch.kill()


def is_running(told: list[dict[str, Any]]) -> bool:
    jobs = [job for message in told for job in message.get("statelessJobs", [])]
    return bool(jobs) and jobs[-1]["status"]["state"] == "JOB_STATE_RUNNING"


def test_a_watch_goes_on_where_kill_9_has_ended_it(tmp_path: Path, grpcurl_program: Path) -> None:
    """Both parts together are what one watch of the journal sees that never had to resume."""
    flags = ("--hosts", 3, "--seed", 7, "--data-dir", tmp_path / "data")
    with dev(tmp_path, *flags) as daemon:
        grpcurl = Grpcurl(grpcurl_program, daemon.address)
        found = grpcurl.call(f"{POOLS}/LookupResourcePoolID", {"path": {"value": "/DefaultResPool"}})
        spec = a_spec("watched", found.message["respoolId"]["value"], 20)
        with watching(grpcurl, tmp_path, "before") as before:
            grpcurl.call(f"{JOBS}/CreateJob", {"job_id": JOB, "spec": spec})
            eventually(lambda: before.told, "the first change")
            daemon.kill()
            assert before.ended()[0] == "Unavailable"
    with dev(tmp_path, *flags) as daemon:
        grpcurl = Grpcurl(grpcurl_program, daemon.address)
        begun, seen = before.messages[0]["revision"], before.told[-1]["revision"]
        with (
            watching(grpcurl, tmp_path, "after", seen) as after,
            watching(grpcurl, tmp_path, "whole", begun) as whole,
        ):
            until(grpcurl, JOB, "JOB_STATE_RUNNING")
            eventually(lambda: is_running(after.told) and after.told[-1] == whole.told[-1], "the last change")
            assert before.told + after.told == whole.told
            revisions = [int(message["revision"]) for message in whole.messages]
            assert revisions == sorted(set(revisions))
            assert not {message["watchId"] for message in before.messages} & {
                message["watchId"] for message in (*after.messages, *whole.messages)
            }
            number = after.messages[0]["watchId"]
            grpcurl.call(f"{WATCH}/Cancel", {"watch_id": number})
            assert after.ended() == ("Canceled", f"watch {number} was cancelled")
            assert grpcurl.call(f"{WATCH}/Cancel", {"watch_id": number}).code == "NotFound"


def test_a_client_that_vanishes_frees_its_place(tmp_path: Path, grpcurl_program: Path) -> None:
    """Killed, it says no goodbye: the kernel closes its connection."""
    topology = tmp_path / "topology.yaml"
    topology.write_text(
        "groups: [{name: one, resources: {cpu: 1, mem: 1Gi, disk: 1Gi}}]\nlimits: {watches_max: 1}\n"
    )
    with dev(tmp_path, "--topology", topology) as daemon:
        grpcurl = Grpcurl(grpcurl_program, daemon.address)
        with watching(grpcurl, tmp_path, "first") as first:
            with watching(grpcurl, tmp_path, "second") as second:
                code, sentence = second.ended()
                assert code == "ResourceExhausted"
                assert "watches_max" in sentence
            first.kill()
            with watching(grpcurl, tmp_path, "third") as third:
                assert third.messages
