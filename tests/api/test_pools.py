"""ResourcePoolService as clients see it."""

import math
import uuid

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.peloton import ResourcePoolId, Revision
from derny.proto.peloton.api.v1alpha.respool import (
    ControllerLimit,
    CreateResourcePoolRequest,
    DeleteResourcePoolRequest,
    GetResourcePoolRequest,
    LookupResourcePoolIdRequest,
    QueryResourcePoolsRequest,
    ReservationType,
    ResourcePoolPath,
    ResourcePoolSpec,
    ResourceSpec,
    ResourceUsage,
    SchedulingPolicy,
    SlackLimit,
    UpdateResourcePoolRequest,
)

pytestmark = pytest.mark.asyncio

POOL = "11111111-1111-4111-8111-111111111111"
CHILD = "22222222-2222-4222-8222-222222222222"
INVALID = Status.INVALID_ARGUMENT


def a_spec(*resources, parent=POOL, name="child", **fields):
    return ResourcePoolSpec(name=name, parent=ResourcePoolId(parent), resources=list(resources), **fields)


async def create(counter, spec, pool=CHILD):
    chosen = ResourcePoolId(pool) if pool is not None else None
    created = await counter.pools.create_resource_pool(CreateResourcePoolRequest(chosen, spec))
    return created.respool_id.value


async def get(counter, pool=None, **fields):
    chosen = ResourcePoolId(pool) if pool is not None else None
    return await counter.pools.get_resource_pool(GetResourcePoolRequest(chosen, **fields))


async def test_a_pool_gets_the_id_that_its_client_chose_or_a_new_one(counter):
    assert await create(counter, a_spec()) == CHILD
    other = a_spec()
    other.name = "other"
    assert uuid.UUID(await create(counter, other, pool=None)).version == 4


async def test_a_pool_comes_back_as_it_was_sent_with_all_kinds(counter):
    sent = a_spec(
        ResourceSpec("memory", 10.5, 20, 2, ReservationType.STATIC),
        ResourceSpec("cpu", 1, 2, 0),
        owning_team="us",
        ldap_groups=["a", "b"],
        description="said",
        controller_limit=ControllerLimit(30),
        slack_limit=SlackLimit(40),
        revision=Revision(77),
    )
    await create(counter, sent)
    info = (await get(counter, CHILD)).respool
    assert info.respool_id.value == CHILD
    assert (info.parent.value, info.path.value, info.children) == (POOL, "/default/child", [])
    spec = info.spec
    assert (spec.name, spec.owning_team, spec.ldap_groups) == ("child", "us", ["a", "b"])
    assert (spec.description, spec.controller_limit, spec.slack_limit) == (
        "said",
        ControllerLimit(30),
        SlackLimit(40),
    )
    assert spec.policy == SchedulingPolicy.PRIORITY_FIFO
    assert spec.resources == [*sent.resources, ResourceSpec("gpu", 0, 0, 1), ResourceSpec("disk", 0, 0, 1)]
    assert spec.revision.version == 1


async def test_limits_that_are_not_set_stay_unset(counter):
    await create(counter, a_spec())
    spec = (await get(counter, CHILD)).respool.spec
    assert (spec.controller_limit, spec.slack_limit) == (None, None)


REFUSED = {
    "no spec": (None, ["spec is unset"]),
    "no parent": (ResourcePoolSpec(name="x"), ["spec.parent", "unset"]),
    "an unknown parent": (a_spec(parent="nowhere"), ["spec.parent", "'nowhere'"]),
    "no name": (ResourcePoolSpec(parent=ResourcePoolId(POOL)), ["spec.name"]),
    "an unknown kind": (a_spec(ResourceSpec("mem", 1, 1, 1)), ["spec.resources", "'mem'", "memory"]),
    "another spelling": (a_spec(ResourceSpec("CPU", 1, 1, 1)), ["spec.resources", "'CPU'", "cpu"]),
    "a kind twice": (
        a_spec(ResourceSpec("cpu", 1, 1, 1), ResourceSpec("cpu", 1, 1, 1)),
        ["spec.resources", "'cpu'", "more than once"],
    ),
    "a reservation above the limit": (
        a_spec(ResourceSpec("cpu", 2, 1, 1)),
        ["spec.resources[cpu].reservation", "limit"],
    ),
    "an unknown policy": (a_spec(policy=SchedulingPolicy(9)), ["spec.policy", "9"]),
    "an unknown type": (a_spec(ResourceSpec("cpu", 1, 1, 1, ReservationType(9))), ["[cpu].type", "9"]),
    "a percentage above all": (
        a_spec(controller_limit=ControllerLimit(200)),
        ["spec.controller_limit.max_percent is 200"],
    ),
    "a percentage that is none": (
        a_spec(slack_limit=SlackLimit(math.nan)),
        ["spec.slack_limit.maxPercent is nan"],
    ),
}
for field in ("reservation", "limit", "share"):
    for amount in (-5.0, math.nan, math.inf, 2e12, *((1e-10, 1e-320) if field == "share" else ())):
        resource = ResourceSpec("cpu", 0, 1, 1)
        setattr(resource, field, amount)
        REFUSED[f"{field} of {amount}"] = (a_spec(resource), [f"spec.resources[cpu].{field} is {amount:g}"])


