"""Items of YAML and JSON files: what the file says, and where."""

from collections.abc import Callable
from pathlib import Path

import pytest

from derny.client import yaml_tree
from derny.client.yaml_tree import Item, SpecError, read

ItemOf = Callable[[str], Item]


@pytest.fixture
def item_of(tmp_path: Path) -> ItemOf:
    """The first document of a file with the given text."""

    def item_of(text: str) -> Item:
        path = tmp_path / "f.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        return read(path)[0]

    return item_of


@pytest.mark.parametrize(
    "word", ["no", "on", "1.10", "010", "1:30", "0x1F", "2024-01-01", "1_000", "true", "=", "+5"]
)
def test_text_is_as_written(item_of: ItemOf, word: str) -> None:
    """YAML 1.1 would turn each of these words into something else."""
    assert item_of(f"key: {word}").fields(["key"])["key"].text() == word


@pytest.mark.parametrize("word", ["null", "~", ""])
def test_null_is_left_out_and_is_no_text(item_of: ItemOf, word: str) -> None:
    assert item_of(f"key: {word}").fields(["key"]) == {}
    with pytest.raises(SpecError, match=r"f\.yaml:1:\d: \[0\] is empty; expected text"):
        next(item_of(f"- {word}").items()).text()


def test_quoted_null_is_text(item_of: ItemOf) -> None:
    assert item_of("key: 'null'").fields(["key"])["key"].text() == "null"


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-5", -5), ("'7'", 7), ("4.0", 4), ("1e2", 100)])
def test_whole_numbers(item_of: ItemOf, text: str, value: int) -> None:
    assert item_of(text).whole(-5, 100) == value


@pytest.mark.parametrize(
    "text", ["101", "-6", "1.5", "010", "0x10", "1_0", "1:30", ".nan", "ten", "9" * 5000, "[1]"]
)
def test_other_numbers_are_refused(item_of: ItemOf, text: str) -> None:
    with pytest.raises(SpecError, match="expected a whole number from -5 to 100"):
        item_of(text).whole(-5, 100)


def test_whole_numbers_of_64_bits_are_exact(item_of: ItemOf) -> None:
    assert item_of("18446744073709551615").whole(0, 2**64 - 1) == 2**64 - 1
    with pytest.raises(SpecError):
        item_of("9007199254740993.0").whole(0, 2**64 - 1)  # a double would read another number


@pytest.mark.parametrize(("text", "value"), [("true", True), ("Yes", True), ("off", False), ("FALSE", False)])
def test_truths(item_of: ItemOf, text: str, value: bool) -> None:
    assert item_of(text).truth() is value


@pytest.mark.parametrize("text", ['"true"', "1", "maybe", "[true]"])
def test_other_truths_are_refused(item_of: ItemOf, text: str) -> None:
    with pytest.raises(SpecError, match="expected true or false, without quotes"):
        item_of(text).truth()


def test_keys_are_equal_after_folding_and_the_unknown_one_is_placed(item_of: ItemOf) -> None:
    item = item_of("instance_count: 1\nINSTANCECOUNTER: 2\n")
    with pytest.raises(SpecError) as error:
        item.fields(["instanceCount", "name"])
    assert str(error.value).endswith(
        'f.yaml:2:1: INSTANCECOUNTER is not known; did you mean "instanceCount"?'
    )


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a_b: 1\naB: 2", "a: 1\na:", '{"a": 1, "a": 1}'])
def test_a_key_given_twice_is_refused(item_of: ItemOf, text: str) -> None:
    with pytest.raises(SpecError, match="is given twice"):
        item_of(text).fields(["a", "aB"])


def test_an_unknown_null_only_warns_where_warnings_are_collected(item_of: ItemOf) -> None:
    warnings: list[str] = []
    assert list(item_of("changelog: null\nname: x").fields(["name"], warnings)) == ["name"]
    assert len(warnings) == 1 and "changelog is not known" in warnings[0]
    with pytest.raises(SpecError, match="changelog is not known"):
        item_of("changelog: null").fields(["name"])


def test_aliases_and_merges(item_of: ItemOf) -> None:
    item = item_of("base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nboth: {<<: [*b, *m], x: 9}\nsame: *b\n")
    fields = item.fields(["base", "more", "both", "same"])
    both = {name: value.whole(0, 9) for name, value in fields["both"].fields(["x", "y", "z"]).items()}
    assert both == {"x": 9, "y": 2, "z": 4}
    assert fields["same"].fields(["x", "y"])["y"].path == "same.y"


def test_nested_aliases_cannot_fill_memory(item_of: ItemOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_tree, "ITEMS_MAX", 10_000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    def visit(item: Item) -> int:
        return sum(map(visit, item.items())) if item.is_list else 1

    with pytest.raises(SpecError, match="aliases expand the file to more than 10000 items"):
        visit(item_of("\n".join(lines)).fields([f"a{n}" for n in range(12)])["a11"])


@pytest.mark.parametrize("text", ["a: &a {a: *a}", "a: &a {<<: *a}", "{a: " * 150 + "1" + "}" * 150])
def test_endless_and_deep_nesting_is_refused(item_of: ItemOf, text: str) -> None:
    def descend(item: Item) -> None:
        descend(item.fields(["a"])["a"])

    with pytest.raises(SpecError, match="nested deeper than 100 levels"):
        descend(item_of(text))


def test_nesting_that_would_exhaust_the_stack_is_refused(item_of: ItemOf) -> None:
    with pytest.raises(SpecError, match="nested deeper"):
        item_of("[" * 20_000)


def test_json_may_have_tabs_escapes_and_a_byte_order_mark(item_of: ItemOf) -> None:
    item = item_of('\ufeff{\n\t"a":\t"x\\/y\\t\\ud83d\\ude00",\n\t"b": [1,\t2]\n}\n')
    fields = item.fields(["a", "b"])
    assert fields["a"].text() == "x/y\t😀"
    assert [one.whole(0, 9) for one in fields["b"].items()] == [1, 2]


def test_half_a_surrogate_pair_is_refused(item_of: ItemOf) -> None:
    with pytest.raises(SpecError, match="a has half a surrogate pair"):
        item_of('{"a": "\\ud83d"}').fields(["a"])["a"].text()


@pytest.mark.parametrize("text", ["a: !secret x", "!job {a: 1}"])
def test_tags_are_refused(item_of: ItemOf, text: str) -> None:
    with pytest.raises(SpecError, match="expected no tags"):
        item_of(text).fields(["a"])


@pytest.mark.parametrize("text", ["? [a]\n: 1", "{[a]: 1}", "~: 1"])
def test_keys_are_names(item_of: ItemOf, text: str) -> None:
    with pytest.raises(SpecError):
        item_of(text).entries()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1,\nb: 2", r"f\.yaml:2:\d+: not valid YAML: "),
        (b"a: \x01", r"f\.yaml: not valid YAML: "),
        (b"a: \xff", r"f\.yaml: byte 3 is not UTF-8"),
        (b"", r"f\.yaml: the file is empty"),
        (b"---\n---\n# nothing\n", r"f\.yaml: the file is empty"),
        (b"#" * (yaml_tree.FILE_BYTES_MAX + 1), r"f\.yaml: the file is larger than 4194304 bytes"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        read(path)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="none: No such file"):
        read(tmp_path / "none")
    with pytest.raises(SpecError, match="Is a directory"):
        read(tmp_path)


def test_several_documents_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("---\na: 1\n---\n\n---\n  b: 2\n")
    assert [item.place for item in read(path)] == [f"{path}:2:1", f"{path}:6:3"]
