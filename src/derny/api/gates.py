"""The gates READ and WRITE at the counter: what an operator has closed is refused before it is looked at.

One rule: every method belongs to one of the two, by what it does to the daemon. AdminService belongs to
none, or nobody could open a gate again; nor does SimulationService, which is the world's and not ours. A
stream that has begun ends with its next message once READ is closed. `app` puts a `Guarded` before each
service. (API reference, admin_svc.proto; behaviour, jobs §0.2.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from grpclib._typing import IServable
from grpclib.const import Handler

from derny.core.gates import check_is_open
from derny.model.states import Gate
from derny.proto.derny.simulation.v1 import SimulationServiceBase
from derny.proto.peloton.api.v1alpha.admin.svc import AdminServiceBase
from derny.runtime.loop import Loop

Methods = dict[str, Handler]
"""The methods of a service by path."""

READING: Final = ("Get", "Query", "List", "Browse", "Lookup", "Watch", "Cancel", "Explain", "Plan")
"""How the names of methods begin that change nothing but what their callers are told."""


UNGUARDED: Final = (AdminServiceBase, SimulationServiceBase)


def gate_of(path: str) -> Gate:
    """The gate that a method, given by its path `/package.Service/Method`, has to pass."""
    method = path.rpartition("/")[2]
    return Gate.READ if method.startswith(READING) else Gate.WRITE


class Guarded:
    """A service whose methods are served while their gate is open."""

    def __init__(self, service: IServable, loop: Loop) -> None:
        self._service = service
        self._loop = loop

    def __mapping__(self) -> Methods:
        methods = dict(self._service.__mapping__())
        if isinstance(self._service, UNGUARDED):
            return methods
        return {path: self._guarded(gate_of(path), handler) for path, handler in methods.items()}

    def _guarded(self, gate: Gate, handler: Handler) -> Handler:
        streams = handler.cardinality.server_streaming
        return handler._replace(func=partial(self._serve, gate, streams, handler.func))

    async def _serve(self, gate: Gate, streams: bool, serve: Callable[[Any], Any], stream: Any) -> None:
        # Looked at without waiting for the turn to become durable: a refusal tells nothing of the state.
        check = partial(check_is_open, self._loop.state, gate)
        check()
        await serve(_GuardedStream(stream, check) if streams else stream)


class _GuardedStream:
    """A stream of messages whose gate may be closed while it runs."""

    def __init__(self, stream: Any, check: Callable[[], None]) -> None:
        self._stream = stream
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send_message(self, message: Any, **end: Any) -> None:
        self._check()
        await self._stream.send_message(message, **end)
