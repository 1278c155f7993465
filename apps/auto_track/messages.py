"""Everything that a labeler is told, in one place."""

from __future__ import annotations

from collections.abc import Iterable

NOTHING_TO_TRACK = (
    "No settings for selected geometries. Tracking stopped. Choose a tracker for them in the Auto Track app, or select "
    "objects that have a figure on this frame."
)
NOTHING_TO_INTERPOLATE = "No valid figures to interpolate. Select figures that are still there and try again."
NO_SMART_TOOL = "Smart tool model is not selected"
SESSION_GONE = "Selected session is not available. Please select another session in the Auto Track app GUI."

CANNOT_RESERVE = (
    "Unable to reserve tokens for predictions. Tracking stopped; what was tracked so far is kept. Check the balance of your "
    "account, then press Track again."
)
CANNOT_WITHDRAW = (
    "Unable to withdraw tokens for predictions. Nothing is lost; tell your administrator if it happens again."
)

_NAMES = {
    "rectangle": "bounding boxes",
    "oriented_bbox": "oriented bounding boxes",
    "bitmap": "masks",
    "polygon": "polygons",
    "point": "points",
    "line": "polylines",
    "graph": "keypoints",
    "smarttool": "Smart Tool masks",
}


def named(kind: str) -> str:
    """A geometry as the annotation tool calls it."""
    return _NAMES.get(kind, kind)


def no_engine(kinds: Iterable[str]) -> str:
    names = ", ".join(sorted(named(kind) for kind in kinds))
    return (
        "Model settings are missing for some geometries, such objects will be skipped. Skipping geometries: "
        f"{names}. Choose a tracker for them in the Auto Track app."
    )


def invalid_settings(kind: str, why: str) -> str:
    return f"Invalid settings for geometry type {named(kind)}, this geometry will not be tracked. {why}"


def engine_failed(kind: str, frames: tuple[int, int], why: str) -> str:
    return (
        f"Error during tracking: {why}. geometry: {named(kind)}, frames: [{frames[0]}, {frames[1]}]. These frames keep "
        "what they had; press Track again to try once more."
    )


def no_figure(object_id: int, frame: int) -> str:
    return f"Object {object_id} has no figure on frame {frame}, so it is not tracked from there. Draw it on that frame first."


def beyond(frame: int, frames: int) -> str:
    return f"Frame {frame} is not in the video, whose last frame is {frames - 1}. Nothing is tracked from there."


def gone(object_ids: Iterable[int]) -> str:
    objects = ", ".join(map(str, sorted(object_ids)))
    return f"Object {objects} does not exist any more and is not tracked."


def damaged(object_id: int, frame: int, why: str) -> str:
    return f"A figure of object {object_id} on frame {frame} cannot be tracked and is left out: {why}"


def cannot_start(object_ids: Iterable[int], frame: int, why: str) -> str:
    objects = ", ".join(map(str, sorted(set(object_ids))))
    return f"Tracking of object {objects} cannot start on frame {frame}: {why}"


def disappeared(object_id: int, frame: int) -> str:
    return (
        f"[Off-Screen Detection] Tracking stopped for object ID {object_id} on frame {frame}: it is hidden or has left the "
        "picture. No figures are made while it is away; if it is recognised again, it is labelled again."
    )


def other_topology(object_id: int, frame: int, parts: int, holes: int) -> str:
    def count(number: int, one: str) -> str:
        return f"{number} {one}" if number == 1 else f"{number or 'no'} {one}s"

    return (
        f"The outline of object {object_id} has {count(parts, 'part')} and {count(holes, 'hole')} on frame {frame}, other than "
        "it was drawn. Look there whether that is right; a correction is tracked on from."
    )


def frame_unreadable(frame: int, why: str) -> str:
    return f"Frame {frame} cannot be read, so tracking ends before it: {why}"


def refused(count: int, reason: str) -> str:
    return f"{count} figures were not accepted by the server. The first: {reason}"


def detector_failed(why: str) -> str:
    return f"New objects are not looked for any more, because the detector failed: {why}"


def class_unknown(names: Iterable[str]) -> str:
    shown = ", ".join(sorted(names))
    return (
        f"Detected objects are left out because the project has no class for them: {shown}. Add such a class (bounding box or "
        "any shape), or choose one in the Auto Track app."
    )


def smart_failed(object_id: int, frame: int) -> str:
    return f"The Smart Tool found no mask for object {object_id} on frame {frame}. Other objects are not affected."


def resumed(frame: int) -> str:
    return f"Auto Track was restarted and goes on from frame {frame}. Nothing that was finished is lost."


def no_gpu(title: str) -> str:
    return (
        f"{title} needs a computer with a GPU, and none of your team's that are on has one. Connect one on the Team Cluster "
        "page, or choose a tracker that needs none."
    )


def no_agent(title: str) -> str:
    return f"There is no computer on which {title} could run. Connect one on the Team Cluster page, or ask your administrator."


def not_offered(module_id: int) -> str:
    return f"App {module_id} is not among the apps that can be started here. Reload the page and choose again."


def not_started(title: str, why: str) -> str:
    return f"{title} could not be started: {why} Choose another tracker, or ask your administrator."


def starting(title: str) -> str:
    return f"{title} is starting. The first time this may take some minutes; you can go on labeling."


def start_done(title: str) -> str:
    return f"{title} is ready."


def start_failed(title: str, task_id: int) -> str:
    return f"{title} ended while it was starting. The log of task {task_id} says why; choose another tracker meanwhile."


def start_too_slow(title: str, task_id: int, waited_s: float) -> str:
    return (
        f"{title} is not ready after {waited_s / 60:.0f} minutes. Look at task {task_id}; once it runs, choose it here."
    )


def cannot_restart(task_id: int) -> str:
    return f"Task {task_id} is of an app that cannot be started from here. Start it again on the Tasks page."


def no_destination(count: int) -> str:
    return f"Destination figures not found for {count} figures. To interpolate, draw the object on an earlier or later frame too."


def cannot_interpolate(a: str, b: str) -> str:
    return f"Cannot interpolate between {named(a)} and {named(b)}. Use the same kind of figure on both frames."


DIFFERENT_POINTS = "Cannot interpolate lines with different number of points. Give both figures the same points."


def upload_failed(why: str) -> str:
    return f"Unable to upload interpolations: {why}"
