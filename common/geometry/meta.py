"""A Supervisely project's `meta.json`: classes with their geometry, colour and skeleton template, and tag definitions."""

from __future__ import annotations

import colorsys
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import PromptInvalid
from common.geometry.shapes import Skeleton, Value
from common.geometry.supervisely import Json, geometry_type, known_type


@dataclass(frozen=True)
class Template:
    """A skeleton class's nodes and bones (`geometry_config`).

    nodes: ids as figures name them. bones: pairs of ids. config: the JSON it was read from, written back as it was.
    """

    nodes: tuple[str, ...]
    bones: tuple[tuple[str, str], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Template:
        """From {"nodes": {id: ...}, "edges": [{"src", "dst"}]}; edges may be missing."""
        nodes = tuple(str(i) for i in config["nodes"])
        bones = tuple((str(e["src"]), str(e["dst"])) for e in config.get("edges") or ())
        return cls(nodes, bones, dict(config))

    @classmethod
    def of(cls, skeleton: Skeleton) -> Template:
        """The template that a skeleton is an example of."""
        return cls(skeleton.ids, tuple((skeleton.ids[a], skeleton.ids[b]) for a, b in skeleton.edges))

    def to_json(self, color: str) -> Json:
        """As it was read; a made-up one stands on a circle and has the class's colour."""
        if self.config:
            return dict(self.config)
        nodes: Json = {}
        for n, node in enumerate(self.nodes):
            nodes[node] = {"label": node, "loc": [20 * n, 20 * (n % 2)], "color": color}
        return {"nodes": nodes, "edges": [{"src": a, "dst": b, "color": color} for a, b in self.bones]}


@dataclass(frozen=True)
class ObjectClass:
    """One class. shape: a name of `GEOMETRY_TYPES`, "any", or a type that this suite does not know.

    color: "#RRGGBB". template: of a `graph` class. extra: the JSON's other keys (id, hotkey, description...), kept.
    """

    name: str
    shape: str
    color: str = ""
    template: Template | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        if not self.color:
            object.__setattr__(self, "color", color_of(self.name))
        if self.shape == "graph" and self.template is None:
            raise ValueError(f"class {self.name!r} is a skeleton and needs a template")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ObjectClass:
        shape = str(data["shape"])
        config = data.get("geometry_config") or {}
        template = Template.from_json(config) if shape == "graph" else None
        known = {"title", "shape", "color"} | ({"geometry_config"} if template else set())
        extra = {k: v for k, v in data.items() if k not in known}
        return cls(str(data["title"]), shape, str(data.get("color") or ""), template, extra)

    @classmethod
    def of(cls, name: str, value: Value) -> ObjectClass:
        """A class for objects drawn like `value`."""
        return cls(name, geometry_type(value), template=Template.of(value) if isinstance(value, Skeleton) else None)

    def to_json(self) -> Json:
        data: Json = {"title": self.name, "description": "", "shape": self.shape, "color": self.color}
        data |= {"geometry_config": self.template.to_json(self.color) if self.template else {}, "hotkey": ""}
        return data | dict(self.extra)

    def accepts(self, value: Value) -> bool:
        """Whether a figure of this value may belong to the class; a skeleton's nodes must all be in the template."""
        if self.shape == "any":
            return True
        if known_type(self.shape) != geometry_type(value):
            return False
        return self.template is None or not isinstance(value, Skeleton) or set(value.ids) <= set(self.template.nodes)


@dataclass(frozen=True)
class ProjectMeta:
    """Classes by name, and tag definitions as they were read."""

    classes: Mapping[str, ObjectClass] = field(default_factory=dict)
    tags: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, classes: Iterable[ObjectClass], tags: Iterable[Mapping[str, Any]] = ()) -> ProjectMeta:
        """ValueError for two classes of one name."""
        rows = list(classes)
        if len({c.name for c in rows}) != len(rows):
            raise ValueError("class names are unique")
        return cls({c.name: c for c in rows}, tuple(tags))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProjectMeta:
        """Raises `PromptInvalid` for JSON that is no meta."""
        try:
            return cls.of(map(ObjectClass.from_json, data.get("classes") or ()), data.get("tags") or ())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PromptInvalid(f"The project's meta.json is damaged: {error!r}.") from error

    def to_json(self) -> Json:
        """What `sly.ProjectMeta.from_json` reads."""
        return {
            "classes": [c.to_json() for c in self.classes.values()],
            "tags": [dict(t) for t in self.tags],
            "projectType": "videos",
        }

    def write(self, path: Path) -> None:
        """Write `meta.json`."""
        path.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def color_of(name: str) -> str:
    """A bright colour that depends on the name alone, "#RRGGBB"."""
    hue = (zlib.crc32(name.encode()) * 0.6180339887498949) % 1.0
    return "#" + "".join(f"{round(255 * v):02X}" for v in colorsys.hsv_to_rgb(hue, 0.75, 0.95))
