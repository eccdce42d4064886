"""AdminService: closing and opening the gates of the daemon.

One rule: as in `api.jobs`, nothing is decided here. A request with a gate that does not exist changes
nothing; all others succeed, also for gates that are closed or open already, so `failures` stays empty.
Registered by `app`. (API reference, admin_svc.proto.)
"""

from collections.abc import Sequence

from derny.api.paging import check_terms
from derny.core.commands import CloseGates, OpenGates
from derny.core.gates import NAMES
from derny.model.errors import Invalid
from derny.model.periods import Limits
from derny.model.states import Gate
from derny.proto.peloton.api.v1alpha.admin import svc
from derny.runtime.loop import Loop


class AdminService(svc.AdminServiceBase):
    """Closing and opening the gates of the daemon."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits

    async def lockdown(self, message: svc.LockdownRequest) -> svc.LockdownResponse:
        gates = _gates(message.components, self._limits)
        await self._loop.submit(CloseGates(gates))
        return svc.LockdownResponse(successes=_components(gates))

    async def remove_lockdown(self, message: svc.RemoveLockdownRequest) -> svc.RemoveLockdownResponse:
        gates = _gates(message.components, self._limits)
        await self._loop.submit(OpenGates(gates))
        return svc.RemoveLockdownResponse(successes=_components(gates))


def _gates(components: Sequence[int], limits: Limits) -> list[Gate]:
    """The gates that a request names, each once, in its order; Invalid for none and for unknown ones,
    Exhausted for too many."""
    check_terms("components", components, limits)
    expected = ", ".join(f"{name} ({gate.value})" for gate, name in NAMES.items())
    if not components:
        raise Invalid(f"components is empty; expected at least one of {expected}")
    known = set(Gate)
    for component in components:
        if component not in known:
            raise Invalid(f"components has {int(component)}; expected only {expected}")
    return [Gate(component) for component in dict.fromkeys(components)]


def _components(gates: Sequence[Gate]) -> list[svc.Component]:
    return [svc.Component(gate) for gate in gates]
