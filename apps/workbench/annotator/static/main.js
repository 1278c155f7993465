// Starts the page: opens a video, wires the controls and the keys, listens for what happens elsewhere.

import { Events, PAGE, get, onReturn } from "./api.js";
import { $, button, clamp, dialog, timecode, toast } from "./dom.js";
import * as act from "./actions.js";
import * as files from "./files.js";
import { trackerSettings, wireReview, wireTracking } from "./panels.js";
import { accept, acceptRange, next, removeRange } from "./review.js";
import { S, emit, on, openVideo, refresh, select, undo } from "./state.js";
import { zoomTimeline, showAll } from "./timeline.js";
import * as tools from "./tools.js";
import * as tracking from "./tracking.js";
import { fit, goTo, redraw, view, zoom } from "./view.js";

let events = null;

// --- opening a video ---------------------------------------------------------------------------------------------------

export async function open(id, frame = 0) {
  try {
    const found = await openVideo(id);
    S.frame = -1;
    goTo(frame, { step: 1 });
    events?.close();
    events = new Events(found.event, tracking.heard);
    found.tracks.forEach(tracking.progress);
    remember();
    document.title = `${S.video.name} - Video labeling`;
    $("video-name").textContent = S.video.name;
    $("welcome").hidden = true;
    if ([document.body, $("open-video")].includes(document.activeElement)) { // so that keys work on the picture at once
      $("stage").classList.add("pointed");
      $("stage").focus({ preventScroll: true });
    }
  } catch (error) {
    toast(error.message, { error: true });
    choose();
  }
}

const remember = () => {
  history.replaceState(null, "", `#video=${S.video.id}&frame=${S.frame}`);
  localStorage.setItem("video", S.video.id);
};
const choose = () => files.chooseVideo((id) => open(id));

async function boot() {
  const wanted = new URLSearchParams(location.hash.slice(1)), id = Number(wanted.get("video"));
  if (id) return open(id, Number(wanted.get("frame")) || 0);
  const videos = await get("/workbench/annotator/videos");
  const newest = Number(localStorage.getItem("newest")), known = videos.find((v) => v.id === Number(localStorage.getItem("video")));
  if (videos.length) localStorage.setItem("newest", videos[0].id);
  if (!videos.length) { $("welcome").hidden = false; return choose(); }
  return open(videos[0].id > newest || !known ? videos[0].id : known.id);
}

onReturn(async () => { // the server is back: what happened meanwhile is read anew
  if (!S.video) return boot();
  toast("Connected again. Nothing was lost.", { id: "back", seconds: 4 });
  const tracks = new Map(S.tracks);
  const found = await openVideo(S.video.id);
  events?.close();
  events = new Events(found.event, tracking.heard);
  S.tracks.clear();
  for (const data of found.tracks) tracking.progress(data);
  for (const [id, run] of tracks) if (S.tracks.has(id)) S.tracks.set(id, { ...run, ...S.tracks.get(id), ids: run.ids, span: run.span, own: run.own });
  emit("tracks");
  view.frames.retry();
  goTo(S.frame);
  return undefined;
});

on("elsewhere", ({ page }) => { if (page !== PAGE) refresh().catch(() => null); });

// --- playing -----------------------------------------------------------------------------------------------------------

const play = { on: false, at: 0, from: 0, speed: 1, held: 0 };

function toggle() { if (play.on) pause(); else start(); }
function start() {
  if (!S.video) return;
  if (S.frame >= S.video.frames - 1) goTo(0, { step: 1 });
  Object.assign(play, { on: true, at: performance.now(), from: S.frame });
  showPlay();
  requestAnimationFrame(tick);
}
function pause() { play.on = false; showPlay(); }
function tick(now) {
  if (!play.on) return;
  const due = Math.floor(play.from + ((now - play.at) / 1000) * S.video.fps * play.speed);
  const last = S.video.frames - 1;
  if (due > S.frame) { // the first tick's time can lie before the start
    if (view.shown !== S.frame) { // the picture is not here yet: the clock waits for it
      play.at = now;
      play.from = S.frame;
    } else {
      const step = Math.max(1, Math.round(play.speed)), to = Math.min(last, play.speed > 1 ? S.frame + Math.max(step, due - S.frame) : Math.min(due, S.frame + 2));
      goTo(to, { step });
      if (due - to > 3) { play.at = now; play.from = to; }
    }
  }
  if (S.frame >= last) return pause();
  requestAnimationFrame(tick);
  return undefined;
}
function showPlay() {
  $("play").classList.toggle("on", play.on);
  $("play").setAttribute("aria-label", play.on ? "Pause" : "Play");
  $("play").querySelector("use").setAttribute("href", play.on ? "#i-pause" : "#i-play");
}
on("scrub", pause);

