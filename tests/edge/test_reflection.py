"""What the server says about itself, as tools such as grpcurl ask for it. Over a real socket."""

import subprocess
import sys
from contextlib import asynccontextmanager

import anyio
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.wrappers_pb2 import StringValue
from grpclib.client import Channel
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.reflection.v1 import reflection_grpc, reflection_pb2
from grpclib.reflection.v1alpha import reflection_grpc as alpha_grpc
from grpclib.reflection.v1alpha import reflection_pb2 as alpha_pb2

from derny.edge.connection import Limits
from derny.edge.server import Server

pytestmark = pytest.mark.anyio

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "test.Echo",
]
FILE = descriptor_pb2.FileDescriptorProto(name="test/echo.proto", package="test", syntax="proto3")
NO_PACKAGE = descriptor_pb2.FileDescriptorProto(name="bare.proto", syntax="proto3")


def describe():
    message = FILE.message_type.add(name="Outer")
    message.field.add(name="text", number=1, type=9, label=1)
    message.oneof_decl.add(name="choice")
    inner = message.nested_type.add(name="Inner")
    inner.enum_type.add(name="Colour").value.add(name="RED", number=0)
    FILE.enum_type.add(name="Size").value.add(name="SMALL", number=0)
    FILE.service.add(name="Echo").method.add(name="Say", input_type=".test.Outer", output_type=".test.Outer")
    NO_PACKAGE.message_type.add(name="Bare")


describe()


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Echo:
    def __mapping__(self):
        return {"/test.Echo/Say": Handler(self.say, Cardinality.UNARY_UNARY, StringValue, StringValue)}

    async def say(self, stream):
        await stream.send_message(await stream.recv_message())


@asynccontextmanager
async def serving():
    descriptors = descriptor_pb2.FileDescriptorSet(file=[FILE, NO_PACKAGE]).SerializeToString()
    async with anyio.create_task_group() as tasks:
        server = Server([Echo()], ProtoCodec(), Limits(), descriptors)
        channel = Channel(*await server.start(tasks, "127.0.0.1", 0))
        try:
            yield server, channel
        finally:
            channel.close()
            await server.close(0)


@pytest.fixture(params=["v1", "v1alpha"])
def reflect(request):
    grpc, pb2 = {"v1": (reflection_grpc, reflection_pb2), "v1alpha": (alpha_grpc, alpha_pb2)}[request.param]

    async def ask(**questions):
        async with serving() as (_, channel):
            stub = grpc.ServerReflectionStub(channel)
            question = pb2.ServerReflectionRequest(host="here", **questions)
            first, second = await stub.ServerReflectionInfo([question, question])
            assert first == second
            assert (first.valid_host, first.original_request) == ("here", question)
            return first

    return ask


async def test_the_list_has_all_services_and_health_and_reflection(reflect):
    response = await reflect(list_services="")
    assert [service.name for service in response.list_services_response.service] == SERVICES


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("test.Outer", FILE),
        (".test.Outer", FILE),
        ("test.Outer.text", FILE),
        ("test.Outer.choice", FILE),
        ("test.Outer.Inner", FILE),
        ("test.Outer.Inner.Colour", FILE),
        ("test.Outer.Inner.RED", FILE),
        ("test.Size", FILE),
        ("test.SMALL", FILE),
        ("test.Echo", FILE),
        ("test.Echo.Say", FILE),
        ("Bare", NO_PACKAGE),
    ],
)
async def test_every_kind_of_symbol_leads_to_its_file(reflect, symbol, file):
    response = await reflect(file_containing_symbol=symbol)
    (data,) = response.file_descriptor_response.file_descriptor_proto
    assert descriptor_pb2.FileDescriptorProto.FromString(data) == file


@pytest.mark.parametrize("service", SERVICES)
async def test_every_listed_service_is_described(reflect, service):
    response = await reflect(file_containing_symbol=service)
    (data,) = response.file_descriptor_response.file_descriptor_proto
    file = descriptor_pb2.FileDescriptorProto.FromString(data)
    assert service in [f"{file.package}.{declared.name}" for declared in file.service]


