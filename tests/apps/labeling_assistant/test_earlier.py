"""What a new labeling takes away: what earlier ones drew, and nothing that anybody else did."""

from __future__ import annotations

from pathlib import Path

from apps.labeling_assistant.earlier import Earlier, replaced
from apps.predict.store import JobStore
from apps.predict.upload import track_id
from common.supervisely_io.figures import figures
from common.supervisely_io.projects import add_objects, objects, project
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from tests.apps.labeling_assistant.conftest import Clip
from tests.apps.workbench.harness import Served
from tests.common.supervisely_io.test_writer import drawn


def test_only_what_earlier_labelings_drew_is_removed(served: Served, clip: Clip, tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    jobs = [store.create({}, "") for _ in range(2)]
    first, second = (Earlier(store, job, clip.video) for job in jobs)
    first.note(1, 3)  # object 1 is a person's, 2 and 3 are its own
    assert second.tracks == {}, "known when its turn came"
    second, other_video = Earlier(store, jobs[1], clip.video), Earlier(store, jobs[1], clip.video + 1)
    assert second.tracks == {track_id(jobs[0], clip.video, n): n > 1 for n in (1, 2, 3)}
    assert other_video.tracks == {}
    of_people, gone, corrected = second.tracks

    with Server(served.settings.address, served.bench.token) as server:
        record = video(server, clip.video)
        disc = project(server, record.project_id).class_named("disc")
        assert disc is not None
        made, mended, elsewhere, empty = add_objects(server, record, [disc.id] * 4)
        theirs = clip.objects["d1"]
        before = {one.id for one in figures(server, record)}

        def write(ident: int, frame: int, track: str, by_person: bool = False) -> int:
            return drawn(served, record, ident, frame, trackId=track, nnCreated=True, nnUpdated=not by_person)

        write(theirs, 9, of_people)
        for frame in (8, 9):
            write(made, frame, gone)
        kept = {write(mended, 9, corrected, by_person=True), write(elsewhere, 9, "another tracker's")}
        write(mended, 10, corrected)
        assert replaced(server, record, second.tracks) == 1
        assert {one.id for one in figures(server, record)} == before | kept
        left = {one.id for one in objects(server, record)}
        assert left == {*clip.objects.values(), mended, elsewhere, empty}
        assert replaced(server, record, second.tracks) == 0
    store.close()
