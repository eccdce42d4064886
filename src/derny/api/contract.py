"""Methods of the contract that a later release brings: registered now, and refused with a plain sentence.

One rule: what is not done is never answered OK. Each service of this room names its missing methods and what
they come with; a test holds the names against the contract. Called by the services when they are registered.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from grpclib.const import Handler

from derny.model.errors import Unimplemented

Methods = dict[str, Handler]


def without(methods: Methods, later: Mapping[str, str]) -> Methods:
    """The methods by path, those in `later` (method name → what it comes with) replaced by a refusal."""
    for path, handler in methods.items():
        service, method = path.removeprefix("/").split("/")
        if method in later:
            sentence = (
                f"{service.rpartition('.')[2]}.{method} is not served yet by this release;"
                f" it comes with {later[method]}"
            )
            methods[path] = handler._replace(func=partial(_refuse, sentence))
    return methods


async def _refuse(sentence: str, stream: Any) -> None:
    raise Unimplemented(sentence)