on("frame video", () => {
  const input = $("frame");
  if (document.activeElement !== input) input.value = S.frame;
  input.max = S.video.frames - 1;
  $("frame-count").textContent = `/ ${S.video.frames - 1}`;
  $("time").textContent = `${timecode(S.frame / S.video.fps)} / ${timecode(S.video.frames / S.video.fps)}`;
  $("timeline").setAttribute("aria-valuemax", S.video.frames - 1);
});
let later = null;
on("frame", () => { clearTimeout(later); later = setTimeout(remember, 400); });

on("history video", () => {
  for (const [id, label] of [["undo", S.history.undo], ["redo", S.history.redo]]) {
    $(id).disabled = !label;
    $(id).title = label ? `${id === "undo" ? "Undo" : "Redo"}: ${label}  (${id === "undo" ? "Ctrl+Z" : "Ctrl+Y"})` : `Nothing to ${id}`;
  }
});

// --- controls ----------------------------------------------------------------------------------------------------------

for (const [name, tool] of Object.entries(tools.TOOLS)) {
  if (name === "rectangle" || name === "brush") $("tools").append(document.createElement("hr"));
  $("tools").append(button(tool.label, { icon: tool.icon, key: tool.key, id: `tool-${name}`, "aria-pressed": "false" }, () => tools.setTool(name)));
}
on("tool", () => {
  for (const name of Object.keys(tools.TOOLS)) {
    $(`tool-${name}`).classList.toggle("on", S.tool === name);
    $(`tool-${name}`).setAttribute("aria-pressed", String(S.tool === name));
  }
});

const click = (id, does) => $(id).addEventListener("click", does);
click("open-video", choose);
click("welcome-open", choose);
click("undo", () => undo());
click("redo", () => undo(true));
click("import", () => files.importLabels());
click("export", () => files.exportLabels());
click("apps", () => files.showApps());
click("help", () => files.showKeys());
click("theme", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
click("first", () => goTo(0));
click("previous-key", () => act.nextKey(-1));
click("previous", () => goTo(S.frame - 1, { step: -1 }));
click("play", toggle);
click("next", () => goTo(S.frame + 1, { step: 1 }));
click("next-key", () => act.nextKey(1));
click("last", () => goTo(S.video.frames - 1));
click("fit", fit);
click("zoom-in", () => zoom(1.4));
click("zoom-out", () => zoom(1 / 1.4));
click("strip-in", () => zoomTimeline(2));
click("strip-out", () => zoomTimeline(0.5));
click("strip-all", showAll);
click("object-merge", act.merge);
click("object-split", act.split);
click("object-cut", act.deleteFromHere);
click("object-absent", act.setAbsent);
click("object-delete", act.deleteObjects);
click("tracker-settings", () => dialog("Trackers", () => trackerSettings()));
click("labels", () => { S.labels = !S.labels; $("labels").classList.toggle("on", S.labels); $("labels").setAttribute("aria-pressed", String(S.labels)); emit("look"); });
$("opacity").addEventListener("input", (e) => { S.opacity = Number(e.target.value) / 100; emit("look"); });
$("speed").addEventListener("change", (e) => { play.speed = Number(e.target.value); if (play.on) { play.at = performance.now(); play.from = S.frame; } });
$("frame").addEventListener("change", (e) => { pause(); goTo(clamp(Number(e.target.value) || 0, 0, S.video.frames - 1)); });
$("frame").addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === "Escape") { e.target.blur(); e.stopPropagation(); } });
wireTracking();
wireReview();

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
  emit("theme");
  redraw();
}
setTheme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
const doubt = Number(localStorage.getItem("doubt") ?? 50);
S.doubt = doubt / 100;
$("doubt").value = doubt;
$("doubt-value").textContent = `${doubt} %`;

// A file dropped anywhere is a video to open.
document.addEventListener("dragover", (e) => e.preventDefault());
document.addEventListener("drop", async (e) => {
  e.preventDefault();
  const file = e.dataTransfer?.files[0];
  if (!file || e.target.closest?.("dialog")) return;
  toast(`Uploading ${file.name} ...`, { id: "upload", seconds: 600 });
  try {
    const id = await files.uploadVideo(file, (_, text) => toast(`${file.name}: ${text}`, { id: "upload", seconds: 600 }));
    toast(`${file.name} is ready.`, { id: "upload" });
    open(id);
  } catch (error) { toast(error.message, { error: true, id: "upload" }); }
});

