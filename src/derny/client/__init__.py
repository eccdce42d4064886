"""CALLERS. What the command line and the harness use to talk to a daemon, and to read spec files.

One rule: nothing of the daemon is imported here but `proto` and the wire codec.
"""
