"""PatchJob: the parts that a request gives, laid over the configuration that the job has.

One rule: as proto3 merges messages, so that what is left out stays, with one difference: lists are replaced,
as maps are, for a list that could only grow would be of no use. Messages are merged field by field, other
values replaced. A value that proto3 does not send (empty text, 0, false, an empty list) can't be given here;
it takes ReplaceJob. The merged configuration is checked and adopted like that of ReplaceJob. (API reference,
PatchJobRequest.)
"""

from dataclasses import fields, replace
from typing import TypeVar

import betterproto2

_M = TypeVar("_M", bound=betterproto2.Message)


def patched(base: _M, given: _M) -> _M:
    """A new message: `given` laid over `base`, neither of which changes."""
    values: dict[str, object] = {}
    for field in fields(given):  # type: ignore[arg-type]  # generated classes are dataclasses, their base is not
        over, under = getattr(given, field.name), getattr(base, field.name)
        if isinstance(over, betterproto2.Message) and under is not None:
            values[field.name] = patched(under, over)
        elif over != field.default_factory():  # type: ignore[operator]  # betterproto2 gives every field one
            # Of fields that proto3 calls optional the default is None, so that even their zeros are given.
            values[field.name] = over
    merged = replace(base, **values)  # type: ignore[type-var]  # as above
    merged._unknown_fields = bytes(base._unknown_fields) + bytes(given._unknown_fields)
    return merged
