"""MEMORY. The only room that knows SQLite: turns of events appended durably, read back in order.

One rule: what `append` returned from has survived. May import `model` and `core.events`.
"""
