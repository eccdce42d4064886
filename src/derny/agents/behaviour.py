"""What a simulated container does with its command: how long it runs, how it ends, what it writes.

One rule: pure and total. Every command has a behaviour, the same each time; nothing is executed, nothing
raises. Known programs are `sleep`, `echo`, `printf`, `true`, `false`, `:`, `exit`, `exec`, `wait`, `trap`,
`test`, `[`, `ls`, `cat`, `touch`, `mkdir`, `rm`, `sh`, `bash`, `env` and the shell's settings; an unknown one
runs until it is killed, but in a health check it exits with 0. Of files there are a few that every image has,
what was mounted, and what the container's own command made. The grammar is in `agents.script`. Called by
`agents.life`.
"""

import math
import re
from collections.abc import Callable
from operator import itemgetter
from typing import Final

import msgspec

from derny.agents.script import parse
from derny.agents.shell import ANYTHING, UNKNOWN, Account, Call, FileChange, Programs, Shell
from derny.model.specs import Command

Variables = tuple[tuple[str, str], ...]
Files = tuple[FileChange, ...]


class Behaviour(msgspec.Struct, frozen=True, gc=False):
    """The life of a container that nobody disturbs. Times count from its start; infinity means never."""

    runs_s: float = math.inf
    exit_code: int = 0
    deaf_after_s: float = math.inf
    """When it starts to ignore SIGTERM (`trap '' TERM`); from then on only SIGKILL ends it."""
    output: str = ""
    """The head of its stdout."""
    files: Files = ()
    """What was mounted, and what it made and removed."""


UNTIL_KILLED: Final = Behaviour()


def plan(command: Command, environment: Variables = (), files: Files = ()) -> Behaviour:
    """What a container with this command does.

    An empty command means the image's own entry point, which runs until killed. Without a shell, `arguments`
    may begin with the program's name or not: Mesos wants it, people forget it (mesos.proto, CommandInfo).
    """
    if not command.value:
        return msgspec.structs.replace(UNTIL_KILLED, files=files)
    shell = _lived(command, Shell(_PROGRAMS, dict(environment), Account(files)))
    found = tuple(shell.account.files)
    return Behaviour(shell.now_s, shell.status, shell.deaf_after_s, shell.account.output, found)


def probe(command: Command, environment: Variables, files: Files, at_s: float) -> tuple[bool, float]:
    """Whether a health check's command exits with 0 when it is run at this time of a container's life, and
    how long it takes; infinity for a check that never ends."""
    if not command.value:
        return True, 0.0
    past = sorted((change for change in files if change[0] <= at_s), key=itemgetter(0))
    then = [(0.0, path, exists) for _, path, exists in past]
    shell = _lived(command, Shell(_PROBE_PROGRAMS, dict(environment), Account(then)))
    return shell.status == 0 and shell.now_s < math.inf, shell.now_s


def _lived(command: Command, shell: Shell) -> Shell:
    if command.shell:
        shell.live(parse(command.value))
    else:
        named_twice = command.arguments and _name(command.arguments[0]) == _name(command.value)
        shell.live(Call([command.value, *command.arguments[1 if named_twice else 0 :]]))
    return shell


_DURATION: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([smhd]?)\Z")
_SECONDS_IN: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_STATUS: Final = re.compile(r"[0-9]{1,9}\Z")
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}\Z")
_ESCAPES: Final = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\"}
_ESCAPE: Final = re.compile(r"\\[ntr\\]")
_CONVERSION: Final = re.compile(r"%[-0-9.]*[sdiu]")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _succeed(shell: Shell, arguments: list[str]) -> None:
    shell.status = 0


def _fail(shell: Shell, arguments: list[str]) -> None:
    shell.status = 1


