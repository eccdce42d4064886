"""SHARES. Who may use how much: the pool hierarchy and which waiting gangs it admits.

One rule: pure; nothing here knows hosts. May import `model` (and numpy).
"""
