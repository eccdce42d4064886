"""THE COUNTER. Thin translators between the wire and the machine, one file per service; the codec.

One rule: read through `answers.queries`, write through `runtime`; never touch a record's fields from here on.
May import `edge`, `core`, `runtime`, `model` and `proto`.
"""
