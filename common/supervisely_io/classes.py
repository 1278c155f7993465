"""The classes and tags of a project that predictions go to, made when they are missing."""

from __future__ import annotations

from common.geometry.meta import ObjectClass
from common.supervisely_io.projects import ProjectRecord, ensure, project
from common.supervisely_io.records import ClassRecord, TagDefinition
from common.supervisely_io.server import Server


class ProjectClasses:
    """Owned by one thread. suffix: put behind a class name that the project uses for another shape."""

    def __init__(self, server: Server, project_id: int, suffix: str) -> None:
        self._server, self._id, self._suffix = server, project_id, suffix or "_model"
        self._project: ProjectRecord | None = None
        self._chosen: dict[str, ClassRecord] = {}

    def record(self, wanted: ObjectClass) -> ClassRecord:
        """The project's class of that name if it takes such geometries, else one with the suffix; by name the same one
        every time."""
        if wanted.name not in self._chosen:
            name, number = wanted.name, 1
            while (found := self._known().class_named(name)) is not None and not _takes(found, wanted):
                name = f"{wanted.name}{self._suffix}" + ("" if number == 1 else str(number))
                number += 1
            if found is None:
                new = ObjectClass(name, wanted.shape, template=wanted.template)
                self._project = ensure(self._server, self._id, [new])
                found = self._known().class_named(name)
                assert found is not None
            self._chosen[wanted.name] = found
        return self._chosen[wanted.name]

    def tag(self, name: str, value_type: str) -> int | None:
        """Id of the tag; None when the project has one of that name for something else."""
        found = self._known().tag_named(name)
        if found is None:
            self._project = ensure(self._server, self._id, tags=[TagDefinition(0, name, value_type)])
            found = self._known().tag_named(name)
        return None if found is None or found.value_type != value_type else found.id

    def bones(self, class_id: int) -> tuple[tuple[str, str], ...]:
        """Of a class that holds skeletons, else ()."""
        known = self._known().classes.get(class_id)
        return () if known is None else known.bones

    def _known(self) -> ProjectRecord:
        if self._project is None:
            self._project = project(self._server, self._id)
        return self._project


def _takes(found: ClassRecord, wanted: ObjectClass) -> bool:
    if found.shape == "any":
        return wanted.shape != "graph"  # a skeleton needs the template that only its own class has
    if found.shape != wanted.shape:
        return False
    template = found.object_class.template
    return wanted.template is None or (template is not None and set(wanted.template.nodes) <= set(template.nodes))
