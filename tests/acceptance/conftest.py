"""One grpcurl for all acceptance tests."""

from pathlib import Path

import pytest

from acceptance.process import find_grpcurl


@pytest.fixture(scope="session")
def grpcurl_program() -> Path:
    return find_grpcurl()
