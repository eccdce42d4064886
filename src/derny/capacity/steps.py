"""The steps of a calculation in plain words, as one pool goes through them.

One rule: every number is one of the division, or a sum or a difference of such; nothing is decided here a
second time. Amounts are written in the wire's units. Called by `answers.pool_explanation`, with one
division for each level on the way down to the pool. (Behaviour, scheduler §2.3, §2.4.)
"""

from collections.abc import Iterator

from derny.capacity.entitlement import Claim, Division, Entitlement
from derny.model.resources import Resources, wire_units


def hard_steps(division: Division, pool: int, kind: str, above: str, path: str) -> Iterator[str]:
    """How the pool at this position came to its part of what the one above has; both given by their paths."""
    part, need, want = division.parts[pool], division.needs[pool], division.wants[pool]
    base, fill, spare = division.bases[pool], division.fills[pool], division.spares[pool]
    total, count = division.totals[pool], len(division.parts)
    pools = "one pool" if count == 1 else f"{count} pools"
    yield f"{above} may hold {_n(division.available)} {kind}, to be divided among {pools}."
    cut = f"; its limit lets it ask for {_n(want)}" if want < need else ""
    yield f"{path} needs {_n(need)} for its pods, waiting ones included{cut}."
    yield _reserved(path, part.reservation, base, part.static)
    guaranteed = sum(division.bases)
    spared = max(division.available - guaranteed, 0) - sum(division.fills)
    if guaranteed > division.available:
        yield f"Reservations in use come to {_n(guaranteed)}, more than there is; they stand all the same."
    if want > part.reservation:
        yield _filled(division, pool, path)
    if any(division.spares):
        yield (
            f"Nobody asks for the last {_n(spared)}, which are spread by share:"
            f" {_n(spare)} of them for {path}, with a share of {part.share:g}."
        )
    if base + fill + spare > total:
        yield f"Its limit of {_n(part.limit)} cuts off {_n(base + fill + spare - total)}, which nobody gets."
    yield f"So {path} may hold {_n(total)} {kind}."


def slack_steps(found: Entitlement, claim: Claim, index: int, kind: str) -> Iterator[str]:
    """How the pool's part is divided between its hard and its revocable pods; of every kind but cpu."""
    slack = claim.slack[index]
    if slack:
        total, carved = found.total.of_kind(kind), found.slack.of_kind(kind)
        yield (
            f"Its hard pods hold and wait for {_n(claim.hard[index])} of {_n(total)}, its revocable pods for"
            f" {_n(slack)} within the slack limit: of what hard pods leave, these may hold {_n(carved)}."
        )


def slack_cpu_steps(division: Division, pool: int, above: str, path: str) -> Iterator[str]:
    """How the pool came to its part of the revocable cpu that the one above has."""
    if division.available or division.needs[pool]:
        held, asked = division.bases[pool], division.needs[pool] - division.bases[pool]
        yield (
            f"{above} has {_n(division.available)} revocable cpu for revocable pods, of which those of {path}"
            f" keep the {_n(held)} that they hold, get {_n(division.fills[pool])} of the {_n(asked)} they"
            f" wait for, and may have {_n(division.spares[pool])} that nobody asks for:"
            f" {_n(division.totals[pool])} in all."
        )


def root_step(capacity: Resources, kind: str) -> str:
    """Where it all begins."""
    slack = f" and {_n(capacity.revocable_cpu)} revocable cpu" if kind == "cpu" else ""
    return f"The hosts that are up and not draining have {_n(capacity.of_kind(kind))} {kind}{slack}."


def _reserved(path: str, reservation: int, base: int, static: bool) -> str:
    if not reservation:
        return f"{path} has no reservation."
    if static:
        return f"Its reservation of {_n(base)} is static: its own whether it asks for it or not."
    lent = f" and leaves {_n(reservation - base)} to others" if base < reservation else ", all of it"
    return f"Of its reservation of {_n(reservation)} it asks for {_n(base)}{lent}."


def _filled(division: Division, pool: int, path: str) -> str:
    rests = [
        max(want - part.reservation, 0) for want, part in zip(division.wants, division.parts, strict=True)
    ]
    left = max(division.available - sum(division.bases), 0)
    if not division.parts[pool].share:
        how = "having no share it gets none"
    elif division.fills[pool] == rests[pool]:
        how = "it gets all of it"
    else:
        share = division.parts[pool].share
        fill = _n(division.fills[pool])
        how = f"with a share of {share:g} it gets {fill}, by share as much as all that lack something"
    asking = sum(1 for rest in rests if rest)
    ask = "one pool asks" if asking == 1 else f"{asking} pools ask"
    return (
        f"Reservations in use leave {_n(left)}, and {ask} for {_n(sum(rests))} beyond them."
        f" {path} asks for {_n(rests[pool])}: {how}."
    )


def _n(units: int) -> str:
    return f"{wire_units(units):.15g}"