def _sleep(shell: Shell, arguments: list[str]) -> None:
    """Sums its arguments, as GNU sleep does; status 1 at once for one that is no duration."""
    total_s = 0.0
    for argument in arguments:
        if UNKNOWN in argument or argument in ("infinity", "inf"):
            shell.hang()
        if (duration := _DURATION.match(argument)) is None:
            shell.status = 1
            return
        total_s += float(duration[1]) * _SECONDS_IN[duration[2]]
    shell.wait_until(shell.now_s + total_s)
    shell.status = 0 if arguments else 1


def _exit(shell: Shell, arguments: list[str]) -> None:
    """Status modulo 256, the last command's without an argument, 2 for one that is no number."""
    if not arguments:
        shell.end(shell.status)
    if UNKNOWN in arguments[0]:
        shell.hang()
    shell.end(int(arguments[0]) % 256 if _STATUS.match(arguments[0]) else 2)


def _exec(shell: Shell, arguments: list[str]) -> None:
    if arguments:
        shell.call(arguments)
        shell.end(shell.status)
    shell.status = 0


def _wait(shell: Shell, arguments: list[str]) -> None:
    """Waits for all background commands, whichever it is asked for."""
    shell.wait_until(shell.children_end_s)
    shell.status = 0


def _trap(shell: Shell, arguments: list[str]) -> None:
    """Only ignoring SIGTERM matters to us: a handler is taken to end the container."""
    action, *signals = arguments or ["-"]
    if not {"TERM", "SIGTERM", "15"}.isdisjoint(signals):
        shell.deaf_after_s = math.inf if action else min(shell.deaf_after_s, shell.now_s)
    shell.status = 0


def _sh(shell: Shell, arguments: list[str]) -> None:
    """`sh -c script`, also `-ec` and the like; reading a file or stdin never ends."""
    options = len(arguments) and next((at for at, text in enumerate(arguments) if text[:1] != "-"), 0)
    if not options or not arguments[options - 1].endswith("c"):
        shell.hang()
    child = shell.fork()
    child.live(parse(arguments[options]))
    shell.join(child)


def _env(shell: Shell, arguments: list[str]) -> None:
    """`env A=b program argument…`"""
    first = next((at for at, text in enumerate(arguments) if "=" not in text), len(arguments))
    _assign(shell, arguments[:first])
    shell.status = 0
    if first < len(arguments):
        shell.call(arguments[first:])


def _export(shell: Shell, arguments: list[str]) -> None:
    _assign(shell, arguments)
    shell.status = 0


def _assign(shell: Shell, arguments: list[str]) -> None:
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals:
            shell.variables[name] = value


def _echo(shell: Shell, arguments: list[str]) -> None:
    flags = ""
    while arguments and arguments[0] in ("-n", "-e", "-ne", "-en"):
        flags, arguments = flags + arguments[0], arguments[1:]
    text = " ".join(arguments)
    shell.write((_unescaped(text) if "e" in flags else text) + ("" if "n" in flags else "\n"))


def _printf(shell: Shell, arguments: list[str]) -> None:
    """Strings and whole numbers, without widths."""
    values = iter(arguments[1:])
    pattern = _unescaped(arguments[0] if arguments else "")
    shell.write(_CONVERSION.sub(lambda _: next(values, ""), pattern).replace("%%", "%"))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], text)


def _ls(shell: Shell, arguments: list[str]) -> None:
    """Says nothing of what it finds."""
    paths = [argument for argument in arguments if argument[:1] != "-"] or ["."]
    shell.status = 0 if all(_exists(shell, path) for path in paths) else 2


def _cat(shell: Shell, arguments: list[str]) -> None:
    """Says nothing of what it finds; waits for stdin without a file."""
    paths = [argument for argument in arguments if argument[:1] != "-"]
    if not paths:
        shell.hang()
    shell.status = 0 if all(_exists(shell, path) for path in paths) else 1


def _touch(shell: Shell, arguments: list[str]) -> None:
    _change_files(shell, arguments, True)


