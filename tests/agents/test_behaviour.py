"""What a command does, against what sh does with it."""

import math

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from derny.agents.behaviour import UNTIL_KILLED, Behaviour, plan, probe
from derny.agents.script import NESTING_MAX, TEXT_MAX
from derny.agents.shell import CALLS_MAX, OUTPUT_MAX
from derny.model.specs import Command

EVER = math.inf


def life(script: str, **environment: str) -> tuple[float, int]:
    """Run time and exit code of a shell command; the exit code of an endless one is not looked at."""
    behaviour = plan(Command(script), tuple(environment.items()))
    return behaviour.runs_s, behaviour.exit_code if behaviour.runs_s < EVER else 0


@pytest.mark.parametrize(
    ("script", "runs_s", "exit_code"),
    [
        ("sleep 5", 5, 0),
        ("sleep 0.5", 0.5, 0),
        ("sleep .5", 0.5, 0),
        ("sleep 2m", 120, 0),
        ("sleep 1h", 3600, 0),
        ("sleep 1 2m", 121, 0),
        ("sleep", 0, 1),
        ("sleep soon", 0, 1),
        ("sleep infinity", EVER, 0),
        ("sleep 99999999999999999999d", EVER, 0),
        ("exit 3", 0, 3),
        ("exit 256", 0, 0),
        ("exit nonsense", 0, 2),
        ("false; exit", 0, 1),
        ("true", 0, 0),
        ("false", 0, 1),
        (":", 0, 0),
        ("   ", 0, 0),
        ("# only a comment, isn't it", 0, 0),
        ("echo hi; sleep 2; echo there", 2, 0),
        ("sleep 1; sleep 2", 3, 0),
        ("sleep 1\nsleep 2 # and a note\n\nexit 4", 3, 4),
        ("false && sleep 5", 0, 1),
        ("false || sleep 5", 5, 0),
        ("true && exit 7 || exit 8", 0, 7),
        ("false && exit 7 || exit 8", 0, 8),
        ("! true", 0, 1),
        ("sleep 9 & sleep 2", 2, 0),
        ("sleep 9 &", 0, 0),
        ("sleep 9 & sleep 2 & wait; exit 1", 9, 1),
        ("daemon & exit 3", 0, 3),
        ("daemon & wait", EVER, 0),
        ("(sleep 3; exit 2)", 3, 2),
        ("(exit 2); sleep 1", 1, 0),
        ("{ sleep 3; exit 2; }; sleep 10", 3, 2),
        ("sleep 5 | sleep 2", 5, 0),
        ("true | false", 0, 1),
        ("exec sleep 4; exit 9", 4, 0),
        ("exec >/dev/null; exit 9", 0, 9),
        ("X=3; sleep $X; exit ${X}", 3, 3),
        ("sleep ${X:-6}", 6, 0),
        ("X='sleep 3'; $X", 3, 0),
        ("X='sleep 3'; \"$X\"", EVER, 0),
        ("FOO=bar sleep 1", 1, 0),
        ("false; exit $?", 0, 1),
        ('sh -c "sleep 2; exit 5"', 2, 5),
        ("bash -ec 'sleep 2 && exit 5'; sleep 1", 3, 0),
        ("env A=4 sh -c 'exit $A'", 0, 4),
        ("export A=4; exit $A", 0, 4),
        ("sleep 1 >/dev/null 2>&1", 1, 0),
        ("sleep 1 2>/dev/null;exit 1", 1, 1),
        ("/bin/sleep 3", 3, 0),
        ("'sleep' \"3\"", 3, 0),
        ("sleep \\\n 3", 3, 0),
        ("if false; then sleep 9; elif true; then sleep 1; else sleep 8; fi", 1, 0),
        ("if false; then sleep 9; else sleep 8; fi", 8, 0),
        ("if false; then exit 9; fi", 0, 0),
        ("for i in 1 2 3; do sleep $i; done", 6, 0),
        ("for i in 1 2; do\n sleep 1\ndone; exit 3", 2, 3),
        ("while false; do sleep 1; done", 0, 0),
        ("until true; do sleep 1; done; exit 6", 0, 6),
        ("while true; do sleep 1; done", EVER, 0),
        ("while :; do echo tick; sleep 30; done", EVER, 0),
        ("while :; do :; done", EVER, 0),
        ("until false; do sleep 1; done", EVER, 0),
        ("while :; do sleep 5; exit 3; done", 5, 3),
        ("while ! check; do sleep 1; done", EVER, 0),
        ('while [ "$X" != aaa ]; do X=a$X; sleep 1; done', 3, 0),
        ("(sleep 30; touch /go) & until [ -e /go ]; do sleep 7; done; exit 4", 35, 4),
        ("until [ -e /a ] && [ -e /b ]; do touch /b; [ -e /c ] && touch /a; touch /c; done; exit 5", 0, 5),
        ("while true; do touch /tmp/alive; sleep 1; done", EVER, 0),
        ("sleep 9 & while wait; do sleep 1; done", EVER, 0),
        ("python -m http.server", EVER, 0),
        ("sleep 1; /usr/bin/server --port=$PORT; exit 1", EVER, 0),
        ("sleep 1 && server &", 0, 0),
        ("sleep $(shuf -n1 times)", EVER, 0),
        ("sleep `cat time`", EVER, 0),
        ("exit $((1 + (2 * 3)))", EVER, 0),
        ("f() { exit 1; }; f", EVER, 0),
        ("case x in x) exit 1;; esac", EVER, 0),
        ("cat <<EOF\nexit\nEOF\n", EVER, 0),
        ("echo 'unterminated", EVER, 0),
        ("done", EVER, 0),
        ("for", EVER, 0),
        ("sleep 1 >", EVER, 0),
        ("(sleep 1", EVER, 0),
        ("&& true", EVER, 0),
    ],
)
def test_a_script_runs_and_ends_as_sh_has_it(script: str, runs_s: float, exit_code: int) -> None:
    assert life(script) == (runs_s, exit_code)


