"""THE MACHINE. Commands and time in, events out.

One rule: pure. *Decide* may refuse and never writes; *apply* writes and never refuses. May import `model`,
`capacity` and `placement`; time, ids and randomness come in as inputs.
"""
