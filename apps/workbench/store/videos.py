"""Videos: names in datasets that point at files by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import new_ids, now
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.models import Blob, Dataset, Image, Tag, TagMeta, TeamFile, Video
from apps.workbench.store.names import filename
from apps.workbench.store.projects import TEAM_ID, WORKSPACE_ID, get_dataset, require_kind

COLUMNS: listing.Columns = {
    "id": Video.id,
    "name": Video.name,
    "title": Video.name,
    "hash": Video.hash,
    "datasetId": Video.dataset_id,
    "projectId": Video.project_id,
    "createdAt": Video.created_at,
    "updatedAt": Video.updated_at,
}


def get_video(session: Session, ident: int) -> Video:
    video = session.get(Video, ident)
    if video is None:
        raise missing("video", ident)
    return video


def get_blob(session: Session, hash: str) -> Blob:
    blob = session.get(Blob, hash)
    if blob is None:
        raise missing("uploaded file", hash)
    return blob


def video_blob(session: Session, ident: int) -> tuple[Video, Blob]:
    video = get_video(session, ident)
    return video, get_blob(session, video.hash)


def frames_of(blob: Blob) -> int:
    return int(picture_of(blob)["framesCount"])


def picture_of(blob: Blob) -> dict[str, Any]:
    """The stream of the file that holds the pictures; every video file has one, `media.probe` saw to it."""
    streams: list[dict[str, Any]] = (blob.meta or {}).get("streams", [])
    for stream in streams:
        if stream["codecType"] == "video":
            return stream
    raise Refused("That file is not a video.")


def remember_blob(session: Session, hash: str, size: int, meta: dict[str, Any] | None) -> None:
    """Notes a file that lies on disk. What is known of it already stays, unless only now its inside was looked at."""
    known = session.get(Blob, hash)
    if known is None:
        session.add(Blob(hash=hash, size=size, meta=meta, created_at=now()))
        session.flush()
    elif known.meta is None and meta is not None:
        known.meta = meta


def known_videos(session: Session, hashes: Sequence[str]) -> list[str]:
    """Those of the hashes that need no upload, in the order given."""
    found = set(session.scalars(select(Blob.hash).where(Blob.hash.in_(hashes), Blob.meta.is_not(None))))
    return [hash for hash in hashes if hash in found]


def known_links(session: Session, links: Sequence[str]) -> dict[str, str]:
    """Hash by link, of links that videos came from."""
    rows = session.execute(select(Video.link, Video.hash).where(Video.link.in_(links)).order_by(Video.id))
    return {str(link): hash for link, hash in rows}


def check_new(session: Session, dataset_id: int, items: Sequence[Mapping[str, Any]]) -> tuple[Dataset, list[str]]:
    """The dataset, and the names that `add_videos` gives. Raises what it raises about them, without a look at files."""
    dataset = get_dataset(session, dataset_id)
    require_kind(session, dataset.project_id, "videos")
    names = [filename(item["title"], "video") for item in items]
    taken = set(session.scalars(select(Video.name).where(Video.dataset_id == dataset_id, Video.name.in_(names))))
    for name in names:
        if name in taken:
            raise Refused(f"There is a video named {name!r} in this dataset already.")
        taken.add(name)
    return dataset, names


def add_videos(session: Session, dataset_id: int, items: Sequence[Mapping[str, Any]]) -> list[Video]:
    """items: {"title", "hash" or "id" of a video to copy, "link" that the file came from?, "meta"}; all are added or none.
    Rows in the order of items."""
    dataset, names = check_new(session, dataset_id, items)
    moment = now()
    videos = []
    for ident, name, item in zip(new_ids(session, "videos", len(items)), names, items, strict=True):
        source = None if item.get("id") is None else get_video(session, item["id"])
        hash = item.get("hash") or (None if source is None else source.hash)
        if hash is None:
            raise Refused(f"Video {name!r} comes with neither hash nor id nor link.")
        picture_of(get_blob(session, hash))
        videos.append(
            Video(
                id=ident,
                project_id=dataset.project_id,
                dataset_id=dataset_id,
                name=name,
                hash=hash,
                meta=item.get("meta") or {},
                custom_data={},
                created_at=moment,
                updated_at=moment,
                link=item.get("link") or (None if source is None else source.link),
            )
        )
    session.add_all(videos)
    session.flush()
    return videos


def rename_video(session: Session, ident: int, name: str) -> Video:
    video = get_video(session, ident)
    filename(name, "video")
    taken = select(Video.id).where(Video.dataset_id == video.dataset_id, Video.name == name, Video.id != ident)
    if session.scalar(taken) is not None:
        raise Refused(f"There is a video named {name!r} in this dataset already.")
    video.name, video.updated_at = name, now()
    return video


def remove_videos(session: Session, idents: Sequence[int]) -> None:
    """With their objects, figures and tags. The files stay until `unused_blobs` are cleaned up."""
    session.execute(delete(Video).where(Video.id.in_(idents)))


def unused_blobs(session: Session) -> list[str]:
    """Files that nothing points at."""
    used = select(Video.hash).union(select(TeamFile.hash), select(Image.hash))
    return list(session.scalars(select(Blob.hash).where(Blob.hash.not_in(used))))


def forget_blobs(session: Session, hashes: Sequence[str]) -> None:
    session.execute(delete(Blob).where(Blob.hash.in_(hashes)))


def videos_json(session: Session, videos: Sequence[Video]) -> list[dict[str, Any]]:
    blobs = {blob.hash: blob for blob in session.scalars(select(Blob).where(Blob.hash.in_({v.hash for v in videos})))}
    tags: dict[int | None, list[dict[str, Any]]] = {}
    rows = session.execute(
        select(Tag, TagMeta.name)
        .join(TagMeta)
        .where(Tag.video_id.in_([video.id for video in videos]), Tag.object_id.is_(None))
        .order_by(Tag.id)
    )
    for tag, name in rows:
        tags.setdefault(tag.video_id, []).append(tag_json(tag, name))
    return [_video_json(video, blobs[video.hash], tags.get(video.id, [])) for video in videos]


def _video_json(video: Video, blob: Blob, tags: list[dict[str, Any]]) -> dict[str, Any]:
    picture = picture_of(blob)
    file = blob.meta or {}
    return {
        "id": video.id,
        "name": video.name,
        "title": video.name,
        "hash": video.hash,
        "link": video.link,
        "teamId": TEAM_ID,
        "workspaceId": WORKSPACE_ID,
        "projectId": video.project_id,
        "datasetId": video.dataset_id,
        "pathOriginal": f"/workbench/videos/{video.id}/file",
        "framesToTimecodes": picture["framesToTimecodes"],
        "framesCount": picture["framesCount"],
        "frameWidth": picture["width"],
        "frameHeight": picture["height"],
        "createdAt": video.created_at,
        "updatedAt": video.updated_at,
        "tags": tags,
        "fileMeta": {
            **picture,
            "formatName": file.get("formatName"),
            "mime": file.get("mime"),
            "size": str(blob.size),
            "streams": [],
        },
        "meta": video.meta,
        "customData": video.custom_data,
        "processingPath": f"{TEAM_ID}/{video.id}",
    }


def tag_json(tag: Tag, name: str) -> dict[str, Any]:
    """A tag as annotations carry it: only the parts that it has."""
    record: dict[str, Any] = {
        **tag.extra,
        "id": tag.id,
        "tagId": tag.tag_meta_id,
        "name": name,
        "labelerLogin": "admin",
        "createdAt": tag.created_at,
        "updatedAt": tag.updated_at,
    }
    if tag.video_id is not None:
        record["entityId"] = tag.video_id
    if tag.object_id is not None:
        record["objectId"] = tag.object_id
    if tag.value is not None:
        record["value"] = tag.value
    if tag.first_frame is not None:
        record["frameRange"] = [tag.first_frame, tag.last_frame]
    return record
