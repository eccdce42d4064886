"""HANDS. Whatever runs pods, behind the Protocol that `runtime.loop` declares.

One rule: repeats are harmless; a pod id is started once and killed once. May import `model`, `core.commands`
and `core.events` (for the effects).
"""
