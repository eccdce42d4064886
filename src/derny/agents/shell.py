"""A pretend sh at work: counts out what a script would do, on a clock of its own. Nothing is executed.

Has the shell process and the parts of a script (POSIX.1-2017, XCU 2.6 and 2.9); `agents.script` makes the
parts from text, `agents.behaviour` says what programs do. One rule: total. Every script comes to an end in
bounded time without an exception; one that takes more than some hundred rounds is taken to run for ever.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Final, NamedTuple, NoReturn, Protocol

OUTPUT_MAX: Final = 4_096
"""Characters of stdout that are kept, and the longest word."""
EFFORT_MAX: Final = 20_000
"""Characters interpreted before a script is taken to be endless: some hundred rounds of a one-line loop."""
CALLS_MAX: Final = 6
"""Programs that run programs (`exec env sh -c …`). With NESTING_MAX it bounds the depth of Python's stack."""
RUNS_MAX_S: Final = 1e9
"""Longer than thirty years is for ever, so that every end is a sensible number."""
UNKNOWN: Final = "\0"
"""Stands in a word for what only a real shell could find out, such as `$(date)`."""
ANYTHING: Final = "*"
"""Under this name stands the program that is run in the place of those that nobody knows."""

_VARIABLE: Final = r"""
    \$\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?\} | \$(?P<bare>\w+|[?])
    | (?P<unknown>`[^`]*` | \$\{[^}]*\} | \$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\) | \$[@*\#!$-])"""
_PIECE: Final = re.compile(
    r"""'(?P<literal>[^']*)' | "(?P<quoted>(?:[^"\\]|\\.)*)" | \\(?P<escaped>.) | [^'"\\$`]+ | """
    + _VARIABLE
    + r" | \$",
    re.VERBOSE | re.DOTALL,
)
_QUOTED_PIECE: Final = re.compile(
    r"""\\(?P<escaped>[$`"\\]) | [^\\$`]+ | """ + _VARIABLE + r" | .", re.VERBOSE | re.DOTALL
)
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_BARE_VARIABLE: Final = re.compile(r"\$\w+\Z|\$\{\w+\}\Z")


class _Ended(Exception):
    """This shell is over: its `now_s` says when, and infinity that it never ends."""


FileChange = tuple[float, str, bool]
"""When it happened, in seconds of the container's life; the path; whether it is there from then on."""


class Account:
    """What all shells of a container share: what they wrote, the files they changed, the effort that is
    left."""

    def __init__(self, files: Iterable[FileChange] = ()) -> None:
        self.output = ""
        self.files = list(files)
        self.effort_left = EFFORT_MAX


class Shell:
    """One shell process on its own clock, which starts at 0. Times are seconds."""

    def __init__(self, programs: "Programs", variables: dict[str, str], account: Account) -> None:
        self.programs = programs
        self.variables = variables
        self.account = account
        self.calls = 0
        self.now_s = 0.0
        self.status = 0
        self.deaf_after_s = math.inf
        self.children_end_s = 0.0
        self.muted = False

    def live(self, body: "Node") -> None:
        """This shell's whole life: afterwards `now_s` is its end and `status` its exit status."""
        with suppress(_Ended):
            body.run(self)

    def call(self, words: list[str]) -> None:
        """Run one program or builtin to its end; one that nobody knows never ends, unless it is said to."""
        program = self.programs.get(words[0].rpartition("/")[2]) or self.programs.get(ANYTHING)
        if program is None or self.calls >= CALLS_MAX:
            self.hang()
        self.calls += 1
        program(self, words[1:])
        self.calls -= 1

    def fork(self) -> "Shell":
        child = Shell(self.programs, dict(self.variables), self.account)
        child.calls, child.now_s, child.status = self.calls, self.now_s, self.status
        child.deaf_after_s, child.muted = self.deaf_after_s, self.muted
        return child

    def join(self, child: "Shell") -> None:
        """Wait for a child in the foreground; a signal that it ignores, the container is taken to ignore."""
        self.status = child.status
        self.deaf_after_s = min(self.deaf_after_s, child.deaf_after_s)
        self.wait_until(child.now_s)

    def wait_until(self, moment_s: float) -> None:
        self.now_s = max(self.now_s, moment_s)
        if self.now_s > RUNS_MAX_S:
            self.hang()

    def end(self, status: int) -> NoReturn:
        self.status = status
        raise _Ended

    def hang(self) -> NoReturn:
        self.now_s = math.inf
        raise _Ended

    def doubt(self) -> None:
        """What comes next depends on what only a real shell could find out: as with an unknown program."""
        if ANYTHING not in self.programs:
            self.hang()

    def footing(self) -> tuple[dict[str, str], int, dict[str, bool]] | None:
        """All that a round of a loop can depend on; None while what runs in the background may change it."""
        changes = sorted(self.account.files, key=itemgetter(0))
        self.spend(len(changes))
        if max(self.children_end_s, changes[-1][0] if changes else 0.0) > self.now_s:
            return None
        return dict(self.variables), self.status, {path: exists for _, path, exists in changes}

    def spend(self, effort: int) -> None:
        self.account.effort_left -= effort
        if self.account.effort_left < 0:
            self.hang()

    def write(self, text: str) -> None:
        """What `echo` does with its text."""
        if not self.muted:
            self.account.output = (self.account.output + text.replace(UNKNOWN, ""))[:OUTPUT_MAX]
        self.status = 0

    def expand(self, word: str, pattern: re.Pattern[str] = _PIECE) -> str:
        """The word without its quotes and with its variables' values (XCU 2.6)."""
        self.spend(len(word))
        expanded = ""
        for match in pattern.finditer(word):
            expanded += self._expand_piece(match)
            if len(expanded) > OUTPUT_MAX:
                self.hang()
        return expanded

    def _expand_piece(self, match: re.Match[str]) -> str:
        parts = match.groupdict()
        if (quoted := parts.get("quoted")) is not None:
            return self.expand(quoted, _QUOTED_PIECE)
        if parts["bare"] == "?":
            return str(self.status)
        if name := parts["name"] or parts["bare"]:
            return self.variables.get(name) or parts["default"] or ""
        if parts["unknown"]:
            return UNKNOWN
        literal = parts.get("literal")
        return next(text for text in (literal, parts["escaped"], match[0]) if text is not None)

    def fields(self, words: Iterable[str]) -> list[str]:
        """The words expanded. Only a word that is nothing but a variable is split, and so may vanish."""
        found: list[str] = []
        for word in words:
            text = self.expand(word)
            found += text.split() if _BARE_VARIABLE.match(word) else [text]
        return found


