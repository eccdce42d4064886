"""Every method of the contract is served: by the daemon's own code, and by no bare refusal."""

import inspect

import pytest

from derny.api.admin import AdminService
from derny.api.hosts import HostService
from derny.api.jobs import JobService
from derny.api.pods import PodService
from derny.api.pools import ResourcePoolService
from derny.api.volumes import VolumeService
from derny.api.watch import WatchService
from derny.model.periods import Limits

SERVICES = [
    JobService,
    PodService,
    ResourcePoolService,
    HostService,
    VolumeService,
    WatchService,
    AdminService,
]
METHODS = {path: handler for kind in SERVICES for path, handler in kind(None, Limits()).__mapping__().items()}


@pytest.mark.parametrize("path", METHODS)
def test_a_method_has_code_of_its_own(path):
    handler = METHODS[path].func
    _, generated, name = handler.__name__.partition("__rpc_")
    # The generated base has a method by this name, which answers UNIMPLEMENTED.
    code = getattr(type(handler.__self__), name) if generated else handler
    assert not inspect.getmodule(code).__name__.startswith("derny.proto")