// --- keys --------------------------------------------------------------------------------------------------------------

const other = { forward: "backward", backward: "forward", both: "backward" };
const step = (by) => { pause(); goTo(S.frame + by, { step: by }); };
const keys = {
  v: () => tools.setTool("select"), b: () => tools.setTool("rectangle"), r: () => tools.setTool("oriented_bbox"), p: () => tools.setTool("polygon"),
  l: () => tools.setTool("line"), o: () => tools.setTool("point"), k: () => tools.setTool("graph"), m: () => tools.setTool("brush"),
  e: () => tools.setTool("eraser"), s: () => tools.setTool("smart"),
  arrowleft: () => step(-1), arrowright: () => step(1), "shift+arrowleft": () => step(-10), "shift+arrowright": () => step(10),
  "ctrl+arrowleft": () => act.nextKey(-1), "ctrl+arrowright": () => act.nextKey(1), ",": () => step(-1), ".": () => step(1),
  home: () => step(-S.frame), end: () => step(S.video.frames - 1 - S.frame),
  g: () => { $("frame").focus(); $("frame").select(); },
  f: fit, "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8),
  t: () => tracking.track(), "shift+t": () => tracking.track(other[tracking.T.direction]), x: () => tracking.stop(), i: () => tracking.interpolate(),
  n: () => next(1), "shift+n": () => next(-1), a: accept, "shift+a": acceptRange, "shift+x": removeRange,
  c: () => act.copyToNext(), delete: act.deleteFigures, "shift+delete": act.deleteFromHere, "ctrl+delete": act.deleteObjects,
  "ctrl+z": () => undo(), "ctrl+y": () => undo(true), "ctrl+shift+z": () => undo(true),
  h: () => act.toggleHidden(), j: act.merge, u: act.split,
  q: () => select(act.cycle(1)), "shift+q": () => select(act.cycle(-1)),
  "[": () => tools.setBrush(tools.brushSize() * 0.8 - 1), "]": () => tools.setBrush(tools.brushSize() * 1.25 + 1),
  enter: () => tools.finish() || accept(),
  backspace: () => tools.backstep() || act.deleteFigures(),
  escape: () => { if (!tools.cancel()) { if (S.tool !== "select") tools.setTool("select"); else select([]); } },
  "?": () => files.showKeys(), "shift+?": () => files.showKeys(),
};

let spaceDown = 0, spaceDragged = false;
document.addEventListener("pointerdown", () => { if (spaceDown) spaceDragged = true; });

document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (document.querySelector("dialog[open]") || at.matches("input:not([type=range]):not([type=checkbox]), textarea, select")) return;
  if (event.key === " ") {
    if (at.matches("button")) at.blur();
    event.preventDefault();
    if (!event.repeat) { spaceDown = performance.now(); spaceDragged = false; tools.setSpace(true); }
    return;
  }
  if (!S.video) return;
  const name = event.key.toLowerCase();
  if (name === "enter" && at.matches("button, a")) return;
  const digit = event.code.match(/^Digit([1-9])$/);
  if (digit && !event.ctrlKey && !event.metaKey && !event.altKey && !event.shiftKey) {
    const kind = [...S.classes.values()][digit[1] - 1];
    if (kind) { S.classId = kind.id; emit("classes"); event.preventDefault(); }
    return;
  }
  const long = `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${event.shiftKey ? "shift+" : ""}${name}`;
  const does = keys[long];
  if (!does || event.altKey) return;
  event.preventDefault();
  if (event.repeat && !name.startsWith("arrow") && ![",", ".", "[", "]"].includes(name)) return;
  does();
});

document.addEventListener("keyup", (event) => {
  if (event.key !== " " || !spaceDown) return;
  if (!spaceDragged && !document.querySelector("dialog[open]")) toggle();
  spaceDown = 0;
  tools.setSpace(false);
});

// For tests and benchmarks: what the page shows, without looking at pixels.
window.annotator = { S, view, T: tracking.T, open, goTo, toScreen: (x, y) => { const b = $("stage").getBoundingClientRect(); return [b.left + view.x + x * view.scale, b.top + view.y + y * view.scale]; } };

emit("tool");
emit("tracking");
tracking.lookForApps();
tracking.loadTrackers().catch(() => null);
boot().catch((error) => toast(error.message, { error: true }));
