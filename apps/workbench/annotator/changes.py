"""Everything a person can change on the page, as values; each is applied whole and can be taken back exactly.

How: before a change, the rows that it will touch are copied, and with the ids of rows that it made they are the way back.
Taking back is itself a change with a way back, which is redo. Rows return with the ids they had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import ColumnElement, Table, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from apps.workbench.annotator.reading import NO_OBJECTS
from apps.workbench.api.bodies import Body, Ident, Idents, JsonObject
from apps.workbench.store import figures, objects, projects
from apps.workbench.store.database import now
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import AnnotationObject, Figure, Tag, TagMeta, Video

Frame = Annotated[int, Field(ge=0)]


class AddFigure(Body):
    """objectId: of an object that is there; negative: -1 is the first object that the same request adds, -2 the second."""

    op: Literal["add_figure"]
    object_id: Ident
    frame: Frame
    geometry_type: str
    geometry: JsonObject
    meta: JsonObject = Field(default_factory=dict)


class EditFigure(Body):
    """Whatever a person changes is the person's: the figure becomes a key figure. Without geometry it is only accepted."""

    op: Literal["edit_figure"]
    id: Ident
    geometry: JsonObject | None = None
    meta: JsonObject | None = None


class RemoveFigures(Body):
    op: Literal["remove_figures"]
    ids: Idents


class RemoveSpan(Body):
    """Figures of objects on frames first..last. what: all, or only what trackers made."""

    op: Literal["remove_span"]
    object_ids: Idents
    first: Frame
    last: Frame
    what: Literal["all", "tracked"] = "all"


class AcceptSpan(Body):
    """What trackers made of objects on frames first..last was looked at and is right: it becomes the person's."""

    op: Literal["accept_span"]
    object_ids: Idents
    first: Frame
    last: Frame


class AddObject(Body):
    op: Literal["add_object"]
    class_id: Ident


class EditObject(Body):
    op: Literal["edit_object"]
    id: Ident
    class_id: Ident


class RemoveObjects(Body):
    op: Literal["remove_objects"]
    ids: Idents


class Merge(Body):
    """All of `others` becomes `into`; where both have figures on a frame, those of `into` stay."""

    op: Literal["merge"]
    into: Ident
    others: Idents


class Split(Body):
    """A new object of the same class takes everything from `frame` on."""

    op: Literal["split"]
    id: Ident
    frame: Frame


class SetAbsent(Body):
    """The ranges of frames without the object, instead of those it had. clear: remove its figures on them."""

    op: Literal["set_absent"]
    object_id: Ident
    ranges: Annotated[list[tuple[Frame, Frame]], Field(max_length=10_000)]
    clear: bool = True


Change = Annotated[
    AddFigure
    | EditFigure
    | RemoveFigures
    | RemoveSpan
    | AcceptSpan
    | AddObject
    | EditObject
    | RemoveObjects
    | Merge
    | Split
    | SetAbsent,
    Field(discriminator="op"),
]

_TABLES: dict[str, Table] = {
    "objects": AnnotationObject.__table__,  # type: ignore[dict-item]
    "tags": Tag.__table__,  # type: ignore[dict-item]
    "figures": Figure.__table__,  # type: ignore[dict-item]
}
"""In the order in which rows can be written: a figure needs its object."""

_CHUNK = 5000

_TRACKED = Figure.track_id.is_not(None) & ~(Figure.nn_created & ~Figure.nn_updated)
"""What trackers made, and no person changed since."""


class Touched:
    """Rows as they were, by table and id; None for a row that was not there."""

    def __init__(self, rows: dict[str, dict[int, dict[str, Any] | None]] | None = None) -> None:
        self.rows = rows or {name: {} for name in _TABLES}

    def remember(self, session: Session, table: str, idents: Iterable[int]) -> None:
        """Only what a row was first counts."""
        wanted = [ident for ident in idents if ident not in self.rows[table]]
        source = _TABLES[table]
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            found = {row.id: dict(row._mapping) for row in session.execute(select(source).where(source.c.id.in_(some)))}
            self.rows[table].update({ident: found.get(ident) for ident in some})

    def made(self, table: str, idents: Iterable[int]) -> None:
        for ident in idents:
            self.rows[table].setdefault(ident, None)

    def to_json(self) -> dict[str, list[list[Any]]]:
        return {name: [[ident, row] for ident, row in rows.items()] for name, rows in self.rows.items()}

    @classmethod
    def from_json(cls, data: dict[str, list[list[Any]]]) -> Touched:
        return cls({name: {int(ident): row for ident, row in data.get(name, [])} for name in _TABLES})

    def frames(self) -> tuple[int, int] | None:
        """First and last frame on which a remembered figure lies; new ones are not known here."""
        found = [row["frame"] for row in self.rows["figures"].values() if row is not None]
        return (min(found), max(found)) if found else None


