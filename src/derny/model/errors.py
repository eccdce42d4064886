"""Refusals: what a caller can be told no for, and nothing else.

A refusal is raised by a decider before anything has changed, or by the counter while it reads a request. It
carries one full sentence that names the field or id, the value, and what would be accepted. The one table
that maps each class to a gRPC status is `edge.call.STATUS_OF`. A broken promise (a failed assert, a
journal error) is never a refusal: it ends the process.
"""


class Refusal(Exception):
    """The caller's wish can't be granted; the message is a sentence meant for the caller."""


class Invalid(Refusal):
    """The request itself is wrong, whatever the state of the cluster (INVALID_ARGUMENT)."""


class NotFound(Refusal):
    """The named thing does not exist (NOT_FOUND)."""


class Exists(Refusal):
    """The named thing exists already (ALREADY_EXISTS)."""


class WrongVersion(Refusal):
    """The entity version is not the current one (ABORTED, "unexpected entity version")."""


class WrongState(Refusal):
    """The thing is not in a state in which this is possible; reading it again may help (ABORTED)."""


class Busy(Refusal):
    """Something must be done first, elsewhere, by the caller (FAILED_PRECONDITION)."""


class TooOld(Refusal):
    """What happened so long ago is no longer kept (OUT_OF_RANGE)."""


class Overrun(Refusal):
    """More has happened than this reader could take; it may go on from where it stands (ABORTED)."""


class Cancelled(Refusal):
    """Somebody has asked for this to end (CANCELLED)."""


class Exhausted(Refusal):
    """A limit of the daemon is reached (RESOURCE_EXHAUSTED)."""


class Unimplemented(Refusal):
    """The contract has it, this release does not do it yet (UNIMPLEMENTED)."""


class Unavailable(Refusal):
    """Not now: the daemon is closing or locked down (UNAVAILABLE)."""
