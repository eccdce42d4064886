"""WORDS. The command line, one lazy module per verb.

One rule: a command parses, calls, prints; whatever decides lives elsewhere.
"""
