"""What could do the job here and now: detectors that need no weights, and those whose weights are on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from common.detection import registry
from common.detection.contract import Detector, DetectorSettings
from common.detection.exemplar.detector import ExemplarDetector
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.detection.learned import LEARNED
from common.detection.open_variants import OPEN
from common.labeling.support import SupportSet
from common.weights.entries import Catalogue, catalogue
from common.weights.options import DEFAULT, EngineOptions
from common.weights.store import Store

Kind = Literal["exemplar", "detector", "open"]

FLOOR = 0.03
"""Least score that candidates are asked for; thresholds are chosen above it."""


@dataclass(frozen=True)
class Candidate:
    """One way to find the objects, as plain values. name: unique. kind: "exemplar" is learned from the examples,
    "detector" knows classes of its own, "open" looks for what it is told. settings: of the exemplar detector; `detector`:
    its name in the registry. prompts: what it is told, in the order of the support set's classes; several words of one
    class follow each other, `owners` says whose they are.
    """

    name: str
    kind: Kind
    title: str
    detector: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    owners: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Candidate:
        rest = dict(data)
        for name in ("prompts", "owners"):
            rest[name] = tuple(rest.get(name, ()))
        return Candidate(**rest)


EXEMPLARS: tuple[Candidate, ...] = (
    Candidate("exemplar", "exemplar", "Like the examples: shape and colour"),
    Candidate("exemplar-shape", "exemplar", "Like the examples: shape alone", settings={"colours": False}),
    Candidate("exemplar-colour", "exemplar", "Like the examples: colour alone", settings={"shapes": False}),
    Candidate("exemplar-fine", "exemplar", "Like the examples: finer detail", settings={"side": 44}),
)


def available(
    support: SupportSet, store: Store | None = None, known: Catalogue | None = None, *, video: bool = True
) -> list[Candidate]:
    """All candidates, quick and likely ones first. store: where weights are looked for; None = this machine's. video:
    whether the pictures are frames of a video, in which things move."""
    found = list(EXEMPLARS)
    if video:
        found.append(Candidate("motion", "detector", "What moves", "motion"))
    found.append(Candidate("hog", "detector", "Upright people (HOG)", "hog"))
    place, weights = store or Store.from_env(), known or catalogue()
    for name in LEARNED:
        entry = weights.entries.get(name)
        if entry is None or place.status(entry) == "not here":
            continue
        if name in OPEN:
            found += _told(name, entry.title, support)
        else:
            found.append(Candidate(name, "detector", entry.title, name))
    return found


def make(
    candidate: Candidate,
    pictures: Sequence[ExemplarPicture],
    classes: Sequence[str],
    options: EngineOptions = DEFAULT,
) -> Detector:
    """A fresh detector. pictures: what it may learn from. Raises `WeightsMissing` and the like when it is first used."""
    if candidate.kind == "exemplar":
        settings = ExemplarSettings(**{"floor": FLOOR, **candidate.settings})
        return ExemplarDetector.from_pictures(pictures, classes, settings)
    return registry.make(
        candidate.detector, options, DetectorSettings(floor=FLOOR, batch=4, prompts=tuple(candidate.prompts))
    )


def _told(name: str, title: str, support: SupportSet) -> list[Candidate]:
    """An open-vocabulary detector, told the class names, and told other words for them."""
    plain = tuple(_words(label) for label in support.classes)
    everyone = tuple(range(len(plain)))
    found = [Candidate(f"{name}:names", "open", f"{title}, told the class names", name, {}, plain, everyone)]
    phrases: list[str] = []
    owners: list[int] = []
    for number, label in enumerate(support.classes):
        for words in support.text.get(label, ()):
            phrases.append(_words(words))
            owners.append(number)
    if phrases:
        found.append(
            Candidate(f"{name}:text", "open", f"{title}, told the description", name, {}, tuple(phrases), tuple(owners))
        )
    one = tuple(_singular(words) for words in plain)
    if one != plain:
        found.append(Candidate(f"{name}:singular", "open", f"{title}, told single words", name, {}, one, everyone))
    return found


def _words(label: str) -> str:
    return " ".join(label.replace("_", " ").replace("-", " ").split()).lower()


def _singular(words: str) -> str:
    return words[:-1] if words.endswith("s") and not words.endswith("ss") else words
