"""Broken promises of the journal: what ends the daemon.

Neither is a refusal (`model.errors`): no caller of an RPC ever meets one. The message is a full sentence
for the operator; `app` logs it and the process ends. Restart and replay is the recovery.
"""


class JournalError(Exception):
    """The journal can't be opened, read or written."""


class JournalLocked(JournalError):
    """Another daemon has this data directory."""
