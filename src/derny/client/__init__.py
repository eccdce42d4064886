"""CALLERS. What the command line uses to read spec files and to talk to a daemon.

One rule: nothing of the daemon is imported here but its messages, `proto`.
"""