@pytest.mark.parametrize(("spec", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_pool_that_can_not_be_is_refused_and_nothing_changes(counter, spec, words):
    revision = counter.loop.revision
    with pytest.raises(GRPCError) as refused:
        await create(counter, spec)
    assert refused.value.status is INVALID
    assert all(word in refused.value.message for word in words), refused.value.message
    assert counter.loop.revision == revision


@pytest.mark.parametrize("pool", ["pool-1", "root"])
async def test_an_id_must_be_a_uuid(counter, pool):
    with pytest.raises(GRPCError) as refused:
        await create(counter, a_spec(), pool)
    assert refused.value.status is INVALID
    assert f"respool_id {pool!r}" in refused.value.message


async def test_a_taken_id_is_told(counter):
    with pytest.raises(GRPCError) as refused:
        await create(counter, a_spec(parent="root"), POOL)
    assert refused.value.status is Status.ALREADY_EXISTS


async def test_without_an_id_the_root_is_told_with_what_the_cluster_has(counter):
    answer = await get(counter)
    root = answer.respool
    assert (root.respool_id.value, root.spec.name, root.path.value, root.parent) == (
        "root",
        "root",
        "/",
        None,
    )
    assert {resource.kind: (resource.reservation, resource.limit) for resource in root.spec.resources} == {
        "cpu": (256, 256),
        "gpu": (0, 0),
        "memory": (262_144, 262_144),
        "disk": (4_000_000, 4_000_000),
    }
    assert [child.value for child in root.children] == [POOL]
    assert answer.child_respools == []


async def test_children_are_told_on_request_and_no_deeper(counter):
    await create(counter, a_spec())
    answer = await get(counter, "root", include_child_pools=True)
    assert [info.respool_id.value for info in answer.child_respools] == [POOL]
    assert [child.value for child in answer.child_respools[0].children] == [CHILD]


async def test_a_pool_that_is_not_there_is_not_found(counter):
    with pytest.raises(GRPCError) as refused:
        await get(counter, CHILD)
    assert refused.value.status is Status.NOT_FOUND


@pytest.mark.parametrize(
    ("path", "expected"), [("/", "root"), ("/default", POOL), ("/default/", POOL), ("/default/child", CHILD)]
)
async def test_paths_lead_to_ids(counter, path, expected):
    await create(counter, a_spec())
    request = LookupResourcePoolIdRequest(ResourcePoolPath(path))
    assert (await counter.pools.lookup_resource_pool_id(request)).respool_id.value == expected


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (None, INVALID),
        (ResourcePoolPath(), INVALID),
        (ResourcePoolPath("default"), INVALID),
        (ResourcePoolPath("//"), Status.NOT_FOUND),
        (ResourcePoolPath("/Default"), Status.NOT_FOUND),
        (ResourcePoolPath("/default//child"), Status.NOT_FOUND),
    ],
)
async def test_paths_that_lead_nowhere_are_told_so(counter, path, status):
    with pytest.raises(GRPCError) as refused:
        await counter.pools.lookup_resource_pool_id(LookupResourcePoolIdRequest(path))
    assert refused.value.status is status


async def test_all_pools_are_told_the_root_first(counter):
    await create(counter, a_spec())
    answer = await counter.pools.query_resource_pools(QueryResourcePoolsRequest())
    assert [info.path.value for info in answer.respools] == ["/", "/default", "/default/child"]


async def test_usage_tells_hard_pods_and_slack_apart_here_and_above(counter, job_message):
    await counter.create(job_message(count=3))
    revocable = job_message(count=2, sla=SlaSpec(preemptible=True, revocable=True))
    await counter.create(revocable, CHILD)
    expected = [
        ResourceUsage("cpu", 1.5, 1.0),
        ResourceUsage("gpu", 0.0, 0.0),
        ResourceUsage("memory", 96.0, 64.0),
        ResourceUsage("disk", 30.0, 20.0),
    ]
    assert (await get(counter, POOL)).respool.usages == expected
    assert (await get(counter)).respool.usages == expected