async def test_a_file_is_found_by_its_name(reflect):
    response = await reflect(file_by_filename="test/echo.proto")
    assert list(response.file_descriptor_response.file_descriptor_proto) == [FILE.SerializeToString()]


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "test.Nothing"},
        {"file_containing_symbol": ""},
        {"file_containing_symbol": "test"},
        {"file_containing_symbol": "test/echo.proto"},
        {"file_containing_symbol": "\0é☃"},
        {"file_by_filename": "nothing.proto"},
        {"file_by_filename": "test.Outer"},
        {"all_extension_numbers_of_type": "test.Outer"},
        {"file_containing_extension": {"containing_type": "test.Outer", "extension_number": 1}},
    ],
)
async def test_what_there_is_not_is_an_error_within_the_stream(reflect, question):
    response = await reflect(**question)
    assert response.error_response.error_code == Status.NOT_FOUND.value
    assert response.error_response.error_message


async def test_a_question_that_asks_nothing_is_an_error_within_the_stream(reflect):
    assert (await reflect()).error_response.error_code == Status.INVALID_ARGUMENT.value


async def test_health_follows_the_server_for_each_service_and_the_whole():
    async with serving() as (server, channel):
        stub = HealthStub(channel)

        async def check(service):
            return (await stub.Check(HealthCheckRequest(service=service))).status

        assert {await check(name) for name in ["", *SERVICES]} == {HealthCheckResponse.NOT_SERVING}
        server.health.set_serving(True)
        assert {await check(name) for name in ["", *SERVICES]} == {HealthCheckResponse.SERVING}
        with pytest.raises(GRPCError) as caught:
            await check("test.Nothing")
        assert caught.value.status is Status.NOT_FOUND


async def test_a_health_watch_tells_each_change_once():
    async with serving() as (server, channel), HealthStub(channel).Watch.open() as stream:
        await stream.send_message(HealthCheckRequest(service="test.Echo"), end=True)
        assert (await stream.recv_message()).status == HealthCheckResponse.NOT_SERVING
        server.health.set_serving(False)
        server.health.set_serving(True)
        assert (await stream.recv_message()).status == HealthCheckResponse.SERVING
        server.health.end()
        assert (await stream.recv_message()).status == HealthCheckResponse.NOT_SERVING
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
            await stream.recv_trailing_metadata()
        assert caught.value.status is Status.UNAVAILABLE


async def test_a_health_watch_of_an_unknown_service_says_so_and_stays():
    async with serving() as (server, channel), HealthStub(channel).Watch.open() as stream:
        await stream.send_message(HealthCheckRequest(service="test.Nothing"), end=True)
        assert (await stream.recv_message()).status == HealthCheckResponse.SERVICE_UNKNOWN
        server.health.set_serving(True)
        with anyio.move_on_after(0.05) as patience:
            await stream.recv_message()
        assert patience.cancelled_caught
        await stream.cancel()


async def test_a_health_request_that_is_no_message_is_an_invalid_argument():
    from grpclib.client import UnaryUnaryMethod

    async with serving() as (_, channel):
        # A string of the right field whose bytes are no UTF-8: sent as BytesValue, which has the same number.
        from google.protobuf.wrappers_pb2 import BytesValue

        stub = UnaryUnaryMethod(channel, "/grpc.health.v1.Health/Check", BytesValue, HealthCheckResponse)
        with pytest.raises(GRPCError) as caught:
            await stub(BytesValue(value=b"\xff"))
        assert caught.value.status is Status.INVALID_ARGUMENT


def test_a_starting_daemon_does_not_load_protobuf():
    script = (
        "import sys, derny.edge.server as s; from derny.edge.call import RAW; "
        "from derny.edge.connection import Limits; "
        "s.Server([], RAW, Limits(), b''); "
        "assert 'google.protobuf' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
