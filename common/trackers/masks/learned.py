"""Trackers of masks that are published networks: name -> "module:attribute" of a function (name, options) -> Tracker.

The module must import without torch, and the function must return at once: weights are read when tracking starts.
"""

LEARNED: dict[str, str] = {
    "cutie": "common.trackers.masks.cutie:make",
    "edgetam": "common.trackers.masks.edgetam:make",
    "sam2.1-tiny": "common.trackers.masks.sam2:make",
    "sam2.1-small": "common.trackers.masks.sam2:make",
    "sam2.1-base-plus": "common.trackers.masks.sam2:make",
    "sam2.1-large": "common.trackers.masks.sam2:make",
    "sam3": "common.trackers.masks.sam3:make",
    "xmem": "common.trackers.masks.xmem:make",
    "xmem-s012": "common.trackers.masks.xmem:make",
}
