"""NOUNS. Values and records: ids, states, resources, specs, refusals.

One rule: no behaviour beyond arithmetic and spelling. Imports nothing of ours; everyone may import it.
"""
