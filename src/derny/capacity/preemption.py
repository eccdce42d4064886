"""Preemption: what a pool has to give back, and which of its pods are taken for it.

A pool owes what it holds beyond its entitlement. Those pods go first that lose least by it: they wait for a
host, then they start, then they run; inside that the lower priority; inside that the most recently started.
Only pods that can be preempted, only those that free something that is still to be freed, and none that the
others make needless. Where priorities count inside a pool, a gang that lacks what the pool can't give it may
displace pods of lower priority: then the lowest priority goes first, and nobody goes in vain.

One rule: pure; which pods are on their way out, and what becomes of those taken, is for `core.preemption` to
say. (Behaviour, scheduler §5; there it is not looked at what the pods chosen so far free already.)
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from derny.capacity import admission
from derny.capacity.admission import Rule
from derny.capacity.tree import PoolTree
from derny.model.records import Pod, Pool
from derny.model.resources import NOTHING, Resources
from derny.model.states import PodState

RANK: Final = {
    PodState.READY: 0,
    PodState.PLACING: 1,
    PodState.LAUNCHED: 2,
    PodState.STARTING: 3,
    PodState.PREEMPTING: 4,
    PodState.RUNNING: 5,
}
"""The states in which a pod can be taken. Peloton leaves out LAUNCHED and STARTING, in which a run has done
nothing yet; and here who has been chosen stays chosen."""

_GIVEN_BACK: Final = frozenset({Rule.ENTITLEMENT, Rule.SLACK_ENTITLEMENT, Rule.LIMIT})
"""What pods that can be preempted use up."""

Rank = tuple[int, int, float, str, int]


class Seen(NamedTuple):
    """A pod of the pool, its priority, and whether it gives back what it holds anyway."""

    pod: Pod
    priority: int
    leaves: bool


class Candidate(NamedTuple):
    """A pod that may be taken; the lowest rank first."""

    rank: Rank
    pod: Pod


def owed(pool: Pool) -> tuple[Resources, Resources]:
    """What the pool holds beyond its entitlement: by revocable pods, and by hard ones."""
    hard = pool.allocation.minus(pool.slack)
    return excess(pool.slack, pool.slack_entitlement), excess(hard, pool.non_slack_entitlement)


def owes(pool: Pool) -> bool:
    """Whether the pool is a leaf that holds more than its entitlement of anything."""
    if pool.children or not any(pool.allocation):
        return False
    # Kind by kind and without vectors in between: every look comes by here for every pool.
    kinds = zip(pool.allocation, pool.slack, pool.non_slack_entitlement, pool.slack_entitlement, strict=True)
    return any(held - slack > hard_most or slack > most for held, slack, hard_most, most in kinds)


def excess(amount: Resources, less: Resources) -> Resources:
    """The amount less the other, nothing where the other is more."""
    return Resources(*[max(mine - its, 0) for mine, its in zip(amount, less, strict=True)])


class Choice:
    """The pods that go first of all that are offered, bit by bit, as far as they are needed.

    What is kept is never more than what is chosen by now, nor more than `most`, so that a pool of any size
    can be gone through in slices.
    """

    def __init__(self, target: Resources, most: int) -> None:
        self._target = target
        self._most = most
        self._chosen: list[Candidate] = []
        self._is_complete = not any(target)
        """Whether nobody who comes after all of the chosen will be."""

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Weigh some more pods against those chosen so far."""
        if self._is_complete:
            last = self._chosen[-1] if self._chosen else None
            candidates = [one for one in candidates if last is not None and one < last]
        if fresh := [one for one in candidates if _helps(one.pod.template.demand, self._target)]:
            self._chosen, left = _first(sorted(self._chosen + fresh), self._target, self._most)
            self._is_complete = not any(left) or len(self._chosen) == self._most

    @property
    def frees(self) -> Resources:
        """What all of the chosen hold."""
        return _held([one.pod for one in self._chosen])

    def needed_for(self, target: Resources) -> list[Pod]:
        """Those of the chosen that are needed for what is wanted by now; never more than at first."""
        target = _least(target, self._target)
        first, _left = _first(self._chosen, target, self._most)
        return [one.pod for one in _without_the_needless(first, target)]


def _helps(demand: Resources, owed_now: Resources) -> bool:
    return any(need and its for need, its in zip(owed_now, demand, strict=True))


def _first(ranked: Sequence[Candidate], target: Resources, most: int) -> tuple[list[Candidate], Resources]:
    """In order of rank, whoever frees something that is still owed, `most` at most; and what is left."""
    chosen: list[Candidate] = []
    for one in ranked:
        if len(chosen) == most or not any(target):
            break
        if _helps(one.pod.template.demand, target):
            chosen.append(one)
            target = excess(target, one.pod.template.demand)
    return chosen, target


def _without_the_needless(chosen: list[Candidate], target: Resources) -> list[Candidate]:
    """Spare whom the others make needless: small pods that went before a large one, last ranks first."""
    freed = _held([one.pod for one in chosen])
    kept: list[Candidate] = []
    for one in reversed(chosen):
        without = freed.minus(one.pod.template.demand)
        if any(excess(_least(target, freed), without)):
            kept.append(one)
        else:
            freed = without
    return kept[::-1]


def _least(one: Resources, other: Resources) -> Resources:
    return Resources(*map(min, one, other))


