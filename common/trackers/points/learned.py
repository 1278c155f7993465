"""Trackers of points that are published networks: name -> "module:attribute" of a function (name, options) -> Tracker.

The module must import without torch, and the function must return at once: weights are read when tracking starts.
"""

LEARNED: dict[str, str] = {}
