"""PLACES. Which host, and why not: a table of hosts as numpy columns, constraints, the engine that picks.

One rule: pure; nothing here knows pools or jobs. May import `model` (and numpy).
"""
