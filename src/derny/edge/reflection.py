"""What the server says about itself: gRPC reflection (v1 and v1alpha) and health (v1).

One rule: these services parse their own messages (their message type is `bytes`), so that Google's protobuf
and the descriptors are loaded by the first call that needs them and not by a daemon that is starting.
`edge.server` registers them beside the contract's services. Sources: grpc/reflection/v1/reflection.proto,
grpc/health/v1/health.proto.
"""

import importlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import anyio
from grpclib.const import Cardinality, Handler, Status
from grpclib.server import Stream

from derny.model.errors import Invalid, NotFound, Unavailable

RawStream = Stream[bytes, bytes]

HEALTH = "grpc.health.v1.Health"
REFLECTION = {
    "grpc.reflection.v1.ServerReflection": "grpclib.reflection.v1.reflection_pb2",
    "grpc.reflection.v1alpha.ServerReflection": "grpclib.reflection.v1alpha.reflection_pb2",
}
"""The services, which differ in name only, and the modules of their messages."""
HEALTH_MESSAGES = "grpclib.health.v1.health_pb2"

SHUTTING_DOWN = "the daemon is shutting down"


def _parse(message_type: Any, data: bytes) -> Any:
    """A protobuf message out of a request; raises `Invalid`."""
    try:
        return message_type.FromString(data)
    except importlib.import_module("google.protobuf.message").DecodeError as error:
        raise Invalid(f"the request is not a {message_type.DESCRIPTOR.full_name}: {error}") from error


class Reflection:
    """Answers what there is and how it is described, from a FileDescriptorSet."""

    def __init__(self, services: Sequence[str], descriptors: bytes) -> None:
        self._services = services
        self._descriptors = descriptors

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/{service}/ServerReflectionInfo": Handler(
                partial(self._converse, messages), Cardinality.STREAM_STREAM, bytes, bytes
            )
            for service, messages in REFLECTION.items()
        }

    async def _converse(self, messages: str, stream: RawStream) -> None:
        pb2 = importlib.import_module(messages)
        async for data in stream:
            request = _parse(pb2.ServerReflectionRequest, data)
            response = self._answer(pb2, request)
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            await stream.send_message(response.SerializeToString())

    def _answer(self, pb2: Any, request: Any) -> Any:
        match request.WhichOneof("message_request"):
            case "list_services":
                names = [pb2.ServiceResponse(name=name) for name in sorted(self._services)]
                return pb2.ServerReflectionResponse(
                    list_services_response=pb2.ListServiceResponse(service=names)
                )
            case "file_by_filename":
                return self._file(pb2, request.file_by_filename, request.file_by_filename)
            case "file_containing_symbol":
                symbol = request.file_containing_symbol
                return self._file(pb2, self._index.file_of.get(symbol.removeprefix("."), ""), symbol)
            case "file_containing_extension" | "all_extension_numbers_of_type":
                # proto3 has no extensions, so there are none to number.
                return self._error(pb2, Status.NOT_FOUND, "the contract is proto3 and has no extensions")
            case _:
                return self._error(pb2, Status.INVALID_ARGUMENT, "the request asks for nothing")

    def _file(self, pb2: Any, name: str, asked: str) -> Any:
        if name not in self._index.files:
            return self._error(pb2, Status.NOT_FOUND, f"there is no {asked!r} in the contract")
        found = pb2.FileDescriptorResponse(file_descriptor_proto=[self._index.files[name]])
        return pb2.ServerReflectionResponse(file_descriptor_response=found)

    def _error(self, pb2: Any, status: Status, sentence: str) -> Any:
        error = pb2.ErrorResponse(error_code=status.value, error_message=sentence)
        return pb2.ServerReflectionResponse(error_response=error)

    @cached_property
    def _index(self) -> "DescriptorIndex":
        return DescriptorIndex(self._descriptors)


class DescriptorIndex:
    """The descriptor files by name, and for every full name in them the file that declares it.

    Protobuf's own pool is not enough: it does not find methods by name.
    """

    def __init__(self, descriptors: bytes) -> None:
        pb2: Any = importlib.import_module("google.protobuf.descriptor_pb2")
        known = list(pb2.FileDescriptorSet.FromString(descriptors).file)
        for module in (HEALTH_MESSAGES, *REFLECTION.values()):
            own = importlib.import_module(module).DESCRIPTOR
            known.append(pb2.FileDescriptorProto.FromString(own.serialized_pb))
        self.files: dict[str, bytes] = {file.name: file.SerializeToString() for file in known}
        self.file_of: dict[str, str] = {
            symbol: file.name for file in known for symbol in _symbols(file.package, file)
        }


def _symbols(scope: str, declared: Any) -> Iterator[str]:
    """Full names of all that a file or a message declares. An enum's values live in the scope around the
    enum."""
    prefix = f"{scope}." if scope else ""
    for message in getattr(declared, "message_type", ()) or getattr(declared, "nested_type", ()):
        yield prefix + message.name
        yield from _symbols(prefix + message.name, message)
    for enum in declared.enum_type:
        yield prefix + enum.name
        yield from (prefix + value.name for value in enum.value)
    for member in (*getattr(declared, "field", ()), *getattr(declared, "oneof_decl", ())):
        yield prefix + member.name
    for service in getattr(declared, "service", ()):
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


class Health:
    """Whether the daemon serves: the same for every service of it, and for "", the whole."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = {"", *services}
        self._serving = False
        self._ending = False
        self._changed = anyio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    def set_serving(self, serving: bool) -> None:
        """Change the answer, and tell the watchers."""
        self._serving = serving
        self._tell()

    def end(self) -> None:
        """Not serving from now on; the watchers are told so and then let go."""
        self._serving = False
        self._ending = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def __mapping__(self) -> dict[str, Handler]:
        return {
            f"/{HEALTH}/Check": Handler(self._check, Cardinality.UNARY_UNARY, bytes, bytes),
            f"/{HEALTH}/Watch": Handler(self._watch, Cardinality.UNARY_STREAM, bytes, bytes),
        }

    async def _check(self, stream: RawStream) -> None:
        service = await self._asked(stream)
        if service not in self._services:
            raise NotFound(f"there is no service {service!r} here")
        await stream.send_message(self._status(service))

    async def _watch(self, stream: RawStream) -> None:
        service = await self._asked(stream)
        told = b""
        while True:
            changed, ending = self._changed, self._ending
            if (status := self._status(service)) != told:
                await stream.send_message(status)
                told = status
            if ending:
                raise Unavailable(SHUTTING_DOWN)
            await changed.wait()

    async def _asked(self, stream: RawStream) -> str:
        pb2 = importlib.import_module(HEALTH_MESSAGES)
        service: str = _parse(pb2.HealthCheckRequest, await stream.recv_message() or b"").service
        return service

    def _status(self, service: str) -> bytes:
        response: Any = importlib.import_module(HEALTH_MESSAGES).HealthCheckResponse
        if service not in self._services:
            status = response.SERVICE_UNKNOWN
        else:
            status = response.SERVING if self._serving else response.NOT_SERVING
        data: bytes = response(status=status).SerializeToString()
        return data
