"""Video files of servers on this machine's disk: fetched once, shared by processes, bounded; frames at once."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import FrameUnreadable, Interrupted, ServerRefused, ServerUnreachable, VideoUnreadable
from common.supervisely_io.background import Background
from common.supervisely_io.download import NoRoom, download
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.remote import FRAMES_AT_ONCE, Encoded, RemoteFrames
from common.supervisely_io.server import Server
from common.supervisely_io.shelf import Hold, Shelf
from common.video.contract import Image, VideoInfo
from common.video.video_file import VideoFile

log = logging.getLogger(__name__)

FRAME_BYTES = 64 << 20
"""Memory for encoded frames of videos whose files are still on their way."""

_HEAD_START_S = 0.25
_LOOK_EVERY_S = 0.1
_MOST_WARMING = 256


class VideoCache:
    """A folder of video files, at most max_bytes of them; the least recently used go first, none that is open goes.

    A video that does not fit, even after everything unused is gone, is served frame by frame from its server.
    Several processes may share the folder (on one machine: it relies on POSIX file locks). Thread-safe.
    """

    def __init__(self, folder: Path, max_bytes: int, frame_bytes: int = FRAME_BYTES) -> None:
        self._shelf = Shelf(folder, max_bytes)
        self._encoded = Encoded(frame_bytes)
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._warming: deque[tuple[Server, VideoRecord, tuple[tuple[int, int], ...]]] = deque()
        self._warmer: Background | None = None
        self._closed = threading.Event()

    def open(self, server: Server, record: VideoRecord) -> CachedVideo:
        """Frames of that video, within a quarter of a second: single frames come from the server until the file is here.

        The same video opened again, from any server that gives it the same hash, shares the file. Close what it returns.
        """
        key = key_of(server, record)
        with self._lock:
            if self._closed.is_set():
                raise ValueError("the cache is closed")
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(self._shelf, key)
            entry.users += 1
            entry.start(server, record)
        return CachedVideo(self, entry, record, RemoteFrames(server, record, self._encoded, key), server.stop)

    def warm(self, server: Server, record: VideoRecord, ranges: Sequence[tuple[int, int]] = ()) -> bool:
        """Begins to fetch a video in the background (`smart_cache`); one at a time, in the order asked for.

        ranges: frames (first, last; both within) to have in memory even before the file is here, as far as they fit.
        False when too many wait already, or the cache is closed.
        """
        with self._lock:
            if self._closed.is_set() or len(self._warming) >= _MOST_WARMING:
                return False
            self._warming.append((server, record, tuple(ranges)))
            if self._warmer is None or self._warmer.ended:
                self._warmer = Background(self._warm_all, "warm-up")
        return True

    def ready(self, server: Server, record: VideoRecord) -> bool:
        """Whether the whole file is here."""
        return self._shelf.file(key_of(server, record)).exists()

    def bytes(self) -> int:
        """What the files take on disk, those on their way with their whole size."""
        return self._shelf.bytes()

    def close(self) -> None:
        """Ends downloads; what they have so far stays for the next time. Open videos go on, frame by frame."""
        self._closed.set()
        with self._lock:
            entries = list(self._entries.values())
        for entry in entries:
            entry.cancel()
        if self._warmer is not None:
            self._warmer.join(30.0)

    def _release(self, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            last = entry.users == 0
            if last:
                del self._entries[entry.key]
        if last:
            entry.close()

    def _warm_all(self) -> None:
        while True:
            with self._lock:
                if not self._warming or self._closed.is_set():
                    self._warmer = None
                    return
                server, record, ranges = self._warming.popleft()
            try:
                video = self.open(server, record)
            except ValueError:  # closed meanwhile
                return
            try:
                video.fetch(ranges)
            except (FrameUnreadable, Interrupted) as error:
                log.warning("warming up video %s: %s", record.id, error)
            finally:
                video.close()


def key_of(server: Server, record: VideoRecord) -> str:
    """Names a video's file: by its content where the server knows the hash."""
    identity = record.hash or f"{server.address}|{record.id}|{record.updated_at}|{record.size_bytes}"
    return hashlib.sha256(identity.encode()).hexdigest()[:40]


