"""THE COUNTER. Thin translators between the wire and the machine, one file per service.

One rule: read through `core.queries`, write through `runtime`; never touch a record's fields from here on.
May import everything below but `journal` and `agents`; the only room, with `client`, that sees `proto`.
"""
