"""The grammar: which texts are followed and which are beyond it."""

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from derny.agents.script import NESTING_MAX, TEXT_MAX, parse
from derny.agents.shell import AndOr, Endless, Pipeline, Sequence, Simple


def test_a_list_becomes_its_parts() -> None:
    program, sleep = Simple(["program", "'a b'"]), Simple(["sleep", "1"])
    assert parse("program 'a b' && sleep 1 & sleep 1 # done") == Sequence(
        [
            (AndOr([("", Pipeline([program], False)), ("&&", Pipeline([sleep], False))]), True),
            (AndOr([("", Pipeline([sleep], False))]), False),
        ]
    )


BEYOND = """' | " | ` | $( | ${ | ( | { true | true) | fi | if true; fi | for | for x | for x in
| while true; done | case x in | f() { true; } | true && | true; ;; true | cat <<EOF | true > | & | !"""


@pytest.mark.parametrize("text", [*(text.strip() for text in BEYOND.split("| ")), "| true"])
def test_what_is_beyond_the_subset_is_endless(text: str) -> None:
    assert parse(text) == Endless()


def test_length_and_nesting_have_limits() -> None:
    assert parse("#" * TEXT_MAX) == Sequence([])
    assert parse("#" * (TEXT_MAX + 1)) == Endless()
    assert parse("(" * (NESTING_MAX - 1) + ":" + ")" * (NESTING_MAX - 1)) != Endless()
    assert parse("(" * NESTING_MAX + ":" + ")" * NESTING_MAX) == Endless()


@settings(deadline=None)
@given(st.text(alphabet="ab \n;&|(){}<>\"'`$\\#!="))
@example("${" * (TEXT_MAX // 2))
@example("a`" * (TEXT_MAX // 2))
def test_any_text_is_parsed_to_the_same_script_each_time(text: str) -> None:
    assert parse(text) == parse(text)
