"""What a pool may be configured to: by itself, below its parent, beside its siblings and above its children.

One rule: the first contradiction is told, and nothing is changed. What a pool has already it may keep, even
where the cluster has shrunk below it: an update is refused only for what it makes worse. Called by the
deciders of `core.pools`. (Behaviour, scheduler §1.3 and its [O] additions.)
"""

from derny.capacity.tree import PoolTree
from derny.model.errors import Invalid
from derny.model.ids import PoolId
from derny.model.records import Pool
from derny.model.resources import KINDS, wire_units
from derny.model.specs import PoolResource, PoolSpec


def validate(tree: PoolTree, pool: PoolId, spec: PoolSpec, force: bool = False) -> None:
    """Refuse a configuration that contradicts itself or its place in the tree; Invalid throughout, as the API
    promises for bad configurations.

    `force` leaves out the comparisons of amounts with one another, with the parent's, the siblings' and the
    children's. What would leave no tree, or no amount at all, is refused all the same.
    """
    _validate_itself(spec, force)
    parent = _parent(tree, pool, spec)
    known = tree.pools.get(pool)
    siblings = [tree.pools[child] for child in parent.children if child != pool]
    before = tree.resources(known) if known is not None else tuple(map(PoolResource, KINDS))
    if not force:
        _validate_limits(tree, parent, spec, before)
    if any(sibling.spec.name == spec.name for sibling in siblings):
        raise Invalid(f"spec.name {spec.name!r} is taken by another child of {tree.path(parent)}")
    if not force:
        _validate_reservations(tree, parent, siblings, spec, before)
        if known is not None:
            _validate_above(tree, known, spec)


def _validate_itself(spec: PoolSpec, force: bool) -> None:
    if not spec.name or "/" in spec.name:
        raise Invalid(f"spec.name {spec.name!r} is not a pool name; expected text without a slash")
    for resource in spec.resources:
        where = f"spec.resources[{resource.kind}]"
        if min(resource.reservation, resource.limit) < 0:
            raise Invalid(f"{where}: reservation or limit is negative; expected 0 or more")
        if resource.share < 0:
            raise Invalid(f"{where}.share is {resource.share:g}; expected 0 or more")
        if resource.reservation > resource.limit and not force:
            reservation, limit = wire_units(resource.reservation), wire_units(resource.limit)
            raise Invalid(f"{where}.reservation {reservation:g} is above its limit {limit:g}")
    for name, percent in (
        ("controller_limit.max_percent", spec.controller_percent),
        ("slack_limit.maxPercent", spec.slack_percent),
    ):
        if percent is not None and not 0 <= percent <= 100:
            raise Invalid(f"spec.{name} is {percent:g}; expected 0 to 100")


def _parent(tree: PoolTree, pool: PoolId, spec: PoolSpec) -> Pool:
    if spec.parent == pool:
        raise Invalid(f"spec.parent {spec.parent!r} is the pool itself; expected another pool")
    parent = tree.pools.get(spec.parent)
    if parent is None:
        raise Invalid(f"spec.parent {spec.parent!r} does not exist; expected the id of a resource pool")
    known = tree.pools.get(pool)
    if known is not None and known.spec.parent != spec.parent:
        raise Invalid(
            f"spec.parent {spec.parent!r} is not the pool's parent {known.spec.parent!r};"
            " a pool stays where it was created"
        )
    return parent


def _validate_limits(tree: PoolTree, parent: Pool, spec: PoolSpec, before: tuple[PoolResource, ...]) -> None:
    for mine, was, above in zip(spec.resources, before, tree.resources(parent), strict=True):
        if mine.limit > max(above.limit, was.limit):
            limit, most = wire_units(mine.limit), wire_units(above.limit)
            raise Invalid(
                f"spec.resources[{mine.kind}].limit {limit:g} is above {most:g}, the limit of its parent"
                f" {tree.path(parent)}"
            )


def _validate_reservations(
    tree: PoolTree, parent: Pool, siblings: list[Pool], spec: PoolSpec, before: tuple[PoolResource, ...]
) -> None:
    taken = tree.reserved(siblings)
    for mine, was, above, others in zip(spec.resources, before, tree.resources(parent), taken, strict=True):
        if mine.reservation > was.reservation and others + mine.reservation > above.reservation:
            asked, theirs, all_of = map(wire_units, (mine.reservation, others, above.reservation))
            raise Invalid(
                f"spec.resources[{mine.kind}].reservation {asked:g} and the {theirs:g} that its siblings"
                f" reserve are above {all_of:g}, the reservation of its parent {tree.path(parent)}"
            )


def _validate_above(tree: PoolTree, pool: Pool, spec: PoolSpec) -> None:
    """A pool can't shrink below what its own children were promised."""
    children = [tree.pools[child] for child in pool.children]
    for index, (mine, was, theirs) in enumerate(
        zip(spec.resources, tree.resources(pool), tree.reserved(children), strict=True)
    ):
        highest = max((tree.resources(child)[index].limit for child in children), default=0)
        for name, asked, had, least, what in (
            ("limit", mine.limit, was.limit, highest, "the highest limit"),
            ("reservation", mine.reservation, was.reservation, theirs, "the sum of the reservations"),
        ):
            if asked < min(had, least):
                where = f"spec.resources[{mine.kind}].{name} {wire_units(asked):g}"
                raise Invalid(f"{where} is below {wire_units(least):g}, {what} of its children")
