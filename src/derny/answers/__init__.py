"""ANSWERS. What can be told of the state: views, queries, explanations, and trials of what would happen.

One rule: nothing here changes the state it is asked about; what tries something out does so on a fork. May
import `core`, `capacity`, `placement`, `model`.
"""
