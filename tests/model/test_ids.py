"""How pod names, pod ids and entity versions are spelled and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derny.model import ids
from derny.model.errors import Invalid
from derny.model.ids import JobId

UUID = "b2f5c7d0-1234-4abc-8def-0123456789ab"

uuids = st.uuids().map(lambda uuid: JobId(str(uuid)))


@given(uuids, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_what_is_spelled_is_read_back(job: JobId, instance: int, run: int) -> None:
    assert ids.parse_pod_name(ids.pod_name(job, instance)) == (job, instance)
    assert ids.parse_pod_id(ids.pod_id(job, instance, run)) == (job, instance, run)


def test_a_pod_name_splits_at_its_last_dash() -> None:
    assert ids.parse_pod_name(f"{UUID}-1234") == (UUID, 1234)


@pytest.mark.parametrize(
    "name",
    [
        f"{UUID}-1234test",
        "Test-1234",
        "Test",
        "Test_1234",
        "",
        UUID,
        f"{UUID}-",
        f"{UUID}--1",
        f"{UUID}-+1",
        f"{UUID}- 1",
        f"{UUID}-1\n",
        f"{UUID}-٣",
        f"{UUID}-{2**32}",
        f"x{UUID}-1",
        f"{UUID}-1-1",
    ],
)
def test_what_is_no_pod_name_is_refused_with_the_text(name: str) -> None:
    with pytest.raises(Invalid, match=r"pod_name .* is not a pod name"):
        ids.parse_pod_name(name)


def test_a_pod_id_splits_at_its_last_two_dashes() -> None:
    assert ids.parse_pod_id(f"{UUID}-1-7") == (UUID, 1, 7)
    assert ids.parse_pod_id(f"{UUID}-0-{2**64 - 1}") == (UUID, 0, 2**64 - 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        UUID,
        f"{UUID}-1",
        f"{UUID}-1-abc",
        f"{UUID}-1-{UUID}",
        f"{UUID}-1-1-1",
        f"{UUID}-1-{2**64}",
        f"{UUID}-{2**32}-1",
        f"{UUID}-1-",
    ],
)
def test_what_is_no_pod_id_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(Invalid, match=r"pod_id .* is not a pod id"):
        ids.parse_pod_id(text)


@pytest.mark.parametrize(("parts", "text"), [((1, 2, 2), "1-2-2"), ((10, 4, 3), "10-4-3"), ((10,), "10-0-0")])
def test_versions_are_three_numbers_and_a_pods_ends_in_zeros(parts: tuple[int, ...], text: str) -> None:
    assert ids.entity_version(*parts) == text
    assert ids.parse_config_version(text) == parts[0]


@pytest.mark.parametrize(
    "text", ["a", "", "1", "1-1", "1-1-1-1", "1-1-x", "-1-1-1", "1--1", " 1-1-1", "1-1-1\n"]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is not an entity version"):
        ids.parse_config_version(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (UUID, True),
        (UUID.upper(), True),
        (UUID.replace("-", ""), False),
        (UUID + "\n", False),
        ("{" + UUID + "}", False),
        ("root", False),
        ("", False),
    ],
)
def test_a_uuid_has_dashes_and_hex_digits_of_either_case(text: str, is_one: bool) -> None:
    assert ids.is_uuid(text) is is_one
