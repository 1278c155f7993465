"""Runs one multi-object tracker of other people over detections: run by association.py as a program of its own.

    python association_peers.py NAME IN.npz OUT.npz

IN: dets float (n, 6) of frame (from 1), x1, y1, x2, y2, score; frames; motions float (frames, 2, 3), previous pixels to those
of the frame, or empty. OUT: rows float (m, 7) of frame, id, x1, y1, x2, y2, score; seconds of processor time in the updates;
version. Thresholds as in the trackers' own papers: 0.6 good, 0.1 doubtful, 0.7 birth.
"""

import importlib.metadata
import sys
import time
from types import SimpleNamespace

import numpy as np

PICTURE = np.zeros((32, 32, 3), np.uint8)  # no tracker here looks at it: motions are given


class Roboflow:
    package = "trackers"

    def __init__(self, kind, motions):
        import trackers

        made = {
            "SORT": trackers.SORTTracker,
            "roboflow ByteTrack": trackers.ByteTrackTracker,
            "roboflow OC-SORT": trackers.OCSORTTracker,
            "roboflow BoT-SORT": trackers.BoTSORTTracker,
            "roboflow C-BIoU": trackers.CBIoUTracker,
        }[kind]
        self._tracker = made()
        self._camera = hasattr(self._tracker, "cmc") and len(motions) > 0
        if hasattr(self._tracker, "cmc"):
            self._tracker.cmc = (
                SimpleNamespace(estimate=lambda frame, boxes=None: self._motion) if self._camera else None
            )
            self._tracker.enable_cmc = self._camera

    def update(self, dets, motion):
        import supervision as sv

        self._motion = motion
        seen = sv.Detections(
            xyxy=dets[:, :4].astype(np.float32), confidence=dets[:, 4], class_id=np.zeros(len(dets), int)
        )
        found = self._tracker.update(seen, PICTURE) if self._camera else self._tracker.update(seen)
        ids = np.array([-1 if i is None else i for i in found.tracker_id]) if len(found) else np.zeros(0)
        keep = ids >= 0
        return np.concatenate((ids[keep, None], found.xyxy[keep], found.confidence[keep, None]), 1)


class Ultralytics:
    package = "ultralytics"

    def __init__(self, kind, motions):
        from ultralytics.trackers.bot_sort import BOTSORT

        self._tracker = BOTSORT(
            SimpleNamespace(
                track_high_thresh=0.6, track_low_thresh=0.1, new_track_thresh=0.7, track_buffer=30, match_thresh=0.8,
                fuse_score=True, gmc_method="none", proximity_thresh=0.5, appearance_thresh=0.8, with_reid=False, model="auto",
            )
        )  # fmt: skip
        if len(motions):
            self._tracker.gmc.method = "given"
            self._tracker.gmc.apply = lambda *_: self._motion

    def update(self, dets, motion):
        from ultralytics.engine.results import Boxes

        self._motion = motion
        found = self._tracker.update(Boxes(np.concatenate((dets, np.zeros((len(dets), 1))), 1), (1080, 1920)), PICTURE)
        found = np.asarray(found, float).reshape(-1, 8)
        return found[:, [4, 0, 1, 2, 3, 5]]


class Sdk:
    package = "supervisely"

    def __init__(self, kind, motions):
        from supervisely.nn.tracker.botsort.tracker.mc_bot_sort import BoTSORT

        self._tracker = BoTSORT(
            SimpleNamespace(
                track_high_thresh=0.6, track_low_thresh=0.1, new_track_thresh=0.7, track_buffer=30, match_thresh=0.8,
                proximity_thresh=0.5, appearance_thresh=0.25, with_reid=False, cmc_method="none", name="x", ablation=False,
                mot20=False, fuse_score=False, min_box_area=10,
            )
        )  # fmt: skip
        if len(motions):
            self._tracker.gmc.apply = lambda *_: self._motion

    def update(self, dets, motion):
        self._motion = motion
        found, _ = self._tracker.update(np.concatenate((dets, np.zeros((len(dets), 1))), 1), PICTURE)
        return np.array([(t.track_id, *t.tlbr, t.score) for t in found], float).reshape(-1, 6)


def main():
    name, source, target = sys.argv[1:]
    data = np.load(source)
    kind = Ultralytics if name.startswith("ultralytics") else Sdk if name.startswith("supervisely") else Roboflow
    motions = data["motions"]
    tracker, rows, seconds = kind(name, motions), [], 0.0
    dets = data["dets"]
    for frame in range(1, int(data["frames"]) + 1):
        now = dets[dets[:, 0] == frame][:, 1:].copy()
        motion = motions[frame - 1] if len(motions) else np.eye(2, 3)
        before = time.process_time()
        found = tracker.update(now, motion)
        seconds += time.process_time() - before
        rows.append(np.concatenate((np.full((len(found), 1), float(frame)), found), 1))
    np.savez(target, rows=np.concatenate(rows), seconds=seconds, version=importlib.metadata.version(kind.package))


if __name__ == "__main__":
    main()
