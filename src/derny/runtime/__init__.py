"""THE LOOP. The only room where pure code meets await: inbox, machine, journal, answers, effects, clock.

One rule: durable first, then answers, then watchers, then agents. May import `core`, `journal`, `model`.
"""
