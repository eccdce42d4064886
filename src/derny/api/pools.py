"""ResourcePoolService: the tree of resource pools, and what they use.

One rule: as in `api.jobs`, nothing is decided here. Answers that show several pools are made in one look,
so that their sums agree. Registered by `app`. (API reference, respool_svc.proto; behaviour, scheduler
§1.)
"""

import uuid
from functools import partial
from typing import Final

from derny.answers import queries
from derny.answers.queries import PoolView
from derny.api import wire_in, wire_out
from derny.api.reply import made
from derny.core.commands import CreatePool, DeletePool
from derny.core.events import PoolCreated
from derny.core.state import State
from derny.model.errors import Exists, Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha import respool
from derny.proto.peloton.api.v1alpha.peloton import ResourcePoolId
from derny.runtime.loop import Loop

POOL_BYTES: Final = 300
"""About what one pool takes in an answer."""


def _with_children(state: State, pool: PoolId, include: bool) -> list[PoolView]:
    """The pool, and if asked for those directly below it."""
    view = queries.pool_info(state, pool)
    children = view.children if include else ()
    return [view, *(queries.pool_info(state, child) for child in children)]


class ResourcePoolService(respool.ResourcePoolServiceBase):
    """The resource pools of the daemon."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits

    async def create_resource_pool(
        self, message: respool.CreateResourcePoolRequest
    ) -> respool.CreateResourcePoolResponse:
        pool = PoolId(wire_in.new_id(message.respool_id, "respool_id") or str(uuid.uuid4()))
        if pool in await self._loop.read(queries.pool_ids):
            raise Exists(f"resource pool {pool!r} already exists")
        (event,) = await self._loop.submit(CreatePool(pool, wire_in.configured_pool(message, self._limits)))
        assert isinstance(event, PoolCreated)
        return respool.CreateResourcePoolResponse(ResourcePoolId(event.pool))

    async def update_resource_pool(
        self, message: respool.UpdateResourcePoolRequest
    ) -> respool.UpdateResourcePoolResponse:
        await self._loop.submit(wire_in.updated_pool(message, self._limits))
        return respool.UpdateResourcePoolResponse()

    async def delete_resource_pool(
        self, message: respool.DeleteResourcePoolRequest
    ) -> respool.DeleteResourcePoolResponse:
        await self._loop.submit(DeletePool(PoolId(wire_in.required_id(message.respool_id, "respool_id"))))
        return respool.DeleteResourcePoolResponse()

    async def get_resource_pool(
        self, message: respool.GetResourcePoolRequest
    ) -> respool.GetResourcePoolResponse:
        pool = PoolId(wire_in.text_of(message.respool_id) or ROOT_POOL)
        views = await self._loop.read(partial(_with_children, pool=pool, include=message.include_child_pools))
        found, *children = [wire_out.pool_info(view) for view in views]
        return respool.GetResourcePoolResponse(found, children)

    async def lookup_resource_pool_id(
        self, message: respool.LookupResourcePoolIdRequest
    ) -> respool.LookupResourcePoolIdResponse:
        path = wire_in.text_of(message.path)
        if not path:
            raise Invalid("path is empty; expected / or /pool/pool")
        pool = await self._loop.read(partial(queries.pool_id_at, path=path))
        return respool.LookupResourcePoolIdResponse(ResourcePoolId(pool))

    async def query_resource_pools(
        self, message: respool.QueryResourcePoolsRequest
    ) -> respool.QueryResourcePoolsResponse:
        views = await self._loop.read(queries.all_pools)
        return await made(len(views) * POOL_BYTES, _pools, views)


def _pools(views: list[PoolView]) -> respool.QueryResourcePoolsResponse:
    return respool.QueryResourcePoolsResponse([wire_out.pool_info(view) for view in views])
