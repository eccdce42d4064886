"""Transcripts: reading them, playing them, and writing down what was answered. README.md has the format."""

import copy
import json
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NamedTuple

import betterproto2
from grpclib.exceptions import GRPCError

from builders import POOL
from scenarios.stage import Stage

NAME = re.compile(r"\$(\w+)")
STEP = re.compile(r"[^.\[\]]+|\[\]|\[-?\d+\]")


class TranscriptError(Exception):
    """A line that is none, or an answer that is another than the transcript says; names the place."""


class Block(NamedTuple):
    """A line with those that belong to it: the indented ones, and the answers of a call."""

    number: int
    lines: list[str]
    answers: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def read(text: str) -> list[Block]:
    """The blocks of a transcript in order; comments and blank lines are blocks too, so that none is lost."""
    blocks: list[Block] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line[:1] in "<!" and line:
            if not blocks or not blocks[-1].lines[0].startswith((">", "read ")):
                raise TranscriptError(f"line {number}: an answer without a call")
            blocks[-1].answers.append(line)
        elif line[:1] in (" ", "\t"):
            if not blocks or blocks[-1].answers or not line.strip():
                raise TranscriptError(f"line {number}: an indented line that goes on with nothing")
            blocks[-1].lines.append(line)
        else:
            blocks.append(Block(number, [line], []))
    return blocks


async def play(text: str, folder: Path, rewrite: bool) -> str:
    """Play a transcript; returns it with the answers there were. Unless rewriting, raises TranscriptError at
    the first that is another."""
    blocks = read(text)
    settings = {"hosts": 4, "seed": 7}
    names: dict[str, Any] = {"pool": POOL}
    stage: Stage | None = None
    played: list[str] = []
    try:
        for block in blocks:
            verb, _, rest = block.text.partition(" ")
            if verb in settings and stage is None:
                settings[verb] = int(rest)
            elif verb == "let":
                name, _, value = rest.partition("=")
                names[name.strip()] = _filled(_json(block, value), names)
            elif verb and not verb.startswith("#"):
                if stage is None:
                    stage = Stage(folder, settings["hosts"], settings["seed"])
                    await stage.begin()
                block = await _step(stage, block, verb, rest, names, rewrite)
            played += [*block.lines, *block.answers]
    finally:
        if stage is not None:
            await stage.close()
    return "\n".join(played) + "\n"


async def _step(
    stage: Stage, block: Block, verb: str, rest: str, names: dict[str, Any], rewrite: bool
) -> Block:
    """Play one block; returns it with the answers there were."""
    if verb == "wait" and rest.isdecimal():
        await stage.wait(int(rest))
    elif verb == "restart":
        await stage.restart()
    elif verb == "open":
        name, _, call = rest.partition("=")
        await stage.open(name.strip(), *_request(stage, block, call.strip(), names))
        first = await stage.read(name.strip())
        names[name.strip()] = str(getattr(first[0], "watch_id", "")) if first else ""
    elif verb == "end":
        await stage.end(rest)
    elif verb in (">", "read"):
        asked = stage.read(rest) if verb == "read" else stage.call(*_request(stage, block, rest, names))
        answers = await _answers(asked, block, names)
        if not rewrite and answers != block.answers:
            raise TranscriptError(
                f"line {block.number}: {block.lines[0]}\n" + "\n".join(_difference(block.answers, answers))
            )
        return block._replace(answers=answers)
    else:
        raise TranscriptError(f"line {block.number}: {block.lines[0]!r} is no line of a transcript")
    return block


def _request(stage: Stage, block: Block, rest: str, names: dict[str, Any]) -> tuple[str, Any]:
    """The method of a call and its message."""
    method, _, request = rest.partition(" ")
    value = _filled(_json(block, request or "{}"), names)
    try:
        kind: Any = stage.request_type(method)
        return method, kind.from_dict(_wrapped(kind, value))
    except (KeyError, ValueError, TypeError) as error:
        raise TranscriptError(f"line {block.number}: {method}: {error}") from error


