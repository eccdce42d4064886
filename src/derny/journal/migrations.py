"""The numbered SQL files, and what each has to do with `PRAGMA user_version`.

One rule: a file that has been released is never edited; a change is the next number. Called by `store`, for a
database of an older derny and for one in memory, and by `recovery`, for one that is made from nothing.
"""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


def folder() -> Traversable:
    """Where the files are: inside the package once it is installed, at the repository's top in a checkout."""
    installed = files("derny") / "migrations"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "migrations"


def scripts() -> dict[int, str]:
    """Each migration by its number, in order, as a script that is one transaction with its number."""
    found = {int(match[1]): file for file in folder().iterdir() if (match := FILE_NAME.fullmatch(file.name))}
    assert sorted(found) == list(range(1, len(found) + 1)), (
        f"migrations must be numbered 1, 2, …: {sorted(found)}"
    )
    return {number: _in_one_transaction(number, found[number].read_text("utf-8")) for number in sorted(found)}


def scripts_after(version: int) -> list[str]:
    """What a database at `version` still has to run, in order."""
    return [script for number, script in scripts().items() if number > version]


def _in_one_transaction(number: int, sql: str) -> str:
    return f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;"
