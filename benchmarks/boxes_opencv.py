"""Follows one box with a tracker of OpenCV: run by boxes.py as a program of its own, in an environment that has it.

    python boxes_opencv.py mil|csrt|kcf FRAMES.npy X,Y,W,H THREADS

FRAMES.npy: uint8 (n, height, width, 3), RGB. Prints JSON: version, seconds (wall) and cpu_seconds of the tracking alone,
boxes (n - 1 rows of x, y, w, h, or null where it says that it lost the object).
"""

import json
import sys
import time

import cv2
import numpy as np


def main() -> None:
    name, path, box, threads = sys.argv[1:]
    cv2.setNumThreads(int(threads))
    frames = [np.ascontiguousarray(f[..., ::-1]) for f in np.load(path, mmap_mode="r")]
    tracker = getattr(cv2, f"Tracker{name.upper()}_create")()
    wall, cpu = time.perf_counter(), time.process_time()
    boxes: list[list[float] | None] = []
    alive = True  # some trackers throw at boxes that touch the picture's edge: from there on they have lost the object
    for number, frame in enumerate(frames):
        found, where = False, ()
        try:
            if number == 0:
                tracker.init(frame, tuple(round(float(v)) for v in box.split(",")))
                continue
            if alive:
                found, where = tracker.update(frame)
        except cv2.error:
            alive = False
        if number == 0:
            continue
        boxes.append([float(v) for v in where] if found else None)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"version": cv2.__version__, "seconds": seconds, "cpu_seconds": cpu_seconds, "boxes": boxes}))


if __name__ == "__main__":
    main()
