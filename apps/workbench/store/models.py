"""The tables, as the newest migration leaves them. `migrations.py` makes them; this file only describes them for queries.

Geometries, figure meta and other free-form values are JSON text: the workbench stores what it was given and gives it back.
Times are ISO 8601 UTC text with milliseconds, as the platform writes them. Ids are never reused (AUTOINCREMENT).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012  SQLAlchemy reads it from the class


def _id() -> Mapped[int]:
    return mapped_column(primary_key=True, autoincrement=True)


def _parent(target: str, index: bool = True) -> Mapped[int]:
    return mapped_column(ForeignKey(target, ondelete="CASCADE"), index=index)


AUTO = {"sqlite_autoincrement": True}


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("workspace_id", "name"), AUTO)
    id: Mapped[int] = _id()
    workspace_id: Mapped[int]
    name: Mapped[str]
    description: Mapped[str]
    readme: Mapped[str]
    type: Mapped[str]
    settings: Mapped[dict[str, Any]]
    custom_data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Dataset(Base):
    __tablename__ = "datasets"
    __table_args__ = (AUTO,)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    description: Mapped[str]
    custom_data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Blob(Base):
    """A file by its content. `meta` is what was found inside a video, null for other files."""

    __tablename__ = "blobs"
    hash: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]
    meta: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[str]


class Video(Base):
    """`link`: the address that the file came from."""

    __tablename__ = "videos"
    __table_args__ = (UniqueConstraint("dataset_id", "name"), AUTO)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id")
    dataset_id: Mapped[int] = _parent("datasets.id", index=False)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(ForeignKey("blobs.hash"), index=True)
    meta: Mapped[dict[str, Any]]
    custom_data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]
    link: Mapped[str | None]


class Image(Base):
    """`width`, `height`: upright pixels. `meta`: what people keep with it. `link`: the address that the file came from."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("dataset_id", "name"), AUTO)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id")
    dataset_id: Mapped[int] = _parent("datasets.id", index=False)
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(ForeignKey("blobs.hash"), index=True)
    width: Mapped[int]
    height: Mapped[int]
    mime: Mapped[str]
    description: Mapped[str]
    meta: Mapped[dict[str, Any]]
    custom_data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]
    link: Mapped[str | None]


class Label(Base):
    """One labelled thing on an image. `geometry` and `extra` (everything else that came with it) are JSON text."""

    __tablename__ = "labels"
    __table_args__ = (AUTO,)
    id: Mapped[int] = _id()
    image_id: Mapped[int] = _parent("images.id")
    class_id: Mapped[int] = _parent("classes.id")
    geometry_type: Mapped[str]
    geometry: Mapped[str]
    bbox: Mapped[str | None]
    description: Mapped[str]
    extra: Mapped[str]
    nn_created: Mapped[bool]
    nn_updated: Mapped[bool]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Collection(Base):
    """A selection of a project's images or videos."""

    __tablename__ = "collections"
    __table_args__ = (UniqueConstraint("project_id", "name"), AUTO)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id", index=False)
    name: Mapped[str]
    description: Mapped[str]
    type: Mapped[str]
    meta: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class CollectionItem(Base):
    """One of `image_id` and `video_id` is null."""

    __tablename__ = "collection_items"
    __table_args__ = (
        UniqueConstraint("collection_id", "image_id"),
        UniqueConstraint("collection_id", "video_id"),
        Index("ix_collection_items_image", "image_id"),
        Index("ix_collection_items_video", "video_id"),
        AUTO,
    )
    id: Mapped[int] = _id()
    collection_id: Mapped[int] = _parent("collections.id", index=False)
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    created_at: Mapped[str]