async def _answers(asked: Awaitable[Any], block: Block, names: dict[str, Any]) -> list[str]:
    """The lines that say how a call was answered, for the paths that the transcript asks for."""
    try:
        answer = await asked
    except GRPCError as error:
        return [_renamed(f"! {error.status.name} {error.message or ''}".rstrip(), names)]
    paths = [line[1:].partition(" = ")[0].strip() for line in block.answers if line.startswith("<")]
    whole = _as_dict(answer, defaults=False) if "." in paths else None
    told = _as_dict(answer, defaults=True)
    found = [(path, whole if path == "." else _at(path, told)) for path in paths]
    return [f"< {path} = {_renamed(json.dumps(value), names)}" for path, value in found]


def _difference(expected: list[str], found: list[str]) -> list[str]:
    lines = [f"  expected {line}" for line in expected if line not in found]
    return lines + [f"  answered {line}" for line in found if line not in expected] or ["  in another order"]


# JSON with names.


def _json(block: Block, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise TranscriptError(f"line {block.number}: {error}") from None


def _filled(value: Any, names: dict[str, Any]) -> Any:
    """The value with all names replaced by what they stand for."""
    if isinstance(value, str):
        if (match := NAME.fullmatch(value)) is not None:
            return copy.deepcopy(_named(match, names))
        return NAME.sub(lambda match: str(_named(match, names)), value)
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    if isinstance(value, dict):
        filled = dict(_filled(value["..."], names)) if "..." in value else {}
        return filled | {key: _filled(item, names) for key, item in value.items() if key != "..."}
    return value


def _renamed(text: str, names: dict[str, Any]) -> str:
    """The text with long ones that have a name replaced by it: ids, which nobody can tell apart."""
    for name, value in names.items():
        if isinstance(value, str) and len(value) >= 8:
            text = text.replace(value, f"${name}")
    return text


def _named(match: re.Match[str], names: dict[str, Any]) -> Any:
    if match[1] not in names:
        raise TranscriptError(f"{match[0]} is not the name of anything; there are {', '.join(names)}")
    return names[match[1]]


# Messages as JSON.


def _wrapped(kind: type, value: Any) -> Any:
    """The JSON of a message, with bare values put back into the messages that hold nothing else."""
    if isinstance(value, list):
        return [_wrapped(kind, item) for item in value]
    if not issubclass(kind, betterproto2.Message):
        return value
    fields = kind._betterproto.cls_by_field
    if not isinstance(value, dict):
        return {"value": value} if "value" in fields else value
    return {
        key: {k: _wrapped(fields[f"{key}.value"], v) for k, v in item.items()}
        if f"{key}.value" in fields
        else _wrapped(fields.get(key, object), item)
        for key, item in value.items()
    }


def _as_dict(answer: Any, defaults: bool) -> Any:
    """An answer as JSON; the messages of a stream joined, list by list."""
    if not isinstance(answer, list):
        return _bare(answer.to_dict(casing=betterproto2.Casing.SNAKE, include_default_values=defaults))
    joined: dict[str, Any] = {}
    for message in answer:
        for key, item in _as_dict(message, defaults).items():
            joined[key] = joined.get(key, []) + item if isinstance(item, list) else item
    return joined


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        return _bare(value["value"]) if value.keys() == {"value"} else {k: _bare(v) for k, v in value.items()}
    return value


def _at(path: str, value: Any) -> Any:
    """What is at a path; None where it leads nowhere."""
    if path.startswith("count "):
        return len(_at(path.removeprefix("count ").strip(), value) or [])
    return _below(STEP.findall(path), value)


def _below(steps: list[str], value: Any) -> Any:
    if not steps or value is None:
        return value
    step, rest = steps[0], steps[1:]
    if step == "[]":
        return [_below(rest, item) for item in value]
    if step.startswith("["):
        index = int(step[1:-1])
        return _below(rest, value[index] if -len(value) <= index < len(value) else None)
    return _below(rest, value.get(step) if isinstance(value, dict) else None)
