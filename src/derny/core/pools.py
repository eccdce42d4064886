"""Pools: decide and apply. The life of a pool: created below a parent, used by jobs as long as it is a leaf.

(API reference, respool_svc.proto; behaviour, scheduler §1.)
"""

from derny.capacity.tree import validate
from derny.core.commands import CreatePool
from derny.core.events import PoolCreated
from derny.core.state import State
from derny.model.errors import Busy, Exhausted, Exists, Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.model.records import Pool


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


def apply_created(state: State, event: PoolCreated, at: float) -> None:
    state.tree.add(event.pool, event.spec, at)


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
