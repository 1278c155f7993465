"""Trackers of boxes that are published networks: name -> "module:attribute" of a function (name, options) -> Tracker.

The module must import without torch, and the function must return at once: weights are read when tracking starts.
"""

LEARNED: dict[str, str] = {
    "tiny": "common.trackers.boxes.tiny:make",
    "hybrid": "common.trackers.boxes.hybrid:make",
    "mixformer": "common.trackers.boxes.mixformer:make",
    "mixformer-convmae-l": "common.trackers.boxes.mixformer:make",
    "mixformer-vit-b": "common.trackers.boxes.mixformer:make",
    "mixformer-convmae-b": "common.trackers.boxes.mixformer:make",
    "mixformerv2-b": "common.trackers.boxes.mixformer:make",
    "mixformerv2-s": "common.trackers.boxes.mixformer:make",
    "transt": "common.trackers.boxes.transt:make",
    "transt-n2": "common.trackers.boxes.transt:make",
    "mcitrack": "common.trackers.boxes.mcitrack:make",
    "mcitrack-t224": "common.trackers.boxes.mcitrack:make",
    "mcitrack-s224": "common.trackers.boxes.mcitrack:make",
    "mcitrack-l224": "common.trackers.boxes.mcitrack:make",
    "mcitrack-l384": "common.trackers.boxes.mcitrack:make",
    "vittrack": "common.trackers.boxes.opencv_nets:make",
    "nanotrack": "common.trackers.boxes.opencv_nets:make",
}