def apply(session: Session, video: Video, changes: list[Change]) -> tuple[list[list[int]], Touched]:
    """All changes or none. The ids that each made (figures of an add, objects of an add or split), and the way back."""
    touched = Touched()
    made: list[list[int]] = []
    new_objects: list[int] = []
    for number, change in enumerate(changes):
        if isinstance(change, AddFigure) and change.object_id < 0:
            if -change.object_id > len(new_objects):
                raise Refused(f"Change {number + 1} names an object that the request does not add.")
            change = change.model_copy(update={"object_id": new_objects[-change.object_id - 1]})
        idents = _apply_one(session, video, change, touched)
        session.flush()
        session.expire_all()
        made.append(idents)
        if isinstance(change, AddObject | Split):
            new_objects += idents
    return made, touched


def restore(session: Session, state: Touched) -> Touched:
    """Makes all rows what `state` says they were; the way back from that."""
    back = Touched()
    gone = {name: [ident for ident, row in rows.items() if row is None] for name, rows in state.rows.items()}
    for ident in gone["objects"]:  # with an object goes what came to it since
        _remember_object(session, ident, back)
    for name, rows in state.rows.items():
        back.remember(session, name, rows)
    for name in reversed(_TABLES):
        table = _TABLES[name]
        for start in range(0, len(gone[name]), _CHUNK):
            session.execute(delete(table).where(table.c.id.in_(gone[name][start : start + _CHUNK])))
    for name, table in _TABLES.items():
        rows = [row for row in state.rows[name].values() if row is not None]
        statement = insert(table)
        columns = {column.name: statement.excluded[column.name] for column in table.c if column.name != "id"}
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=columns)
        for start in range(0, len(rows), 500):
            session.execute(statement, rows[start : start + 500])
    return back


def _apply_one(session: Session, video: Video, change: Any, touched: Touched) -> list[int]:
    match change:
        case AddFigure():
            return _add_figure(session, video, change, touched)
        case EditFigure():
            _own_figures(session, video, [change.id])
            touched.remember(session, "figures", [change.id])
            changes: dict[str, Any] = {"trackId": None, "nnUpdated": False, "customData": None}
            if change.geometry is not None:
                changes["geometry"] = change.geometry
            if change.meta is not None:
                changes["meta"] = {k: v for k, v in change.meta.items() if k != "frame"}
            figures.edit_figure(session, change.id, changes)
        case RemoveFigures():
            _own_figures(session, video, change.ids)
            touched.remember(session, "figures", change.ids)
            figures.remove_figures(session, change.ids)
        case RemoveSpan():
            where = _span(change) + ([_TRACKED] if change.what == "tracked" else [])
            _remove_where(session, video, where, touched)
        case AcceptSpan():
            _accept(session, video, change, touched)
        case AddObject():
            made = objects.add_objects(session, video.dataset_id, [{"classId": change.class_id, "entityId": video.id}])
            touched.made("objects", made)
            return made
        case EditObject():
            _edit_class(session, video, change, touched)
        case RemoveObjects():
            for ident in change.ids:
                _own_object(session, video, ident)
                _remember_object(session, ident, touched)
            objects.remove_objects(session, change.ids)
        case Merge():
            _merge(session, video, change, touched)
        case Split():
            return _split(session, video, change, touched)
        case SetAbsent():
            _set_absent(session, video, change, touched)
    return []


def _add_figure(session: Session, video: Video, change: AddFigure, touched: Touched) -> list[int]:
    item = {
        "entityId": video.id,
        "objectId": change.object_id,
        "geometryType": change.geometry_type,
        "geometry": change.geometry,
        "meta": {**change.meta, "frame": change.frame},
    }
    # What a tracker guessed on this frame gives way to what a person draws.
    here = [Figure.object_id == change.object_id, Figure.frame == change.frame]
    _remove_where(session, video, [*here, _TRACKED], touched)
    made = figures.add_figures(session, [item])
    touched.made("figures", made)
    return made


def _remove_where(session: Session, video: Video, where: list[ColumnElement[bool]], touched: Touched) -> None:
    idents = list(session.scalars(select(Figure.id).where(Figure.video_id == video.id, *where)))
    touched.remember(session, "figures", idents)
    for start in range(0, len(idents), _CHUNK):
        figures.remove_figures(session, idents[start : start + _CHUNK])


def _span(change: RemoveSpan | AcceptSpan) -> list[ColumnElement[bool]]:
    return [Figure.object_id.in_(change.object_ids), Figure.frame.between(change.first, change.last)]


def _accept(session: Session, video: Video, change: AcceptSpan, touched: Touched) -> None:
    """As `EditFigure` without a geometry does with one figure."""
    mine = {"track_id": None, "nn_updated": False, "custom_data": None, "updated_at": now()}
    wanted = select(Figure.id).where(Figure.video_id == video.id, *_span(change), _TRACKED)
    idents = list(session.scalars(wanted))
    touched.remember(session, "figures", idents)
    for start in range(0, len(idents), _CHUNK):
        some = Figure.id.in_(idents[start : start + _CHUNK])
        session.execute(update(Figure).where(some).values(**mine))