Programs = Mapping[str, Callable[[Shell, list[str]], None]]


class Node(Protocol):
    """A part of a script."""

    def run(self, shell: Shell) -> None: ...


class Simple(NamedTuple):
    """`VAR=x program argument…`; a variable set for one program only stays set, which nobody notices."""

    words: list[str]

    def run(self, shell: Shell) -> None:
        shell.spend(10)
        first = 0
        while first < len(self.words) and (assignment := _ASSIGNMENT.match(self.words[first])):
            shell.variables[assignment[1]] = shell.expand(assignment[2])
            first += 1
        if fields := shell.fields(self.words[first:]):
            shell.call(fields)
        else:
            shell.status = 0


class Muted(NamedTuple):
    """A command whose stdout goes elsewhere."""

    body: Node

    def run(self, shell: Shell) -> None:
        before, shell.muted = shell.muted, True
        self.body.run(shell)
        shell.muted = before


class Subshell(NamedTuple):
    """`( … )`"""

    body: Node

    def run(self, shell: Shell) -> None:
        child = shell.fork()
        child.live(self.body)
        shell.join(child)


class Pipeline(NamedTuple):
    """`a | b`: all parts run at once, the last one gives the status and the output."""

    parts: list[Node]
    negated: bool

    def run(self, shell: Shell) -> None:
        if len(self.parts) == 1:
            self.parts[0].run(shell)
        else:
            children = [shell.fork() for _ in self.parts]
            for child, part in zip(children, self.parts, strict=True):
                child.muted = shell.muted or child is not children[-1]
                child.live(part)
            for child in children:
                shell.join(child)
        if self.negated:
            shell.status = int(shell.status == 0)


class AndOr(NamedTuple):
    """`a && b || c`, from left to right; each part with the operator before it, the first with none."""

    parts: list[tuple[str, Pipeline]]

    def run(self, shell: Shell) -> None:
        for operator, part in self.parts:
            if not operator or (shell.status == 0) == (operator == "&&"):
                part.run(shell)


class Sequence(NamedTuple):
    """Commands one after the other; the flag says that a command runs in the background."""

    items: list[tuple[AndOr, bool]]

    def run(self, shell: Shell) -> None:
        shell.spend(10)
        for item, background in self.items:
            if background:
                child = shell.fork()
                child.live(item)
                shell.children_end_s = max(shell.children_end_s, child.now_s)
                shell.status = 0
            else:
                item.run(shell)


class If(NamedTuple):
    branches: list[tuple[Sequence, Sequence]]
    otherwise: Sequence

    def run(self, shell: Shell) -> None:
        for condition, body in self.branches:
            condition.run(shell)
            if shell.status == 0:
                return body.run(shell)
        shell.status = 0
        return self.otherwise.run(shell)


class While(NamedTuple):
    """Endless once a round has left everything as it was, or the effort is spent."""

    condition: Sequence
    body: Sequence
    until: bool

    def run(self, shell: Shell) -> None:
        status = 0
        footing = shell.footing()
        while True:
            self.condition.run(shell)
            if (shell.status == 0) == self.until:
                break
            self.body.run(shell)
            status, before, footing = shell.status, footing, shell.footing()
            if footing is not None and footing == before:
                shell.hang()
        shell.status = status


class For(NamedTuple):
    name: str
    words: list[str]
    body: Sequence

    def run(self, shell: Shell) -> None:
        shell.status = 0
        for value in shell.fields(self.words):
            shell.variables[self.name] = value
            self.body.run(shell)


class Call(NamedTuple):
    """One program with its arguments as they are."""

    words: list[str]

    def run(self, shell: Shell) -> None:
        shell.call(self.words)


class Endless(NamedTuple):
    """What we can't follow."""

    def run(self, shell: Shell) -> None:
        shell.hang()
