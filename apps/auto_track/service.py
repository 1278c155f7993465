"""One process of Auto Track, behind its endpoints: who asks, what runs, what is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from apps.auto_track import messages
from apps.auto_track.deploying import (
    Agent,
    Deployment,
    Deployments,
    Home,
    Offer,
    agents,
    home,
    offers,
    place_for,
    restart,
)
from apps.auto_track.discovery import Running, check, running
from apps.auto_track.engines import EngineFailed
from apps.auto_track.interpolate import fill_gaps
from apps.auto_track.journal import Journal
from apps.auto_track.remote import Address
from apps.auto_track.segment import local_mask
from apps.auto_track.session import LINGER_S, Means
from apps.auto_track.settings import KEYS, Settings, SettingsStore
from apps.auto_track.tracks import Errands, Tracks
from apps.auto_track.updates import Deploy, Interpolate
from common.errors import EngineUnavailable
from common.serving.access import Caller
from common.serving.envelope import CacheState, Envelope
from common.serving.servers import Servers
from common.serving.settings import ServingSettings
from common.serving.smart_sam2 import smart_tool
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video

log = logging.getLogger(__name__)


class Service:
    """Made once per process. Methods may be called from any thread."""

    def __init__(
        self, settings: ServingSettings, *, linger_s: float = LINGER_S, means: Mapping[str, Any] | None = None
    ) -> None:
        """means: other parts than usual, for tests (fields of `Means`)."""
        self.settings = settings
        folder = settings.data / "auto_track"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = SettingsStore(folder / "settings.json")
        self.videos = VideoCache(settings.data / "videos", settings.cache_bytes)
        self.journal = Journal(folder / "journal.sqlite")
        self._servers = Servers()
        self.tracks = Tracks(
            Means(self.videos, self.journal, linger_s=linger_s, **(means or {})), self.store, self.server
        )
        self.errands = Errands()
        self.interpolations = Errands()
        self._stopped: dict[str, threading.Event] = {}
        self.deployments = Deployments(self._chosen)

    def close(self) -> None:
        """Stops everything. Sessions that ran are resumed at the next start."""
        cut_off = self.tracks.busy()
        self.tracks.close()
        for event in list(self._stopped.values()):
            event.set()
        self.errands.close()
        self.interpolations.close()
        self.deployments.close()
        self.journal.keep_running(cut_off)
        self.journal.close()
        self.videos.close()
        self._servers.close()

    def resume(self) -> int:
        """Takes up what ran when the app died, with the app's own token; how many sessions."""
        access = self.settings.access
        if not access.address or not access.token:
            return 0
        caller = access.caller(None, None)
        return sum(self.tracks.resume(track_id, caller) for track_id in self.journal.unfinished())

    # --- who asks ------------------------------------------------------------------------------------------------------

    def caller(self, call: Envelope) -> Caller:
        return self.settings.access.caller(call.server_address, call.token)

    def server(self, caller: Caller) -> Server:
        """That caller's server as they see it."""
        return self._servers.of(caller)

    # --- settings --------------------------------------------------------------------------------------------------------

    def change_settings(self, call: Envelope) -> Settings:
        """A token that comes with the request must be one that the server knows: an engine's URL decides where ids of
        videos and tokens go. The app's own page sends none, as pages of apps do; the platform guards who sees it."""
        self.server(self.caller(call)).call("users.me")
        session = call.context.get("sessionId") or call.state.get("sessionId")
        changes = dict(call.state.get("settings") or call.state)
        check(self.store.get(session).merged(changes))
        return self.store.set(changes, None if session is None else str(session))

    def engines(self, call: Envelope) -> list[Running]:
        """Running app sessions that could be chosen."""
        server = self.server(self.caller(call))
        return running(server, self._home(call, server).team_id, self.settings.task_id)

    def _home(self, call: Envelope, server: Server) -> Home:
        def given(name: str) -> int:
            return int(call.context.get(name) or call.state.get(name) or 1)

        return home(server, self.settings.task_id, given("teamId"), given("workspaceId"))

    # --- apps that could run -----------------------------------------------------------------------------------------------

    def startable(self, call: Envelope) -> tuple[list[Offer], list[Agent]]:
        """Apps that could be started, and computers that they could be started on."""
        server = self.server(self.caller(call))
        return offers(server), agents(server, self._home(call, server).team_id)

    def deploy(self, call: Envelope, asked: Deploy) -> Deployment:
        """Starts an app; once it is ready it tracks the geometries that were named. Raises `EngineUnavailable`."""
        server = self.server(self.caller(call))
        here = self._home(call, server)
        offer = next((offer for offer in offers(server) if offer.module_id == asked.module_id), None)
        if offer is None:
            raise EngineUnavailable(messages.not_offered(asked.module_id))
        kinds = [kind for kind in asked.kinds if offer.app.serves(kind)]
        agent = place_for(offer, agents(server, here.team_id), here, asked.agent_id)
        return self.deployments.start(server, offer, agent, here.workspace_id, kinds)

    def restart(self, call: Envelope, task_id: int) -> Deployment:
        """Ends a session of an app and starts it again. Raises `EngineUnavailable`."""
        server = self.server(self.caller(call))
        return restart(server, task_id, offers(server), self.deployments)

    def _chosen(self, deployment: Deployment) -> None:
        if deployment.kinds:
            kept = {kind: self.store.get().engine(kind).extra_params for kind in deployment.kinds}
            engines = {k: {"task_id": deployment.task_id, "extra_params": extra} for k, extra in kept.items()}
            self.store.set({"engines": engines})

    # --- what is passed on -------------------------------------------------------------------------------------------------

    def interpolate(self, asked: Interpolate, caller: Caller) -> None:
        track_id = asked.track_id or f"interpolate-{asked.video_id}-{min(asked.figure_ids, default=0)}"
        stop = self._stopped[track_id] = threading.Event()
        server = self.server(caller)

        def work() -> None:
            try:
                fill_gaps(server, asked.video_id, asked.figure_ids, track_id, asked.session_id, stop)
            finally:
                self._stopped.pop(track_id, None)

        self.interpolations.submit(work)

    def stop(self, track_id: str) -> None:
        """Of a track or an interpolation; nothing happens when there is none."""
        self.tracks.stop(track_id)
        event = self._stopped.get(track_id)
        if event is not None:
            event.set()

    def warm(self, call: Envelope) -> None:
        """`/cache_video`: each engine once, however many geometries it serves."""
        caller = self.caller(call)
        server = self.server(caller)
        state = CacheState.model_validate(call.state)
        kinds = set(call.state.get("geometries") or ("any",))
        if "any" in kinds:
            kinds = set(KEYS)
        if "bitmap" in kinds:
            kinds.add("smarttool")
        if "smarttool" in kinds:
            kinds |= {"point", "rectangle"}
        chosen = self.store.get(str(call.context.get("sessionId") or "") or None)
        choices = [chosen.engine(kind) for kind in sorted(kinds)]
        addresses = {Address(c.task_id, c.url) for c in choices if c.task_id is not None or c.url}
        rest = {key: value for key, value in call.state.items() if key != "geometries"}

        def ask() -> None:
            for address in addresses:
                try:
                    address.ask(caller, "smart_cache", {}, rest)
                except EngineFailed as error:
                    log.warning("an engine could not be told to cache a video: %s", error)
            ranges = [*state.frame_ranges, *((index, index) for index in state.frame_indexes)]
            if state.video_id is not None and any(choice.engine for choice in choices):
                self.videos.warm(server, video(server, state.video_id), ranges)

        self.errands.submit(ask)

    def segment(self, call: Envelope) -> dict[str, Any]:
        """`/smart_segmentation`."""
        chosen = self.store.get(str(call.context.get("sessionId") or "") or None).engine("smarttool")
        nothing: dict[str, Any] = {"origin": None, "bitmap": None, "success": False, "error": None}
        if not chosen.model_backed:
            return {**nothing, "error": {"message": messages.NO_SMART_TOOL}}
        caller = self.caller(call)
        server = self.server(caller)
        if not chosen.engine:
            try:
                reply = Address(chosen.task_id, chosen.url).ask(caller, "smart_segmentation", call.context, call.state)
            except EngineFailed as error:
                return {**nothing, "error": {"message": f"{messages.SESSION_GONE} ({error})"}}
            return dict(reply) if isinstance(reply, dict) else nothing
        tool = smart_tool(chosen.engine)
        return local_mask(call.context, lambda ident, frame: self._frame(server, ident, frame), tool)

    def _frame(self, server: Server, video_id: int, frame: int) -> Any:
        source = self.videos.open(server, video(server, video_id))
        try:
            return source.read(frame)
        finally:
            source.close()
