"""The grammar of the pretend sh: from a script's text to its parts.

The subset of POSIX.1-2017 (XCU 2.3, 2.10) that tells how long a container runs: `; & && || | !` and
newlines, `( )` and `{ }`, `if`, `for`, `while`, `until`, quotes and redirections. One rule: total. A text
beyond the subset (`case`, functions, here-documents, a missing `done`) becomes a script that runs for ever.
Called by `agents.behaviour`.
"""

import re
from typing import Final

from derny.agents import shell

TEXT_MAX: Final = 16_384
"""Characters of a script that are looked at; a longer one is beyond us."""
NESTING_MAX: Final = 10
"""Levels of groups and loops in one script."""

# A word keeps its quotes until it is expanded, so that no word can be mistaken for an operator.
_TOKEN: Final = re.compile(
    r"""(?:[ \t\r]|\#[^\n]*)*+
    (?P<token> (?:\d*|&)(?:>>|>&|>\||<>|<&|>|<(?!<))
      | \n | ;;? | &&? | \|\|? | [()]
      | (?: [^ \t\r\n;&|()<>"'\\`$] | '[^']*' | "(?:[^"\\]|\\.)*" | \\. | `[^`]*` | \$\{[^}]*\}
          | \$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\) | \$(?![{(]) )+
      | \Z )""",
    re.VERBOSE | re.DOTALL,
)
_REDIRECTION: Final = re.compile(r"(\d*|&)[<>]")
_OF_STDOUT: Final = re.compile(r"[1&]?>")
_AFTER_COMMAND: Final = frozenset(["", ";", ";;", "\n", "&", "&&", "||", "|", "(", ")"])
_OUT_OF_PLACE: Final = frozenset(
    ["then", "do", "done", "fi", "else", "elif", "in", "}", "!", "case", "esac", "function", "select"]
)


def parse(text: str) -> shell.Node:
    """The script that `text` spells; an endless one when it is beyond us."""
    try:
        return _Parser(text).script()
    except _Beyond:
        return shell.Endless()


class _Beyond(Exception):
    """The script needs more than the subset."""


class _Parser:
    """Recursive descent over the grammar of XCU 2.10, one method a rule. `""` is the end of the text."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._nesting = 0

    def _peek(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        token = self._tokens[self._at]
        self._at += token != ""
        return token

    def _demand(self, *expected: str) -> str:
        """Take the next token, which must be one of these."""
        if self._peek() not in expected:
            raise _Beyond
        return self._take()

    def script(self) -> shell.Sequence:
        script = self._sequence("")
        self._demand("")
        return script

    def _sequence(self, *closers: str) -> shell.Sequence:
        """Commands up to one of the closers, which is left where it is."""
        self._nesting += 1
        if self._nesting > NESTING_MAX:
            raise _Beyond
        items: list[tuple[shell.AndOr, bool]] = []
        while self._skip(";", "\n") not in closers:
            item = self._and_or()
            background = self._peek() == "&"
            if self._peek() not in closers:
                self._demand("&", ";", "\n")
            items.append((item, background))
        self._nesting -= 1
        return shell.Sequence(items)

    def _skip(self, *ignored: str) -> str:
        while self._peek() in ignored:
            self._take()
        return self._peek()

    def _and_or(self) -> shell.AndOr:
        parts = [("", self._pipeline())]
        while self._peek() in ("&&", "||"):
            operator = self._take()
            self._skip("\n")
            parts.append((operator, self._pipeline()))
        return shell.AndOr(parts)

    def _pipeline(self) -> shell.Pipeline:
        negated = self._peek() == "!"
        if negated:
            self._take()
        parts = [self._command()]
        while self._peek() == "|":
            self._take()
            self._skip("\n")
            parts.append(self._command())
        return shell.Pipeline(parts, negated)

    def _command(self) -> shell.Node:
        compound = self._COMPOUND.get(self._peek())
        if compound is None:
            return self._simple()
        self._take()
        node = compound(self)
        muted = False
        while _REDIRECTION.match(self._peek()):
            muted |= self._redirection()
        return shell.Muted(node) if muted else node

    def _simple(self) -> shell.Node:
        words: list[str] = []
        muted = False
        first = self._peek()
        if first in _AFTER_COMMAND or first in _OUT_OF_PLACE:
            raise _Beyond
        while self._peek() not in _AFTER_COMMAND:
            if _REDIRECTION.match(self._peek()):
                muted |= self._redirection()
            else:
                words.append(self._take())
        if self._peek() == "(":
            raise _Beyond
        return shell.Muted(shell.Simple(words)) if muted else shell.Simple(words)

    def _redirection(self) -> bool:
        """Take a redirection and its file; whether it was stdout's."""
        operator = self._take()
        if self._take() in _AFTER_COMMAND:
            raise _Beyond
        return _OF_STDOUT.match(operator) is not None

    def _subshell(self) -> shell.Node:
        body = self._sequence(")")
        self._demand(")")
        return shell.Subshell(body)

    def _group(self) -> shell.Node:
        body = self._sequence("}")
        self._demand("}")
        return body

    def _if(self) -> shell.Node:
        branches: list[tuple[shell.Sequence, shell.Sequence]] = []
        closer = "elif"
        while closer == "elif":
            condition = self._sequence("then")
            self._demand("then")
            branches.append((condition, self._sequence("elif", "else", "fi")))
            closer = self._demand("elif", "else", "fi")
        otherwise = shell.Sequence([])
        if closer == "else":
            otherwise = self._sequence("fi")
            self._demand("fi")
        return shell.If(branches, otherwise)

    def _while(self) -> shell.Node:
        return self._loop(until=False)

    def _until(self) -> shell.Node:
        return self._loop(until=True)

    def _loop(self, until: bool) -> shell.Node:
        condition = self._sequence("do")
        return shell.While(condition, self._loop_body(), until)

    def _for(self) -> shell.Node:
        name = self._take()
        self._demand("in")
        words: list[str] = []
        while self._peek() not in _AFTER_COMMAND:
            words.append(self._take())
        self._demand(";", "\n")
        self._skip("\n")
        return shell.For(name, words, self._loop_body())

    def _loop_body(self) -> shell.Sequence:
        self._demand("do")
        body = self._sequence("done")
        self._demand("done")
        return body

    _COMPOUND: Final = {
        "(": _subshell,
        "{": _group,
        "if": _if,
        "while": _while,
        "until": _until,
        "for": _for,
    }


def _tokens(text: str) -> list[str]:
    """The script's words and operators, and an empty one for its end (XCU 2.3)."""
    if len(text) > TEXT_MAX:
        raise _Beyond
    text = text.replace("\\\n", "")
    tokens: list[str] = []
    at = 0
    while match := _TOKEN.match(text, at):
        tokens.append(match["token"])
        at = match.end()
        if not tokens[-1]:
            return tokens
    raise _Beyond
