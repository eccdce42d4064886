"""Pools: decide and apply. The life of a pool: created below a parent, used by jobs as long as it is a leaf,
configured anew at any time, deleted when nothing is left in it.

(API reference, respool_svc.proto; behaviour, scheduler §1.)
"""

import msgspec

from derny.capacity.configuration import validate
from derny.core.commands import CreatePool, DeletePool, UpdatePool
from derny.core.events import PoolCreated, PoolRemoved, PoolUpdated
from derny.core.state import State
from derny.model.errors import Busy, Exhausted, Exists, Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.model.records import Pool
from derny.model.specs import PoolSpec


def decide_create(state: State, command: CreatePool, at: float, limits: Limits) -> list[PoolCreated]:
    """A new leaf. Exists: the id is taken; Invalid: the configuration; Busy: the parent holds jobs;
    Exhausted: a limit of the daemon."""
    if command.pool == ROOT_POOL:
        raise Invalid(f"respool_id {ROOT_POOL!r} is the root, which can't be configured; expected a UUID")
    if command.pool in state.tree.pools:
        raise Exists(f"resource pool {command.pool!r} already exists")
    if len(state.tree.pools) >= limits.pools_max:
        raise Exhausted(
            f"there are {len(state.tree.pools)} resource pools, the most allowed (limit pools_max)"
        )
    validate(state.tree, command.pool, command.spec)
    parent = state.tree.pools[command.spec.parent]
    if parent.jobs:
        raise Busy(
            f"spec.parent {state.tree.path(parent)} holds {parent.jobs} jobs;"
            " only a pool without jobs can have children"
        )
    return [PoolCreated(command.pool, command.spec)]


def decide_update(state: State, command: UpdatePool, at: float) -> list[PoolUpdated]:
    """Another configuration. Invalid: the root, the configuration; then NotFound (behaviour, scheduler
    §1.4)."""
    if command.pool == ROOT_POOL:
        raise Invalid(
            f"respool_id {ROOT_POOL!r} is the root, which can't be configured; it has what hosts have"
        )
    known = state.tree.pools.get(command.pool)
    spec = _completed(command.spec, known) if known is not None else command.spec
    validate(state.tree, command.pool, spec, command.force)
    state.tree.get(command.pool)
    return [PoolUpdated(command.pool, spec)]


def decide_delete(state: State, command: DeletePool, at: float) -> list[PoolRemoved]:
    """The end of a pool. NotFound; Invalid: the root, a pool with children; Busy: jobs are in it."""
    if command.pool == ROOT_POOL:
        raise Invalid(f"respool_id {ROOT_POOL!r} is the root, which stays; expected a pool without children")
    pool = state.tree.get(command.pool)
    path = state.tree.path(pool)
    if pool.children:
        raise Invalid(f"{path} has {len(pool.children)} children; expected a pool without any")
    if pool.jobs:
        raise Busy(f"{path} holds {pool.jobs} jobs, stopped ones included; delete them first")
    return [PoolRemoved(command.pool)]


def apply_created(state: State, event: PoolCreated, at: float) -> None:
    state.tree.add(event.pool, event.spec, at)


def apply_updated(state: State, event: PoolUpdated, at: float) -> None:
    state.tree.configure(event.pool, event.spec, at)


def apply_removed(state: State, event: PoolRemoved, at: float) -> None:
    state.tree.remove(event.pool)


def taking_jobs(state: State, pool: PoolId) -> Pool:
    """The pool, if jobs can be put in it. Invalid: the root, or a pool with children; NotFound."""
    if pool == ROOT_POOL:
        raise Invalid(
            "spec.respool_id 'root' is the root pool, which takes no jobs; expected a leaf of the tree"
        )
    found = state.tree.get(pool)
    if found.children:
        raise Invalid(
            f"spec.respool_id {pool!r} ({state.tree.path(found)}) has children; expected a pool without any"
        )
    return found


def _completed(spec: PoolSpec, known: Pool) -> PoolSpec:
    """The configuration, where it leaves kinds out as only a forced one may: with those as they are."""
    given = {resource.kind: resource for resource in spec.resources}
    resources = tuple(given.get(resource.kind, resource) for resource in known.spec.resources)
    return msgspec.structs.replace(spec, resources=resources)
