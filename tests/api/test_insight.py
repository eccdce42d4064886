"""InsightService as clients see it: the user guide's three pools, explained."""

import pytest
import pytest_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.proto.derny.insight.v1 import ExplainResourcePoolRequest
from derny.proto.peloton.api.v1alpha.peloton import ResourcePoolId
from derny.proto.peloton.api.v1alpha.respool import (
    CreateResourcePoolRequest,
    DeleteResourcePoolRequest,
    ReservationType,
    ResourcePoolPath,
    ResourcePoolSpec,
    ResourceSpec,
)

pytestmark = pytest.mark.asyncio


def an_id(number):
    return f"cccccccc-0000-4000-8000-{number:012d}"


@pytest_asyncio.fixture
async def guide(counter):
    """Three pools that reserve 60 cpus each and may have all 256."""
    await counter.pools.delete_resource_pool(
        DeleteResourcePoolRequest(ResourcePoolId("11111111-1111-4111-8111-111111111111"))
    )
    for number in (1, 2, 3):
        spec = ResourcePoolSpec(
            name=f"rp{number}",
            parent=ResourcePoolId("root"),
            resources=[
                ResourceSpec("cpu", 60, 256, 1),
                ResourceSpec("memory", 0, 9e4, 1),
                ResourceSpec("disk", 0, 9e4, 1),
            ],
        )
        await counter.pools.create_resource_pool(
            CreateResourcePoolRequest(ResourcePoolId(an_id(number)), spec)
        )
    await counter.rest()
    return counter


async def explain(counter, path=None, pool=None):
    request = ExplainResourcePoolRequest(
        ResourcePoolId(pool) if pool else None, ResourcePoolPath(path) if path else None
    )
    return await counter.insight.explain_resource_pool(request)


async def test_a_pool_is_explained_by_path_by_id_and_the_root_by_nothing(guide):
    by_path, by_id = await explain(guide, "/rp1"), await explain(guide, pool=an_id(1))
    assert by_path == by_id
    assert (by_path.respool_id.value, by_path.path.value) == (an_id(1), "/rp1")
    assert [kind.kind for kind in by_path.kinds] == ["cpu", "gpu", "memory", "disk"]
    assert by_path.is_current
    assert by_path.calculated_at.startswith("20")
    root = await explain(guide)
    assert root.path.value == "/"
    cpu = root.kinds[0]
    assert (cpu.reservation, cpu.limit, cpu.entitlement, cpu.slack_entitlement) == (256, 256, 256, 16)
    assert cpu.steps == ["The hosts that are up and not draining have 256 cpu and 16 revocable cpu."]


@pytest.mark.parametrize(
    ("path", "pool", "status"),
    [
        ("/nowhere", None, Status.NOT_FOUND),
        ("rp1", None, Status.INVALID_ARGUMENT),
        (None, an_id(9), Status.NOT_FOUND),
        ("/rp1", an_id(1), Status.INVALID_ARGUMENT),
    ],
)
async def test_what_can_not_be_explained_is_said(guide, path, pool, status):
    with pytest.raises(GRPCError) as refused:
        await explain(guide, path, pool)
    assert refused.value.status is status


async def test_demand_lending_and_borrowing_are_told_in_numbers_and_words(guide, job_message):
    borrowing = job_message(count=180)
    borrowing.respool_id = ResourcePoolId(an_id(2))
    await guide.create(borrowing, "aaaaaaaa-0000-4000-8000-000000000002")
    await guide.after(6)
    cpu = (await explain(guide, "/rp2")).kinds[0]
    assert (cpu.reservation, cpu.limit, cpu.share, cpu.type) == (60, 256, 1, ReservationType.ELASTIC)
    assert (cpu.allocation, cpu.demand, cpu.borrowed, cpu.lent) == (90, 0, 30, 0)
    assert cpu.entitlement == pytest.approx(90 + 166 / 3, abs=0.01)
    idle = (await explain(guide, "/rp1")).kinds[0]
    assert idle.entitlement == pytest.approx(166 / 3, abs=0.01)
    assert idle.lent == pytest.approx(60 - 166 / 3, abs=0.01)
    assert idle.steps == [
        "The hosts that are up and not draining have 256 cpu and 16 revocable cpu.",
        "/ may hold 256 cpu, to be divided among 3 pools.",
        "/rp1 needs 0 for its pods, waiting ones included.",
        "Of its reservation of 60 it asks for 0 and leaves 60 to others.",
        "Nobody asks for the last 166, which are spread by share: 55.333 of them for /rp1,"
        " with a share of 1.",
        "So /rp1 may hold 55.333 cpu.",
        "/ has 16 revocable cpu for revocable pods, of which those of /rp1 keep the 0 that they hold, get 0"
        " of the 0 they wait for, and may have 5.333 that nobody asks for: 5.333 in all.",
    ]
