"""Which jobs a query asks for, and in which order."""

import pytest

from builders import Bench, a_job, a_pool, a_template, job_id, pool_id
from derny.answers import job_query
from derny.answers.job_query import JobCriteria, JobTexts, Span
from derny.answers.ordering import OrderBy
from derny.core import commands
from derny.model.errors import Invalid
from derny.model.states import JobState, TaskState

TEXTS = JobTexts("Ann", "Serves the *front* page", (("team", "web"), ("tier", "1")))


@pytest.fixture
def bench() -> Bench:
    """Four jobs, made at 1000, 1010, 1020 and 1030: RUNNING, KILLED at 1011, PENDING, gone."""
    bench = Bench(part=0.5)
    other = a_pool(bench.machine.state.tree.capacity, name="other", part=0.5)
    bench.do(commands.CreatePool(pool_id(1), other))
    bench.running(a_job(2, name="front-end"), job_id(1))
    bench.at = 1010
    bench.running(a_job(1, name="back-end"), job_id(2))
    bench.at = 1011
    bench.stop(job_id(2))
    bench.obey()
    bench.at = 1020
    bench.create(a_job(3, pool_id(1), "front-page", template=a_template(cpu=1000)), job_id(3))
    bench.at = 1030
    return bench


def found(bench: Bench, **criteria: object) -> list[int]:
    ids = [*map(job_id, range(1, 5))]
    rows = job_query.rows(bench.machine.state, JobCriteria(**criteria), ids, 0)  # type: ignore[arg-type]  # fields by name
    assert all(ids[row.place] == row.id for row in rows)
    return [row.place + 1 for row in rows]


def test_without_criteria_all_jobs_match_but_those_that_are_gone(bench: Bench) -> None:
    assert found(bench) == [1, 2, 3]


def test_any_of_the_states_will_do(bench: Bench) -> None:
    assert found(bench, states=frozenset({JobState.KILLED, JobState.PENDING})) == [2, 3]
    assert found(bench, states=frozenset({JobState.RUNNING})) == [1]
    assert found(bench, states=frozenset({JobState.DELETED})) == []


def test_a_part_of_the_name_will_do_and_case_matters(bench: Bench) -> None:
    assert found(bench, name="end") == [1, 2]
    assert found(bench, name="front") == [1, 3]
    assert found(bench, name="Front") == []


def test_jobs_are_in_their_pool_and_in_all_above(bench: Bench) -> None:
    state = bench.machine.state
    assert found(bench, pools=job_query.pools_at(state, "/pool")) == [1, 2]
    assert found(bench, pools=job_query.pools_at(state, "/other")) == [3]
    assert found(bench, pools=job_query.pools_at(state, "/")) == [1, 2, 3]


@pytest.mark.parametrize("path", ["/nowhere", "pool", "/pool/deeper"])
def test_a_path_that_leads_nowhere_is_invalid(bench: Bench, path: str) -> None:
    with pytest.raises(Invalid, match=path):
        job_query.pools_at(bench.machine.state, path)


def test_spans_hold_their_first_moment_and_not_their_last(bench: Bench) -> None:
    assert found(bench, created=Span(1000, 1010)) == [1]
    assert found(bench, created=Span(1010, 1021)) == [2, 3]
    assert found(bench, created=Span(0, 1000)) == []


def test_a_job_has_completed_when_it_came_to_its_end(bench: Bench) -> None:
    assert found(bench, completed=Span(0, 2000)) == [2]
    assert found(bench, completed=Span(1011, 1012)) == [2]
    assert found(bench, completed=Span(1012, 2000)) == []
    # What runs again has not completed.
    bench.start(job_id(2))
    bench.obey()
    bench.after(5)
    assert found(bench, completed=Span(0, 2000)) == []


def test_all_criteria_must_be_met(bench: Bench) -> None:
    assert found(bench, name="front", states=frozenset({JobState.PENDING})) == [3]


# Texts.