class ObjectClass(Base):
    """`data` is the class's JSON as the SDK sent it, without its id."""

    __tablename__ = "classes"
    __table_args__ = (UniqueConstraint("project_id", "name"), AUTO)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id", index=False)
    name: Mapped[str]
    shape: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class TagMeta(Base):
    __tablename__ = "tag_metas"
    __table_args__ = (UniqueConstraint("project_id", "name"), AUTO)
    id: Mapped[int] = _id()
    project_id: Mapped[int] = _parent("projects.id", index=False)
    name: Mapped[str]
    value_type: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class AnnotationObject(Base):
    """One labelled thing. `video_id` is null in multi-view projects, where an object spans the videos of its dataset."""

    __tablename__ = "objects"
    __table_args__ = (AUTO,)
    id: Mapped[int] = _id()
    dataset_id: Mapped[int] = _parent("datasets.id")
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"), index=True)
    class_id: Mapped[int] = _parent("classes.id")
    description: Mapped[str]
    meta: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Tag(Base):
    """A tag on a video (`object_id` null), an object, an image or a label; `first_frame`..`last_frame` inclusive, null for
    all frames."""

    __tablename__ = "tags"
    __table_args__ = (AUTO,)
    id: Mapped[int] = _id()
    tag_meta_id: Mapped[int] = _parent("tag_metas.id")
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"), index=True)
    object_id: Mapped[int | None] = mapped_column(ForeignKey("objects.id", ondelete="CASCADE"), index=True)
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    label_id: Mapped[int | None] = mapped_column(ForeignKey("labels.id", ondelete="CASCADE"), index=True)
    value: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    first_frame: Mapped[int | None]
    last_frame: Mapped[int | None]
    extra: Mapped[dict[str, Any]]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Figure(Base):
    """One object's geometry on one frame. `geometry`, `meta` and `custom_data` are JSON text.

    key: the writer's own name of the figure; the same key and content for the same object again is the same figure.
    """

    __tablename__ = "figures"
    __table_args__ = (
        Index("ix_figures_video_frame", "video_id", "frame"),
        Index("ix_figures_object_frame", "object_id", "frame"),
        Index("ix_figures_object_key", "object_id", "key"),
        AUTO,
    )
    id: Mapped[int] = _id()
    video_id: Mapped[int] = _parent("videos.id", index=False)
    object_id: Mapped[int] = _parent("objects.id", index=False)
    frame: Mapped[int]
    geometry_type: Mapped[str]
    geometry: Mapped[str]
    bbox: Mapped[str | None]
    meta: Mapped[str]
    track_id: Mapped[str | None]
    nn_created: Mapped[bool]
    nn_updated: Mapped[bool]
    priority: Mapped[int | None]
    custom_data: Mapped[str | None]
    key: Mapped[str | None]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class Task(Base):
    """One app session. `url` is where its process listens, null while it has none.

    session_token: the secret part of /net/{token}/. pid, pid_started: the process, to find it again after a crash.
    """

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("session_token"), AUTO)
    id: Mapped[int] = _id()
    app: Mapped[str]
    name: Mapped[str]
    status: Mapped[str]
    url: Mapped[str | None]
    session_token: Mapped[str]
    config: Mapped[dict[str, Any]]
    fields: Mapped[dict[str, Any]]
    output: Mapped[dict[str, Any]]
    meta: Mapped[dict[str, Any]]
    pid: Mapped[int | None]
    pid_started: Mapped[float | None]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class TeamFile(Base):
    """A file in the team's storage. `path` is a name in this table only; the bytes lie under their hash."""

    __tablename__ = "team_files"
    __table_args__ = (UniqueConstraint("path"), AUTO)
    id: Mapped[int] = _id()
    path: Mapped[str]
    hash: Mapped[str] = mapped_column(ForeignKey("blobs.hash"), index=True)
    mime: Mapped[str]
    created_at: Mapped[str]
    updated_at: Mapped[str]


class PageChange(Base):
    """One change that a person made on the annotator page. `state`: how the touched rows were before it (or, of one that
    was undone, after it), packed by `annotator/history.py`. request, reply: what was asked and answered, for a page that did
    not hear the answer and asks again."""

    __tablename__ = "page_changes"
    __table_args__ = (Index("ix_page_changes_video", "video_id", "id"), AUTO)
    id: Mapped[int] = _id()
    video_id: Mapped[int] = _parent("videos.id", index=False)
    label: Mapped[str]
    request: Mapped[str]
    reply: Mapped[list[Any]]
    undone: Mapped[bool]
    state: Mapped[bytes]
    size: Mapped[int]
    created_at: Mapped[str]
