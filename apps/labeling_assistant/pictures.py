"""Projects of images: what people labelled on some is the support set, the others are looked at and labelled one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.labeling_assistant.examples import Drawn
from apps.predict.ledger import Ledger
from common.detection.contract import Detections
from common.detection.selection import Selection, select
from common.errors import PromptInvalid
from common.geometry.image_json import from_edges
from common.geometry.supervisely import from_json
from common.labeling.chosen import MIDDLE
from common.labeling.plan import Plan
from common.labeling.support import Example, Labelled, SupportSet
from common.serving.detection_images import predictions
from common.serving.intake import decode
from common.serving.replies import Rejected
from common.supervisely_io.figures import remove_figures
from common.supervisely_io.image_labels import LabelRecord, labels
from common.supervisely_io.image_writer import CONFIDENCE, ImageWriter, Written
from common.supervisely_io.images import ImageRecord, content, fetched, images, images_by_id
from common.supervisely_io.listing import entities
from common.supervisely_io.server import Server
from common.video.contract import Image

Told = dict[str, Any]

_AT_ONCE = 4
"""Images that are looked at and written together."""
_KEPT = 16
"""Pictures of examples that are kept while candidates are tried."""
_SAME = 0.5
"""IoU from which a find is a label that is there."""
_MOST = 300


def by_person(label: LabelRecord) -> bool:
    """Whether a person drew it, or corrected what a network drew."""
    return not (label.geometry.get("nnCreated") and label.geometry.get("nnUpdated"))


def drawn_on_images(server: Server, project: int) -> Drawn:
    """As `drawn`, of a project of images: rows begin with the image's id; `complete` are the images on which only people
    drew. sizes: width and height by image, as text."""
    rows: list[list[Any]] = []
    complete: list[int] = []
    sizes: dict[str, list[int]] = {}
    for record, found in _labelled(server, project):
        own = [label for label in found if by_person(label)]
        if not own:
            continue
        if len(own) == len(found):
            complete.append(record.id)
        sizes[str(record.id)] = [record.width, record.height]
        for label in own:
            try:
                geometry = from_edges(label.geometry_type, label.geometry)
            except (KeyError, TypeError, ValueError):
                continue
            plain = {key: geometry[key] for key in ("points", "bitmap", "nodes", "angle") if key in geometry}
            rows.append([record.id, label.id, label.class_name, label.geometry_type, plain])
    return {"rows": rows, "complete": complete, "sizes": sizes}


def _labelled(server: Server, project: int) -> Any:
    """Images with labels, and those; a dataset at a time."""
    for row in entities(server, "datasets.list", {"projectId": project, "recursive": True}):
        records = {one.id: one for one in images(server, int(row["id"]))}
        for ident, found in labels(server, int(row["id"]), list(records)).items():
            if found:
                yield records[ident], found


def support_of_images(
    server: Server,
    kept: Drawn,
    chosen: Sequence[int],
    text: dict[str, list[str]] | None = None,
    classes: tuple[str, ...] | None = None,
) -> SupportSet:
    """chosen: images on which everything is labelled. Pictures are fetched when they are looked at. Raises `PromptInvalid`
    when nothing is labelled there."""
    by_image: dict[int, list[Labelled]] = {ident: [] for ident in chosen}
    for ident, label, name, kind, geometry in kept["rows"]:
        if ident in by_image:
            try:
                value = from_json(kind, geometry, *kept["sizes"][str(ident)])
            except PromptInvalid:
                continue  # a shape that the suite does not know
            by_image[ident].append(Labelled(str(label), name, value))
    names = classes or tuple(dict.fromkeys(label.class_name for own in by_image.values() for label in own))
    unknown = [name for name in text or () if name not in names]
    if unknown:
        raise PromptInvalid(f"Words are given for {unknown[0]}, but only {', '.join(names)} are labelled.")

    @lru_cache(maxsize=_KEPT)
    def read(ident: int) -> Image:
        return decode(content(server, ident), str(ident))

    examples = tuple(
        Example(lambda ident=ident: read(ident), tuple(one for one in own if one.class_name in names))  # type: ignore[misc]
        for ident, own in by_image.items()
    )
    return SupportSet(examples, names, {name: tuple(words) for name, words in (text or {}).items()})


def label_portion(
    server: Server,
    project: int,
    idents: Sequence[int],
    plan: Plan,
    place: Path,
    stop: threading.Event,
    report: Callable[[int, int], None],
) -> Told | None:
    """What came of those images, all of one dataset; None when it was stopped. place: folder of the app, where it is
    remembered which labels it drew: those are replaced. People's labels stay, and nothing is drawn where they have one."""
    detector = plan.video()
    writer = ImageWriter(server, project, "iou_merge", threshold=_SAME, tags=(CONFIDENCE,))
    chosen = Selection(threshold=MIDDLE, most=_MOST)
    total, damaged, removed = Written(), 0, 0
    records = images_by_id(server, idents)

    def read(record: ImageRecord, data: bytes) -> Image | None:
        try:
            return decode(data, record.name)
        except Rejected:
            return None

    with Ledger(place / "drawn_labels.sqlite") as ledger:
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            if stop.is_set():
                return None
            dataset = part[0].dataset_id
            removed += _cleared(server, dataset, part, ledger)
            before = writer.present(dataset, [one.id for one in part])
            entries = []
            for record, image in zip(part, fetched(server, part, read), strict=True):
                if image is None:
                    damaged += 1
                    continue
                (found,) = detector.detect([image])
                sure: Detections = select(found, detector.card.classes, chosen)
                entries.append((record, predictions(sure, detector.card)))
            for record in part:  # what a killed attempt wrote is removed by the next
                ledger.note(f"before {record.id}", before[record.id])
            if entries:
                total = total + writer.write(dataset, entries, {record.id: before[record.id] for record, _ in entries})
            for ident, now in writer.present(dataset, list(before)).items():
                ledger.note(f"drawn {ident}", sorted(set(now) - set(before[ident])))
                ledger.note(f"before {ident}", None)
            report(start + len(part), len(records))
    told: Told = {"objects": total.added, "figures": total.added, **asdict(total), "removed": removed}
    if damaged:
        told["damage"] = f"{damaged} images could not be read."
    return told


def _cleared(server: Server, dataset: int, part: Sequence[ImageRecord], ledger: Ledger) -> int:
    """Removes what this app drew on those images before and nobody has corrected; how many."""
    found = labels(server, dataset, [one.id for one in part])
    old: list[int] = []
    for record in part:
        before, ours = ledger.get(f"before {record.id}"), ledger.get(f"drawn {record.id}") or ()
        drawn = [one.id for one in found.get(record.id, ()) if not by_person(one)]
        old += [ident for ident in drawn if (ident in ours if before is None else ident not in before)]
    if old:
        remove_figures(server, old)
    return len(old)
