"""Runs of engines in progress: which figures of which objects each follows, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.auto_track.engines import Engine, EngineRun, Row, Scene, Sighting, Start
from apps.auto_track.timeline import Slot


def figure_key(object_id: int, number: int) -> str:
    return f"{object_id}:{number}"


def parsed_key(key: str) -> tuple[int, int]:
    object_id, number = key.split(":")
    return int(object_id), int(number)


@dataclass
class Leg:
    """One engine run. Owned by one thread.

    members: digest of the key figures of every object in it. position: last frame that it was given. versions: what the
    session's version was when each frame, not yet final, was begun; as many as the engine holds back.
    """

    kind: str
    slot: Slot
    members: Mapping[int, str]
    start: Start
    run: EngineRun
    position: int
    versions: dict[int, int] = field(default_factory=dict)
    ended: bool = False
    used: int = 0

    @classmethod
    def begin(
        cls, engine: Engine, scene: Scene, kind: str, slot: Slot, members: Mapping[int, str], start: Start
    ) -> Leg:
        return cls(kind, slot, members, start, engine.start(scene, start), slot.start)

    @property
    def next(self) -> int:
        return self.position + self.slot.step

    def advance(self, until: int, version: int) -> list[tuple[int, int, Mapping[str, Sighting]]]:
        """One frame on: what became final, as (frame, version when it was begun, sightings)."""
        frame = self.next
        self.versions[frame] = version
        rows = self.run.advance(frame, until)
        self.position = frame
        final = self._final(rows)
        # Engines that hold frames back give the last ones only when told that no more will come, and then cannot go on.
        if frame == until and self.versions:
            final += self._final(self.run.flush())
            self.versions.clear()
            self.ended = True
        return final

    def cut(self) -> list[tuple[int, int, Mapping[str, Sighting]]]:
        """No more frames can be had: what was held back."""
        self.ended = True
        final = self._final(self.run.flush())
        self.versions.clear()
        return final

    def _final(self, rows: list[Row]) -> list[tuple[int, int, Mapping[str, Sighting]]]:
        return [(frame, self.versions.pop(frame, 0), sightings) for frame, sightings in rows]

    def facts(self) -> dict[str, Any]:
        """For the journal."""
        members = {str(ident): digest for ident, digest in self.members.items()}
        return {
            "kind": self.kind,
            "start": self.slot.start,
            "step": self.slot.step,
            "members": members,
            "position": self.position,
            "versions": list(self.versions),
        }
