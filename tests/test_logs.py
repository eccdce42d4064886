"""What a log line looks like, to people and to machines."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from derny import logs


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("derny")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def a_record(message: str, *values: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error is not None else None
    record = logging.LogRecord("derny.edge", logging.WARNING, "file.py", 1, message, values, info)
    record.created = 1_700_000_000.25
    return record


def test_a_line_of_json_has_when_how_bad_who_and_what() -> None:
    line = logs.JsonFormatter().format(a_record("job %s is %s", "x", "late"))
    assert json.loads(line) == {
        "ts": "2023-11-14T22:13:20.250+00:00",
        "level": "warning",
        "logger": "derny.edge",
        "msg": "job x is late",
    }


@pytest.mark.parametrize("nasty", ['line\nbreak "quoted" \\', "ends in \u2028", "käse 🧀", "\x00\x1b[31m"])
def test_whatever_is_said_stays_on_one_line_and_reads_back(nasty: str) -> None:
    line = logs.JsonFormatter().format(a_record("%s", nasty))
    assert "\n" not in line
    assert json.loads(line)["msg"] == nasty


def test_an_error_brings_its_traceback_along() -> None:
    error = ValueError("wrong")
    line = json.loads(logs.JsonFormatter().format(a_record("failed", error=error)))
    assert line["error"].endswith("ValueError: wrong")


def test_configure_writes_to_standard_error_from_the_level_up(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "warning")
    logging.getLogger("derny").info("unheard")
    logging.getLogger("derny").warning("heard")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["msg"] for line in err.splitlines()] == ["heard"]


@pytest.mark.parametrize(("level", "heard"), [("debug", 2), ("warning", 2), ("error", 1)])
def test_a_library_is_heard_from_warnings_up_however_much_is_asked_of_derny(
    capsys: pytest.CaptureFixture[str], level: str, heard: int
) -> None:
    logs.configure("text", level)
    library = logging.getLogger("aiosqlite.like")
    for say in (library.debug, library.info, library.warning, library.error):
        say("a whole statement with its values")
    assert capsys.readouterr().err.count("a whole statement") == heard


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "debug")
    logging.getLogger("derny.x").debug("seen")
    line = capsys.readouterr().err
    assert line.endswith("DEBUG   derny.x: seen\n")
    assert datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).year > 2000


def test_configuring_twice_says_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text", "info")
    logs.configure("text", "info")
    logging.getLogger("derny").info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert logging.getLogger().handlers[0].stream is sys.stderr  # type: ignore[attr-defined]  # a StreamHandler
