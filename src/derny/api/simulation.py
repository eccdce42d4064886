"""SimulationService: the simulator's own service. Its methods come with host faults.

One rule: it is told apart from the contract by its package, `derny.simulation.v1`, so that clients of the
contract never meet it by accident. Registered by `app`, so that reflection lists the name.
"""

from derny.model.periods import Limits
from derny.proto.derny.simulation import v1
from derny.runtime.loop import Loop


class SimulationService(v1.SimulationServiceBase):
    """Faults and time of the simulated cluster."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
