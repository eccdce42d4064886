"""What an agent may register with."""

import pytest

from derny.model.agents import AMOUNT_MAX, DEFAULT_CAPACITY, is_host_name


@pytest.mark.parametrize("name", ["a", "host-0", "rack1.dc2.example.com", "a_b", "0", "x" * 253])
def test_names_of_hosts(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "é", "x" * 254, "a\n"])
def test_what_is_no_name_of_a_host(name: str) -> None:
    assert not is_host_name(name)


def test_the_default_is_a_host_that_may_be() -> None:
    assert all(0 <= amount <= AMOUNT_MAX for amount in DEFAULT_CAPACITY)
