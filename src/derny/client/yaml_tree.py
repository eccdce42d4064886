"""YAML and JSON files as a tree whose every item knows where it stands.

One rule: an item's text is what the file says. YAML 1.1 would make `no` false, `010` eight and `1:30`
ninety; here the reader of an item says what it wants, and gets that or a SpecError with file, line,
column, path, the value and what is accepted. Aliases and merge keys work, but the items visited, and
their depth, are bounded, so that a few lines of nested aliases can't fill memory. JSON is read as YAML.
Called by `client.specfile` and `topology`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from derny.client import amounts

if TYPE_CHECKING:
    import yaml


FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""As large as the largest message that a daemon takes by default."""
ITEMS_MAX: Final = 1_000_000
"""Items visited per file, repeats by alias counted again. A spec of 4 MiB has fewer without aliases."""
DEPTH_MAX: Final = 100
"""Nesting, as deep as protobuf's own limit for messages."""

_SHOWN_MAX: Final = 60
_CORE_TAG: Final = "tag:yaml.org,2002:"
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,19})")
_EXACT_MAX: Final = 2**53


class SpecError(Exception):
    """A file or a flag does not say what it should; the message is a sentence for its author."""


def folded(name: str) -> str:
    """What makes two spellings of a name equal: `instanceCount`, `instance_count`, `instancecount`."""
    return name.replace("_", "").lower()


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the known name nearest to `wrong`, or all known names when none is near."""
    spelled = {folded(name): name for name in known}
    near = get_close_matches(folded(wrong), spelled, n=1)
    if near:
        return f'; did you mean "{spelled[near[0]]}"?'
    return (
        f"; expected one of {', '.join(sorted(spelled.values()))}" if spelled else "; expected no keys here"
    )


def shown(text: str) -> str:
    """`text` in quotes, cut to a length that fits in a sentence."""
    return repr(text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…")


class _Source:
    """The file that items come from, and how many of them may still be visited."""

    __slots__ = ("file", "items_left")

    def __init__(self, file: str) -> None:
        self.file = file
        self.items_left = ITEMS_MAX


class Entry(NamedTuple):
    """One key of a mapping and what it holds; both items have the path of the value."""

    key: "Item"
    value: "Item"


class Item:
    """A scalar, list or mapping of a file. Its readers raise SpecError if the item is another thing."""

    __slots__ = ("_depth", "_node", "_source", "path")

    def __init__(self, source: _Source, node: "yaml.Node", path: str, depth: int) -> None:
        self._source = source
        self._node: Any = node  # only its subclasses have an id, and only scalars a style
        self._depth = depth
        self.path = path
        source.items_left -= 1
        if depth > DEPTH_MAX:
            raise SpecError(f"{self.place}: {self.name} is nested deeper than {DEPTH_MAX} levels")
        if source.items_left < 0:
            raise SpecError(f"{self.place}: aliases expand the file to more than {ITEMS_MAX} items")
        if not str(node.tag).startswith(_CORE_TAG):
            raise SpecError(f"{self.place}: {self.name} has the tag {shown(node.tag)}; expected no tags")

    @property
    def place(self) -> str:
        """file:line:column, counted from 1."""
        mark = self._node.start_mark
        return f"{self._source.file}:{mark.line + 1}:{mark.column + 1}"

    @property
    def name(self) -> str:
        return self.path or "the document"

    @property
    def is_null(self) -> bool:
        return bool(self._node.tag == _CORE_TAG + "null")

    @property
    def is_list(self) -> bool:
        return bool(self._node.id == "sequence")

    @property
    def is_mapping(self) -> bool:
        return bool(self._node.id == "mapping")

    @property
    def is_plain_number(self) -> bool:
        """A number without quotes, by the rules of this module."""
        return (
            self._node.id == "scalar"
            and not self._node.style
            and amounts.number(self._node.value) is not None
        )

    @property
    def found(self) -> str:
        """The value as a sentence names it."""
        if self.is_null:
            return "empty"
        if self._node.id == "scalar":
            return shown(self._node.value)
        return "a list" if self.is_list else "a mapping"

    def wrong(self, expected: str) -> SpecError:
        """The error that says where the item stands, what it is, and what would be accepted."""
        return SpecError(f"{self.place}: {self.name} is {self.found}; expected {expected}")

    def text(self, expected: str = "text") -> str:
        """The scalar as the file has it, quotes and escapes resolved. Null is no text, unless in quotes."""
        if self._node.id != "scalar" or self.is_null:
            raise self.wrong(expected)
        text = str(self._node.value)
        if text.isascii():
            return text
        # JSON spells characters beyond U+FFFF as two escapes, which YAML reads one by one.
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise SpecError(
                f"{self.place}: {self.name} has half a surrogate pair; expected Unicode"
            ) from None

    def truth(self) -> bool:
        """true or false, also in YAML 1.1's words (yes, no, on, off); in quotes they are text."""
        if self._node.tag != _CORE_TAG + "bool":
            raise self.wrong("true or false, without quotes")
        return self._node.value.lower() in ("true", "yes", "on")

    def whole(self, low: int, high: int) -> int:
        """A whole number in the inclusive range, bare or in quotes; 4.0 and 1e3 are whole, 010 is refused."""
        expected = f"a whole number from {low} to {high}"
        text = self.text(expected)
        if _WHOLE.fullmatch(text):
            value = int(text)
        else:
            number = amounts.number(text)
            # Beyond 2**53 a double may already be another number than the one written.
            if number is None or not number.is_integer() or abs(number) >= _EXACT_MAX:
                raise self.wrong(expected)
            value = int(number)
        if not low <= value <= high:
            raise self.wrong(expected)
        return value

    def number(self) -> float:
        """A finite decimal number, bare or in quotes."""
        expected = "a finite number in decimal digits"
        value = amounts.number(self.text(expected))
        if value is None:
            raise self.wrong(expected)
        return value

    def items(self) -> Iterator["Item"]:
        """The items of a list, in order."""
        if not self.is_list:
            raise self.wrong("a list")
        for index, node in enumerate(self._node.value):
            yield Item(self._source, node, f"{self.path}[{index}]", self._depth + 1)

    def entries(self) -> list[Entry]:
        """The entries of a mapping in the file's order, those that `<<` merges in last; no key twice."""
        if not self.is_mapping:
            raise self.wrong("a mapping")
        own: dict[str, Entry] = {}
        merged: list[Item] = []
        for key_node, value_node in self._node.value:
            if key_node.tag == _CORE_TAG + "merge":
                value = self._child(value_node, "<<")
                merged += value.items() if value.is_list else [value]
                continue
            entry = self._entry(key_node, value_node)
            if own.setdefault(entry.key.text(), entry) is not entry:
                raise SpecError(f"{entry.key.place}: {entry.key.name} is given twice; expected each key once")
        for item in merged:
            for entry in item.entries():
                own.setdefault(entry.key.text(), entry)
        return list(own.values())

    def fields(
        self, known: Iterable[str], warnings: list[str] | None = None, also: Mapping[str, str] | None = None
    ) -> dict[str, "Item"]:
        """The values by the known names that the keys spell; null values are left out.

        `also` has further spellings, each with the known name that it stands for.

        Keys are compared as `folded`. An unknown key is an error; one that holds null only adds to
        `warnings`, when that is given: old files carry keys like `changelog: null`.
        """
        accepted = list(known)
        names = {folded(spelled): name for spelled, name in (also or {}).items()}
        names |= {folded(name): name for name in accepted}
        found: dict[str, Item] = {}
        for key, value in self.entries():
            spelled = key.text()
            name = names.get(folded(spelled))
            if name is None:
                unknown = f"{key.place}: {key.name} is not known" + suggestion(spelled, accepted)
                if not value.is_null or warnings is None:
                    raise SpecError(unknown)
                warnings.append(unknown)
            elif name in found:
                raise SpecError(
                    f"{key.place}: {key.name} is given twice, the first time as {found[name].name}"
                )
            else:
                found[name] = value
        return {name: value for name, value in found.items() if not value.is_null}

    def _entry(self, key_node: "yaml.Node", value_node: "yaml.Node") -> Entry:
        if not isinstance(key_node.value, str):
            raise SpecError(f"{self.place}: {self.name} has a key that is no text; expected names as keys")
        return Entry(self._child(key_node, key_node.value), self._child(value_node, key_node.value))

    def _child(self, node: "yaml.Node", key: str) -> "Item":
        short = key if len(key) <= _SHOWN_MAX else key[: _SHOWN_MAX - 1] + "…"
        return Item(self._source, node, f"{self.path}.{short}" if self.path else short, self._depth + 1)


def read(path: Path) -> list[Item]:
    """The documents of a file, empty ones left out; SpecError when it can't be read or holds none."""
    import yaml  # 30 ms: only those who read a file pay for it

    text = _spaced(_text_of(path))
    source = _Source(str(path))
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise SpecError(f"{path}: nested deeper than {DEPTH_MAX} levels") from None
    documents = [item for node in nodes if not (item := Item(source, node, "", 0)).is_null]
    if not documents:
        raise SpecError(f"{path}: the file is empty; expected at least one YAML or JSON document")
    return documents


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise SpecError(f"{path}: the file is larger than {FILE_BYTES_MAX} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: byte {error.start} is not UTF-8") from None


def _spaced(text: str) -> str:
    """`text` with spaces for tabs if it is JSON, which allows tabs between tokens and never in strings."""
    if "\t" not in text or not text.lstrip().startswith(("{", "[")):
        return text
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text.replace("\t", " ")