@pytest.mark.parametrize(
    ("command", "runs_s", "exit_code"),
    [
        (Command("/bin/sleep", ("5",), shell=False), 5, 0),
        (Command("/bin/sleep", ("sleep", "5"), shell=False), 5, 0),
        (Command("/bin/sh", ("-c", "sleep 2; exit 3"), shell=False), 2, 3),
        (Command("/bin/sh", ("sh", "-c", "sleep 2; exit 3"), shell=False), 2, 3),
        (Command("/usr/bin/env", ("X=1", "/bin/false"), shell=False), 0, 1),
        (Command("sleep 5", (), shell=False), EVER, 0),
        (Command("sleep", ("$X",), shell=False), 0, 1),
        (Command("/usr/sbin/nginx", ("-g", "daemon off;"), shell=False), EVER, 0),
    ],
)
def test_without_a_shell_the_value_is_a_program(command: Command, runs_s: float, exit_code: int) -> None:
    """No splitting, no variables; the program's own name may come first among the arguments or not."""
    behaviour = plan(command)
    assert behaviour.runs_s == runs_s
    assert exit_code == (behaviour.exit_code if runs_s < EVER else 0)


@pytest.mark.parametrize("command", [Command(), Command("", ("x",)), Command("", ("x",), shell=False)])
def test_an_empty_command_is_the_images_entry_point(command: Command) -> None:
    assert plan(command) == UNTIL_KILLED == Behaviour(EVER, 0, EVER, "")


def test_the_environment_is_seen() -> None:
    assert life("sleep $NAP; exit $CODE", NAP="4", CODE="2") == (4, 2)


@pytest.mark.parametrize(
    ("script", "deaf_after_s"),
    [
        ("sleep 100", EVER),
        ("trap '' TERM; sleep 100", 0),
        ("sleep 3; trap '' SIGTERM INT; sleep 100", 3),
        ("trap '' 15; sleep 1; trap - TERM; sleep 100", EVER),
        ("trap 'echo bye; exit' TERM; sleep 100", EVER),
        ("trap '' INT; server", EVER),
        ("exec sh -c \"trap '' TERM; server\"", 0),
        ("(trap '' TERM; sleep 1) & sleep 100", EVER),
    ],
)
def test_an_empty_trap_makes_it_deaf_to_sigterm(script: str, deaf_after_s: float) -> None:
    assert plan(Command(script)).deaf_after_s == deaf_after_s


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("echo hello world", "hello world\n"),
        ("echo -n 'a  b' \"c\"; echo", "a  bc\n".replace("bc", "b c")),
        (r'echo -e "a\tb"', "a\tb\n"),
        ("printf 'n=%d s=%s\\n' 7 x", "n=7 s=x\n"),
        ("NAME=you; echo \"hi $NAME\" '$NAME'", "hi you $NAME\n"),
        ('echo "it\'s \\$5"', "it's $5\n"),
        ('echo "at $(date) now"', "at  now\n"),
        ("echo lost >/dev/null; echo >&2 lost; echo kept 2>&1", "kept\n"),
        ("echo first | echo second", "second\n"),
        ("{ echo a; echo b; } > file; echo c", "c\n"),
        ("echo a & echo b", "a\nb\n"),
        ("for w in x y; do echo $w; done", "x\ny\n"),
    ],
)
def test_stdout_is_collected(script: str, output: str) -> None:
    assert plan(Command(script)).output == output


