"""Trackers of points that are published networks: name -> "module:attribute" of a function (name, options) -> Tracker.

The module must import without torch, and the function must return at once: weights are read when tracking starts. The
first is the one to begin with: frame by frame, with a state of fixed size and weights that may be used commercially.
"""

LEARNED: dict[str, str] = {
    "bootstapir-online": "common.trackers.points.tapir:make",
    "bootstapir-online-512": "common.trackers.points.tapir:make",
    "bootstapir": "common.trackers.points.tapir:make",
    "tapir": "common.trackers.points.tapir:make",
    "cotracker3-online": "common.trackers.points.cotracker:make",
    "cotracker3-offline": "common.trackers.points.cotracker:make",
    "tapnextpp": "common.trackers.points.tapnext:make",
    "tapnextpp-512": "common.trackers.points.tapnext:make",
    "pips": "common.trackers.points.pips:make",
    "pips2": "common.trackers.points.pips:make",
    "tiny_points": "common.trackers.points.tiny_points:make",
}