def _edit_class(session: Session, video: Video, change: EditObject, touched: Touched) -> None:
    found = _own_object(session, video, change.id)
    new = next(
        (c for c in projects.meta_json(session, video.project_id)["classes"] if c["id"] == change.class_id), None
    )
    if new is None:
        raise Refused(f"The project has no class {change.class_id}.")
    kinds = set(session.scalars(select(Figure.geometry_type).where(Figure.object_id == change.id).distinct()))
    wrong = [kind for kind in sorted(kinds) if not figures.fits_class(new["shape"], kind)]
    if wrong:
        raise Refused(f"Class {new['title']!r} is for {new['shape']}, but the object has figures of type {wrong[0]}.")
    touched.remember(session, "objects", [change.id])
    found.class_id, found.updated_at = change.class_id, now()


def _merge(session: Session, video: Video, change: Merge, touched: Touched) -> None:
    into = _own_object(session, video, change.into)
    for ident in change.others:
        if ident == change.into:
            raise Refused("An object cannot be merged with itself.")
        other = _own_object(session, video, ident)
        if other.class_id != into.class_id:
            raise Refused("Only objects of one class can be merged; change the class of one of them first.")
        _remember_object(session, ident, touched)
        taken = select(Figure.frame).where(Figure.object_id == into.id)
        moving = Figure.object_id == ident
        session.execute(delete(Figure).where(moving, Figure.frame.in_(taken)))
        session.execute(update(Figure).where(moving).values(object_id=into.id))
        objects.remove_objects(session, [ident])


def _split(session: Session, video: Video, change: Split, touched: Touched) -> list[int]:
    found = _own_object(session, video, change.id)
    later = [Figure.object_id == change.id, Figure.frame >= change.frame]
    idents = list(session.scalars(select(Figure.id).where(*later)))
    earlier = session.scalar(
        select(Figure.id).where(Figure.object_id == change.id, Figure.frame < change.frame).limit(1)
    )
    if not idents or earlier is None:
        raise Refused(
            "An object is split where it has figures before and after; it has none on one side of this frame."
        )
    touched.remember(session, "figures", idents)
    made = objects.add_objects(session, video.dataset_id, [{"classId": found.class_id, "entityId": video.id}])
    touched.made("objects", made)
    session.execute(update(Figure).where(*later).values(object_id=made[0]))
    return made


def _set_absent(session: Session, video: Video, change: SetAbsent, touched: Touched) -> None:
    _own_object(session, video, change.object_id)
    meta_id = _absent_tag(session, video.project_id)
    here = [Tag.object_id == change.object_id, Tag.tag_meta_id == meta_id]
    old = list(session.scalars(select(Tag.id).where(*here)))
    touched.remember(session, "tags", old)
    session.execute(delete(Tag).where(*here))
    items = [{"tagId": meta_id, "objectId": change.object_id, "frameRange": sorted(frames)} for frames in change.ranges]
    touched.made("tags", objects.add_object_tags(session, items))
    if change.clear:
        for first, last in map(sorted, change.ranges):
            span = [Figure.object_id == change.object_id, Figure.frame.between(first, last)]
            _remove_where(session, video, span, touched)


def _absent_tag(session: Session, project_id: int) -> int:
    """The id of the project's no-objects tag, which is made when it is missing."""
    query = select(TagMeta.id).where(TagMeta.project_id == project_id, TagMeta.name == NO_OBJECTS)
    found = session.scalar(query)
    if found is None:
        tag = {"name": NO_OBJECTS, "value_type": "none", "color": "#8c8c8c"}
        projects.update_meta(session, project_id, {"tags": [tag]})
        found = session.scalar(query)
    assert found is not None
    return found


def _remember_object(session: Session, ident: int, touched: Touched) -> None:
    touched.remember(session, "objects", [ident])
    touched.remember(session, "tags", session.scalars(select(Tag.id).where(Tag.object_id == ident)).all())
    touched.remember(session, "figures", session.scalars(select(Figure.id).where(Figure.object_id == ident)).all())


def _own_object(session: Session, video: Video, ident: int) -> AnnotationObject:
    found = objects.get_object(session, ident)
    if found.video_id != video.id:
        raise Refused(f"Object {ident} is not in this video.")
    return found


def _own_figures(session: Session, video: Video, idents: list[int]) -> None:
    for start in range(0, len(idents), _CHUNK):
        some = idents[start : start + _CHUNK]
        other = select(Figure.id).where(Figure.id.in_(some), Figure.video_id != video.id).limit(1)
        if session.scalar(other) is not None:
            raise Refused("One of the figures is in another video.")