class _Entry:
    """One video in this process: the file if it is here, or the thread that fetches it."""

    def __init__(self, shelf: Shelf, key: str) -> None:
        self.key, self.users = key, 0
        self._shelf = shelf
        self._use = shelf.use(key)
        self._file: VideoFile | None = None
        self._settled = threading.Event()
        self._cancelled = threading.Event()
        self._thread: Background | None = None

    @property
    def file(self) -> VideoFile | None:
        """None until it is here. Raises what broke the thread that fetches it, if that was a fault of ours."""
        if self._file is None and self._thread is not None:
            self._thread.check()
        return self._file

    @property
    def settled(self) -> bool:
        """Whether the file is here, or it is certain that this attempt will not bring it."""
        return self._settled.is_set()

    def wait(self, timeout_s: float) -> VideoFile | None:
        self._settled.wait(timeout_s)
        return self.file

    def start(self, server: Server, record: VideoRecord) -> None:
        """Begins to fetch unless that is under way or done; after a failure it begins again."""
        if self._thread is not None and (not self._thread.ended or self._file is not None):
            return
        self._settled.clear()
        view = server.to(stop=self._cancelled)
        self._thread = Background(lambda: self._bring(view, record), f"video-{record.id}")

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        """Lets go of the file, once a download under way has noticed; nobody waits for that."""
        self._cancelled.set()
        if self._thread is None:
            self._finish()
        else:
            self._thread.when_ended(self._finish)

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()
        self._use.release()

    def _download(self, server: Server, record: VideoRecord, loading: Hold) -> None:
        part = self._shelf.part(self.key)
        download(server, record, part, lambda size: self._shelf.admit(self.key, size, loading), self._cancelled)
        part.replace(self._shelf.file(self.key))

    def _bring(self, server: Server, record: VideoRecord) -> None:
        try:
            while not self._shelf.file(self.key).exists():
                if self._cancelled.is_set():
                    return
                loading = self._shelf.load(self.key)
                if loading is None:  # another process fetches it
                    self._cancelled.wait(_LOOK_EVERY_S)
                    continue
                try:
                    if not self._shelf.file(self.key).exists():
                        self._download(server, record, loading)
                finally:
                    loading.release()
            self._file = VideoFile(self._shelf.file(self.key))
        except Interrupted:
            return
        except NoRoom:
            log.warning("video %s does not fit into the cache; its frames come one by one", record.id)
        except VideoUnreadable as error:
            log.warning("the file of video %s is of no use: %s", record.id, error)
        except (ServerRefused, ServerUnreachable, OSError) as error:
            log.warning("the file of video %s could not be fetched: %s", record.id, error)
        finally:
            self._settled.set()


class CachedVideo:
    """A `FrameSource`: frames from the file once it is here, from the server until then. Thread-safe.

    `info` is the file's when the file was here at opening, else what the server says of it.
    """

    def __init__(
        self, cache: VideoCache, entry: _Entry, record: VideoRecord, remote: RemoteFrames, stop: threading.Event
    ) -> None:
        self._cache, self._entry, self._record, self._remote, self._stop = cache, entry, record, remote, stop
        self._closed = False
        # Small files, and those that another app has fetched, are here in a moment: decoding them beats asking for frames.
        self._file = entry.wait(_HEAD_START_S)
        if self._file is not None:
            self._info = replace(self._file.info, name=record.name)
        else:
            self._info = VideoInfo(record.frames, record.width, record.height, record.fps, name=record.name)

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def local(self) -> bool:
        """Whether frames come from the file by now."""
        return self._here() is not None

    def read(self, index: int) -> Image:
        file = self._here()
        if file is None:
            try:
                return self._remote.read(index)
            except FrameUnreadable:
                file = self._wait(index)
                if file is None:
                    raise
        try:
            return file.read(index)
        except FrameUnreadable as error:
            raise self._named(error) from error

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        step = -1 if stop < start else 1
        stop = max(stop, -1)
        index, size = start, 1
        while index != stop and (file := self._here()) is None:
            chunk = range(index, stop, step)[:size]
            size = FRAMES_AT_ONCE  # the first frame alone, so that it comes soon
            try:
                for image in self._remote.batch(chunk):
                    yield image
                    index += step
            except FrameUnreadable:
                if self._wait(index) is None:
                    raise
        if index == stop:
            return
        file = self._here()
        assert file is not None
        try:
            yield from file.stream(index, stop)
        except FrameUnreadable as error:
            raise self._named(error) from error

    def fetch(self, ranges: Sequence[tuple[int, int]] = ()) -> bool:
        """Waits until the whole file is here; False when it will not come. ranges: frames to fetch alone meanwhile."""
        end = self._record.frames - 1
        try:
            for first, last in ranges:
                index, last = max(0, first), min(last, end)
                while index <= last and not self._entry.settled:
                    index += sum(1 for _ in self._remote.batch(range(index, last + 1)[:FRAMES_AT_ONCE]))
        except FrameUnreadable as error:  # the file may have it all the same
            log.info("a frame of video %s could not be fetched ahead: %s", self._record.id, error)
        return self._wait(0) is not None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._cache._release(self._entry)

    def __enter__(self) -> CachedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _here(self) -> VideoFile | None:
        if self._file is None:
            self._file = self._entry.file
        return self._file

    def _wait(self, index: int) -> VideoFile | None:
        """The file, once it is here; None when it will not come."""
        while not self._entry.settled:
            if self._stop.is_set():
                raise Interrupted(f"Stopped while waiting for frame {index} of {self._record.name}.")
            self._entry.wait(_LOOK_EVERY_S)
        return self._here()

    def _named(self, error: FrameUnreadable) -> FrameUnreadable:
        name = self._file.info.name if self._file is not None else ""
        return FrameUnreadable(str(error).replace(name, self._record.name) if name else str(error), error.index)