def meets(**criteria: object) -> bool:
    bench = Bench()
    bench.create(a_job(name="Front-End"))
    ids = list(bench.machine.state.jobs)
    asked = JobCriteria(**criteria)  # type: ignore[arg-type]  # fields by name
    assert asked.asks_texts
    (row,) = job_query.rows(bench.machine.state, asked, ids, 0)
    return job_query.is_met(asked, row, TEXTS)


@pytest.mark.parametrize("owner, expected", [("Ann", True), ("ann", False), ("An", False)])
def test_the_owner_is_exact(owner: str, expected: bool) -> None:
    assert meets(owner=owner) is expected


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([("team", "web")], True),
        ([("team", "web"), ("tier", "1")], True),
        ([("team", "1")], False),
        ([("tier", "web")], False),
        ([("team", "")], False),
        ([("team", "web"), ("zone", "a")], False),
    ],
)
def test_a_label_is_a_key_and_its_value(labels: list[tuple[str, str]], expected: bool) -> None:
    assert meets(labels=tuple(labels)) is expected


@pytest.mark.parametrize(
    "keywords, expected",
    [
        (["front-end"], True),
        (["FRONT"], True),
        (["ann"], True),
        (["web"], True),
        (["tier"], True),
        (["serves"], True),
        (["serves*page"], True),
        (["page*serves"], False),
        (["s*s*page"], True),
        (["*page**"], True),
        (["*"], True),
        (["ann", "web"], True),
        (["ann", "bob"], False),
        # Each in one text: none goes from the owner on into the name.
        (["ann*front"], False),
        (["*"], True),
    ],
)
def test_keywords_are_looked_for_everywhere_in_any_case(keywords: list[str], expected: bool) -> None:
    assert meets(keywords=tuple(map(job_query.pieces_of, keywords))) is expected


def test_a_keyword_has_as_many_pieces_as_have_to_be_found() -> None:
    assert job_query.pieces_of("A*b") == ("a", "b")
    assert job_query.pieces_of("**ab***") == ("ab",)
    assert job_query.pieces_of("*" * 255) == job_query.pieces_of("") == ()


# Order.


def ordered(bench: Bench, *order: OrderBy) -> list[int]:
    ids = [*map(job_id, range(1, 4))]
    rows = job_query.rows(bench.machine.state, JobCriteria(), ids, 0)
    owners = {1: "b", 2: "a", 3: "b"}
    keys = [job_query.key_of(order, row, JobTexts(owners[row.place + 1])) for row in rows]
    return [number for _key, number in sorted(zip(keys, range(1, 4), strict=True))]


def test_every_field_sorts(bench: Bench) -> None:
    assert ordered(bench, OrderBy("creation_time")) == [1, 2, 3]
    assert ordered(bench, *job_query.NEWEST_FIRST) == [3, 2, 1]
    assert ordered(bench, OrderBy("name")) == [2, 1, 3]
    assert ordered(bench, OrderBy("name", True)) == [3, 1, 2]
    assert ordered(bench, OrderBy("instance_count", True)) == [3, 1, 2]
    assert ordered(bench, OrderBy("state")) == [3, 1, 2]
    assert ordered(bench, OrderBy("respool_id")) == [2, 1, 3]
    assert ordered(bench, OrderBy("completion_time", True))[0] == 2
    assert ordered(bench, OrderBy("start_time", True))[0] == 2
    assert ordered(bench, OrderBy("update_time", True)) == [3, 2, 1]


def test_keys_go_one_after_the_other_and_the_newer_of_equals_comes_first(bench: Bench) -> None:
    assert ordered(bench, OrderBy("owner")) == [2, 3, 1]
    assert ordered(bench, OrderBy("owner"), OrderBy("name")) == [2, 1, 3]
    assert ordered(bench, OrderBy("job_type")) == [3, 2, 1]


def test_a_job_starts_once(bench: Bench) -> None:
    started = bench.job(job_id(1)).started_at
    assert started == 1000
    bench.report(TaskState.FAILED, 0, 1, job=job_id(1))
    bench.after(100)
    bench.obey()
    bench.report(TaskState.RUNNING, 0, 1, job=job_id(1))
    bench.after(10)
    assert bench.job(job_id(1)).state is JobState.RUNNING
    assert bench.job(job_id(1)).started_at == started
