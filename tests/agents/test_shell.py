"""The shell's clock, variables and bounds, with programs of the test's own."""

import math

from derny.agents.script import parse
from derny.agents.shell import EFFORT_MAX, OUTPUT_MAX, RUNS_MAX_S, UNKNOWN, Account, Shell


def nap(shell: Shell, arguments: list[str]) -> None:
    shell.wait_until(shell.now_s + float(arguments[0]))
    shell.status = 0


def say(shell: Shell, arguments: list[str]) -> None:
    shell.write("|".join(arguments) + "\n")


def lived(script: str, **variables: str) -> Shell:
    shell = Shell({"nap": nap, "say": say}, dict(variables), Account())
    shell.live(parse(script))
    return shell


def test_commands_in_the_background_start_at_once_and_delay_nothing() -> None:
    shell = lived("nap 1; (nap 5; say child) & nap 2")
    assert shell.now_s == 3
    assert shell.children_end_s == 6
    assert shell.account.output == "child\n"


def test_the_parts_of_a_pipeline_start_together() -> None:
    assert lived("nap 1; nap 2 | nap 4 | nap 3").now_s == 5


def test_words_are_expanded_as_sh_does() -> None:
    shell = lived("""say $A "$A" '$A' ${A}x "a\\"b" \\$A $NONE "$NONE" ${NONE:-d} it\\'s""", A="1  2")
    assert shell.account.output == "1|2|1  2|$A|1  2x|a\"b|$A||d|it's\n"


def test_what_only_a_real_shell_could_know_is_marked_and_not_written() -> None:
    assert lived("A=x; say $A").expand('"$(date)$A"') == UNKNOWN + "x"
    assert lived("say now: `date`").account.output == "now:|\n"


def test_a_subshell_keeps_its_variables_to_itself() -> None:
    assert lived("A=1; (A=2; say $A); say $A").account.output == "2\n1\n"


def test_an_unknown_program_and_thirty_years_are_for_ever() -> None:
    assert lived("nap 1; unknown; say never").now_s == math.inf
    assert lived(f"nap {RUNS_MAX_S}").now_s == RUNS_MAX_S
    assert lived(f"nap {RUNS_MAX_S * 2}").now_s == math.inf


def test_output_is_cut_at_its_limit() -> None:
    shell = lived("say $LONG; say $LONG; say $LONG; nap 1", LONG="x" * 2000)
    assert shell.account.output == (("x" * 2000 + "\n") * 3)[:OUTPUT_MAX]
    assert shell.now_s == 1


def test_a_loop_is_counted_out_until_the_effort_is_spent() -> None:
    assert lived("for i in " + "1 " * 200 + "; do nap 1; done").now_s == 200
    assert lived("for i in " + "1 " * EFFORT_MAX + "; do nap 1; done").now_s == math.inf
    assert lived("while nap 1; do nap 1; done").now_s == math.inf


def test_a_loop_whose_rounds_change_nothing_is_endless_after_two_of_them() -> None:
    shell = lived("A=1; while nap 1; do A=2; say so; done")
    assert shell.now_s == math.inf
    assert shell.account.output == "so\nso\n"
    assert shell.account.effort_left > EFFORT_MAX - 300