async def test_a_repeat_is_told_that_the_pool_exists_whatever_else_is_wrong(counter):
    await create(counter, a_spec())
    with pytest.raises(GRPCError) as caught:
        await create(counter, a_spec(name=""))
    assert caught.value.status is Status.ALREADY_EXISTS


@pytest.mark.parametrize("name", ["n" * 256, "tab\there"])
async def test_a_name_that_would_spoil_every_listing_is_refused(counter, name):
    with pytest.raises(GRPCError, match=r"spec\.name") as caught:
        await create(counter, a_spec(name=name))
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_a_spec_that_would_not_fit_among_all_others_is_refused(counter):
    with pytest.raises(GRPCError, match="pool_spec_bytes_max") as caught:
        await create(counter, a_spec(description="d" * 17_000))
    assert caught.value.status is Status.RESOURCE_EXHAUSTED


async def update(counter, spec, pool=CHILD, **fields):
    await counter.pools.update_resource_pool(
        UpdateResourcePoolRequest(ResourcePoolId(pool) if pool else None, spec, **fields)
    )


async def delete(counter, pool=CHILD):
    await counter.pools.delete_resource_pool(
        DeleteResourcePoolRequest(ResourcePoolId(pool) if pool else None)
    )


async def test_an_update_takes_the_place_of_all_and_zeroes_the_kinds_that_it_omits(counter):
    await create(counter, a_spec(ResourceSpec("cpu", 1, 2, 3), ResourceSpec("disk", 5, 6, 7)))
    await update(counter, a_spec(ResourceSpec("cpu", 2, 4, 0), name="renamed", owning_team="us"))
    info = (await get(counter, CHILD)).respool
    assert info.path.value == "/default/renamed"
    assert info.spec.owning_team == "us"
    assert info.spec.revision.version == 2
    assert info.spec.resources == [
        ResourceSpec("cpu", 2, 4, 0),
        *(ResourceSpec(kind, 0, 0, 1) for kind in ("gpu", "memory", "disk")),
    ]


async def test_a_forced_update_skips_the_comparisons_and_keeps_the_kinds_that_it_omits(counter):
    await create(counter, a_spec(ResourceSpec("cpu", 1, 2, 3), ResourceSpec("disk", 5, 6, 7)))
    wrong = a_spec(ResourceSpec("cpu", 9000, 5000, 1))
    with pytest.raises(GRPCError) as refused:
        await update(counter, wrong)
    assert refused.value.status is INVALID
    await update(counter, wrong, force=True)
    amounts = {r.kind: (r.reservation, r.limit) for r in (await get(counter, CHILD)).respool.spec.resources}
    assert amounts == {"cpu": (9000, 5000), "disk": (5, 6), "gpu": (0, 0), "memory": (0, 0)}


@pytest.mark.parametrize(
    ("spec", "pool", "status"),
    [
        (a_spec(), CHILD, Status.NOT_FOUND),
        (a_spec(ResourceSpec("cpu", 9, 1, 1)), CHILD, INVALID),
        (None, POOL, INVALID),
        (a_spec(), "root", INVALID),
        (a_spec(), None, INVALID),
        (a_spec(parent=CHILD), POOL, INVALID),
    ],
)
async def test_updates_that_can_not_be_are_refused(counter, spec, pool, status):
    revision = counter.loop.revision
    with pytest.raises(GRPCError) as refused:
        await update(counter, spec, pool)
    assert refused.value.status is status
    assert counter.loop.revision == revision


async def test_a_deleted_pool_is_gone_and_its_id_is_free(counter):
    await create(counter, a_spec())
    await delete(counter)
    with pytest.raises(GRPCError) as refused:
        await get(counter, CHILD)
    assert refused.value.status is Status.NOT_FOUND
    assert (await get(counter, POOL)).respool.children == []
    assert await create(counter, a_spec()) == CHILD


async def test_pools_that_can_not_go_stay(counter, job_message):
    for pool, status in ((CHILD, Status.NOT_FOUND), ("root", INVALID), (None, INVALID)):
        with pytest.raises(GRPCError) as refused:
            await delete(counter, pool)
        assert refused.value.status is status
    await create(counter, a_spec())
    with pytest.raises(GRPCError, match="has 1 child") as refused:
        await delete(counter, POOL)
    assert refused.value.status is INVALID
    await delete(counter)
    await counter.create(job_message())
    with pytest.raises(GRPCError, match="holds 1 job") as refused:
        await delete(counter, POOL)
    assert refused.value.status is Status.FAILED_PRECONDITION
