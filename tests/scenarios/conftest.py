"""The option that has transcripts written anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="write down what the calls of the scenarios are answered now"
    )