def _rm(shell: Shell, arguments: list[str]) -> None:
    """Succeeds also where there is nothing, as `rm -f` does."""
    _change_files(shell, arguments, False)


def _change_files(shell: Shell, arguments: list[str], exists: bool) -> None:
    for argument in arguments:
        if argument[:1] != "-":
            shell.spend(len(argument))
            shell.account.files.append((shell.now_s, argument.rstrip("/"), exists))
    shell.status = 0


def _exists(shell: Shell, path: str) -> bool:
    if UNKNOWN in path:
        shell.doubt()
        return True
    path = path.rstrip("/") or "/"
    known = [change for change in shell.account.files if change[1] == path and change[0] <= shell.now_s]
    # Of changes at the same time the last one counts.
    return max(reversed(known), key=itemgetter(0))[2] if known else path in _FILES


_UNARY: Final[dict[str, Callable[[Shell, str], bool]]] = {
    **dict.fromkeys(("-e", "-f", "-d", "-r", "-s", "-w", "-x"), _exists),
    "-n": lambda shell, text: text != "",
    "-z": lambda shell, text: text == "",
}
_BINARY: Final[dict[str, Callable[[str, str], bool]]] = {
    "=": str.__eq__,
    "==": str.__eq__,
    "!=": str.__ne__,
    "-eq": lambda one, other: int(one) == int(other),
    "-ne": lambda one, other: int(one) != int(other),
    "-lt": lambda one, other: int(one) < int(other),
    "-le": lambda one, other: int(one) <= int(other),
    "-gt": lambda one, other: int(one) > int(other),
    "-ge": lambda one, other: int(one) >= int(other),
}


def _test(shell: Shell, arguments: list[str]) -> None:
    """One comparison or one question about a file, with `!` before it; status 2 for what is neither."""
    words = arguments[:-1] if arguments[-1:] == ["]"] else arguments
    if any(UNKNOWN in word for word in words):
        shell.doubt()
        shell.status = 0
        return
    negated = len(words) > 1 and words[0] == "!"
    holds = _holds(shell, words[1:] if negated else words)
    shell.status = 2 if holds is None else int(holds is negated)


def _holds(shell: Shell, words: list[str]) -> bool | None:
    match words:
        case []:
            return False
        case [text]:
            return text != ""
        case [question, word] if question in _UNARY:
            return _UNARY[question](shell, word)
        case [one, comparison, other] if comparison in _BINARY:
            if comparison[0] == "-" and not (_WHOLE.match(one) and _WHOLE.match(other)):
                return None
            return _BINARY[comparison](one, other)
        case _:
            return None


_FILES: Final = frozenset(
    {
        *("/", "/bin", "/bin/ls", "/bin/sh", "/dev", "/dev/null", "/etc", "/etc/hostname", "/etc/hosts"),
        *("/etc/passwd", "/home", "/lib", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys"),
        *("/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/var", "/var/lib", "/var/log", "/var/run"),
        *(".", "..", "stdout", "stderr"),
    }
)
"""What there is in every image, and in the sandbox."""

_PROGRAMS: Final[Programs] = {
    ":": _succeed,
    "true": _succeed,
    "false": _fail,
    "sleep": _sleep,
    "exit": _exit,
    "exec": _exec,
    "wait": _wait,
    "trap": _trap,
    "sh": _sh,
    "bash": _sh,
    "dash": _sh,
    "env": _env,
    "echo": _echo,
    "printf": _printf,
    "test": _test,
    "[": _test,
    "ls": _ls,
    "cat": _cat,
    "touch": _touch,
    "mkdir": _touch,
    "rm": _rm,
    "rmdir": _rm,
    # Settings that take no time; `set -e` is not honoured.
    "set": _succeed,
    "cd": _succeed,
    "unset": _succeed,
    "umask": _succeed,
    "ulimit": _succeed,
    "export": _export,
}

_PROBE_PROGRAMS: Final[Programs] = {**_PROGRAMS, ANYTHING: _succeed}
