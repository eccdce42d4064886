"""PLACES. Which host: a table of hosts as numpy columns, and the engine that picks from it.

One rule: pure; nothing here knows pools or jobs. May import `model` (and numpy).
"""
