"""Ports are picked lowest first, each once."""

import pytest

from derny.placement.ports import Ports


def test_ports_are_picked_lowest_first_around_the_taken_and_the_excepted() -> None:
    ports = Ports(31000, 31006)
    ports.take([31000, 31003])
    assert ports.lowest(3, besides=(31001, 80)) == [31002, 31004, 31005]
    assert ports.lowest(5) == [31001, 31002, 31004, 31005, 31006]
    with pytest.raises(AssertionError, match="fewer than 6"):
        ports.lowest(6)


def test_an_empty_port_range_has_no_ports() -> None:
    ports = Ports(31000, 30999)
    assert ports.free_count == 0
    assert ports.lowest(0) == []


@pytest.mark.parametrize("number", [31002, 80])
def test_a_number_is_taken_once_in_the_range_and_outside(number: int) -> None:
    ports = Ports(31000, 31006)
    ports.take([number])
    assert (ports.is_free(number), ports.used()) == (False, [number])
    with pytest.raises(AssertionError, match="taken already"):
        ports.take([number])
    ports.give_back([number])
    with pytest.raises(AssertionError, match="free already"):
        ports.give_back([number])
