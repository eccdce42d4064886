"""The settings: frozen, and nothing but a fleet is needed."""

import pytest

from derny.config import Settings
from derny.topology import DEFAULT_LATENCIES, fleet_of_shape


def test_settings_are_frozen_and_need_a_fleet() -> None:
    settings = Settings(fleet=fleet_of_shape(1), latencies=DEFAULT_LATENCIES)
    assert (settings.host, settings.port, settings.data_dir, settings.seed) == ("127.0.0.1", 5392, None, None)
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]  # that it can't be set is the point
    with pytest.raises(TypeError):
        Settings()  # type: ignore[call-arg]  # that these are required is the point