def test_output_is_bounded() -> None:
    assert (
        plan(Command("echo " + "x" * 3000 + "; echo " + "y" * 3000)).output == "x" * 3000 + "\n" + "y" * 1095
    )
    assert OUTPUT_MAX == 4096


def test_a_word_that_doubles_itself_is_bounded() -> None:
    assert life("X=xx; while :; do X=$X$X; done") == (EVER, 0)


def test_a_script_that_starts_itself_is_bounded() -> None:
    assert life('sh -c "$SELF"', SELF='sh -c "$SELF"') == (EVER, 0)


def test_nesting_is_bounded_on_both_sides_of_the_limit() -> None:
    levels = NESTING_MAX - 1
    assert life("(" * levels + "exit 3" + ")" * levels) == (0, 3)
    assert life("(" * 5000 + "exit 3" + ")" * 5000) == (EVER, 0)
    assert life("exec " * (CALLS_MAX - 1) + "exit 3") == (0, 3)
    assert life("exec " * 3000 + "exit 3") == (EVER, 0)
    assert life("if false; then :; " + "elif false; then :; " * 500 + "else exit 3; fi") == (0, 3)


def test_the_deepest_script_that_is_followed_stays_within_the_stack() -> None:
    """Every level of calls has every level of groups in it."""
    wrapped = "(" * (NESTING_MAX - 1) + 'sh -c "$SELF" | :' + ")" * (NESTING_MAX - 1)
    assert life(wrapped, SELF=wrapped) == (EVER, 0)


def test_a_very_long_script_is_not_read() -> None:
    assert life("exit 1 #" + "x" * (TEXT_MAX - 8)) == (0, 1)
    assert life("exit 1 #" + "x" * TEXT_MAX) == (EVER, 0)


fragments = st.sampled_from(
    r"""sleep 1 2m exit 3 true false echo hi $X ${X} ${X:-2} "$X" 'a b' $( ` ; & && || | ( ) { } ! while until
    do done for in if then elif else fi case esac > 2>&1 < << >> trap '' TERM exec sh -c env A=b wait # \ ' "
    $ ${ X=1 X=$X$X ~ exit~1; while~:;~do for~i~in~1~2~3;~do done; sh~-c~" ~~""".replace("~~", "\n").split()
).map(lambda text: text.replace("~", " "))


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(st.text(), st.lists(fragments, max_size=40).map(" ".join), st.lists(fragments).map("".join)),
    st.booleans(),
)
@example("for", True)
@example("${" * 4000, True)
@example("$(" * 4000, True)
@example('"' * 4001, True)
@example("a`" * 4001, True)
@example("for i in " + "1 " * 500 + ";do for j in " + "1 " * 500 + ";do\n done;done", True)
@example("sleep ４", True)
def test_any_text_has_a_behaviour(text: str, shell: bool) -> None:
    behaviour = plan(Command(text, (text,), shell))
    assert behaviour.runs_s >= 0
    assert 0 <= behaviour.exit_code < 256
    assert len(behaviour.output) <= OUTPUT_MAX
    assert plan(Command(text, (text,), shell)) == behaviour


def test_a_container_sees_the_volumes_that_are_mounted_for_it() -> None:
    command = Command("ls /data && test -d /data || exit 3")
    assert plan(command, files=((0.0, "/data", True),)).exit_code == 0
    assert plan(command).exit_code == 3
    assert probe(Command("ls /data"), (), plan(Command(), files=((0.0, "/data", True),)).files, 10.0)[0]
