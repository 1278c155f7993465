"""What earlier labelings of this app drew on a video, which a new one takes the place of; corrected figures are people's."""

from __future__ import annotations

from collections.abc import Mapping

from apps.predict.store import JobStore
from apps.predict.upload import track_id
from common.supervisely_io.figures import figures, remove_figures
from common.supervisely_io.projects import remove_objects
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server

_JOBS = 1000
_AT_ONCE = 1000


class Earlier:
    """Of one job and video. tracks: of the other jobs' figures; whether their object was made by that job, too."""

    def __init__(self, store: JobStore, job: str, video: int) -> None:
        self._store, self._job, self._video = store, job, video
        self.tracks: dict[str, bool] = {}
        for other in store.jobs(_JOBS):
            count = store.made(other.id, "numbers", video)
            if other.id != job and count is not None:
                people = store.made(other.id, "people", video) or 0
                self.tracks |= {track_id(other.id, video, n): n > people for n in range(1, count + 1)}

    def note(self, people: int, numbers: int) -> None:
        """Before the first figure is written: identities up to that many are objects of people, and how many there are."""
        self._store.note_made(self._job, "people", self._video, people)
        self._store.note_made(self._job, "numbers", self._video, numbers)


def replaced(server: Server, video: VideoRecord, tracks: Mapping[str, bool]) -> int:
    """Removes figures of those tracks that no person corrected, and objects that have nothing else; how many objects. Called
    when the new figures are stored, so that a crash leaves the old ones beside them, never none."""
    if not tracks:
        return 0
    old: list[int] = []
    ours: set[int] = set()
    others: set[int] = set()
    for one in figures(server, video, geometry=False):
        if one.track_id is not None and one.track_id in tracks and not one.by_person:
            old.append(one.id)
            if tracks[one.track_id]:
                ours.add(one.object_id)
        else:
            others.add(one.object_id)
    remove_figures(server, old)
    gone = sorted(ours - others)
    for start in range(0, len(gone), _AT_ONCE):
        remove_objects(server, gone[start : start + _AT_ONCE])
    return len(gone)