def _held(pods: Iterable[Pod]) -> Resources:
    held = NOTHING
    for pod in pods:
        held = held.plus(pod.template.demand)
    return held


class Debt:
    """What a pool holds beyond its entitlement, by revocable or by hard pods, and who is taken for it."""

    def __init__(self, revocable: bool, pool: Pool, most: int) -> None:
        self._revocable = revocable
        self._choice = Choice(owed(pool)[not revocable], most)
        self._leaving = NOTHING

    def see(self, seen: Iterable[Seen]) -> None:
        """Take some more pods of the pool into account."""
        alike = [one for one in seen if one.pod.template.revocable is self._revocable]
        self._leaving = _leaving(self._leaving, alike)
        self._choice.offer(_ranked(one, RANK[one.pod.state], one.priority) for one in _takeable(alike))

    def taken(self, tree: PoolTree, pool: Pool) -> list[Pod]:
        """Who is needed for what the pool owes by now."""
        return self._choice.needed_for(excess(owed(pool)[not self._revocable], self._leaving))

    def why(self, path: str) -> str:
        """The reason for clients."""
        return f"{path} holds more than its entitlement"


class Claim(NamedTuple):
    """What the gangs that are next in a pool lack, hard or revocable."""

    priority: int
    revocable: bool
    gangs: int
    need: Resources
    left: list[Resources]
    """By rule of the pool's own; less than nothing where it is broken."""

    def lack(self, gangs: int) -> Resources:
        """What has to become free for so many of the gangs."""
        lacks = [NOTHING, *(excess(NOTHING.plus(self.need, gangs), left) for left in self.left)]
        most = Resources(*map(max, *lacks))
        return Resources(*[lack if need else 0 for lack, need in zip(most, self.need, strict=True)])

    def served(self, freed: Resources) -> int:
        """How many of the gangs could go on if so much were free."""
        rooms = [
            (room + more) // need
            for left in self.left
            for room, more, need in zip(left, freed, self.need, strict=True)
            if need
        ]
        return max(min(self.gangs, *rooms), 0)


class Displacement:
    """A claim on what pods of lower priority hold in the same pool, and who is taken for it.

    Whoever is displaced has the lower priority, so that it never displaces its displacer.
    """

    def __init__(self, claim: Claim, most: int) -> None:
        self._claim = claim
        self._most = most
        self._choice = Choice(claim.lack(claim.gangs), most)
        self._leaving = NOTHING

    def see(self, seen: Iterable[Seen]) -> None:
        """Take some more pods of the pool into account."""
        alike = [one for one in seen if one.pod.template.revocable is self._claim.revocable]
        self._leaving = _leaving(self._leaving, alike)
        self._choice.offer(
            _ranked(one, one.priority, RANK[one.pod.state])
            for one in _takeable(alike)
            if one.priority < self._claim.priority
        )

    def taken(self, tree: PoolTree, pool: Pool) -> list[Pod]:
        """Who is needed for as many of the gangs as can be served; nobody when none can."""
        claim = claim_of(tree, pool, self._most)
        if claim is None or (claim.priority, claim.revocable) != (
            self._claim.priority,
            self._claim.revocable,
        ):
            return []
        served = claim.served(self._choice.frees.plus(self._leaving))
        return self._choice.needed_for(excess(claim.lack(served), self._leaving)) if served else []

    def why(self, path: str) -> str:
        """The reason for clients."""
        return f"a pod of higher priority waits in {path}"


Pursuit = Debt | Displacement


def pursuits(tree: PoolTree, pool: Pool, by_priority: bool, most: int) -> list[Pursuit]:
    """What is to be freed in this pool: what it owes; if it owes nothing, what a gang may claim there."""
    claim = claim_of(tree, pool, most) if by_priority and not owes(pool) else None
    if claim is not None:
        return [Displacement(claim, most)]
    return [Debt(revocable, pool, most) for revocable in (True, False) if any(owed(pool)[not revocable])]


def claim_of(tree: PoolTree, pool: Pool, most: int) -> Claim | None:
    """The claim of whoever is next in this pool, of `most` gangs at most.

    None when a gang can go on anyway, or when it lacks what no other pod can give it: the pool is within its
    own bounds, or the gang waits for the reservation or the controller limit.
    """
    survey = admission.survey(tree, pool)
    if survey.line is not None:
        return None
    for front in admission.fronts(pool):
        template = front.head.template
        if survey.held[front.queue] is not front.head:
            continue
        broken = [bound for bound in admission.bounds(tree, pool, template) if bound.lacks(template.demand)]
        own = [bound for bound in broken if bound.pool is pool]
        if own and all(bound.rule in _GIVEN_BACK for bound in broken):
            gangs = len(admission.alike(front.line, most))
            left = [bound.left for bound in own]
            return Claim(front.priority, template.revocable, gangs, template.demand, left)
    return None


def _leaving(before: Resources, seen: Iterable[Seen]) -> Resources:
    return before.plus(_held([one.pod for one in seen if one.leaves]))


def _takeable(seen: Iterable[Seen]) -> Iterable[Seen]:
    return (one for one in seen if one.pod.template.preemptible and not one.leaves)


def _ranked(one: Seen, first: int, second: int) -> Candidate:
    """Of pods that are equal in all else the last instance goes first."""
    pod = one.pod
    return Candidate((first, second, -pod.started_at, pod.job, -pod.instance), pod)
