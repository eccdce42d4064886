"""Secrets: files with secret content that a job's containers find at a path.

One rule: the content is in a `Secret` and nowhere else, and a `Secret` never spells it: what is printed of
one, alone or inside something else, has its id and path. Configurations hold a `SecretRef`. (Behaviour, jobs
§11; API reference, peloton.proto: Secret.)
"""

import msgspec


class SecretRef(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A secret as a job's configuration knows it. `version` counts the contents that it has had."""

    id: str
    path: str
    version: int = 1


class Secret(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A secret with its content, as the containers will find it. As a wish: without content it stays what
    it is."""

    id: str
    path: str
    data: bytes

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r}, path={self.path!r}, data=<secret>)"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """What rich, a pretty-printer, asks for in place of `__repr__`; msgspec's own tells all fields."""
        return [("id", self.id), ("path", self.path)]
