// Track: the calls that the Video Annotation Tool makes to Auto Track, their progress, and what follows a person's changes.

import { Refused, ask, get, post } from "./api.js";
import { seconds, toast } from "./dom.js";
import { doubts, show } from "./review.js";
import { KEY, S, apply, codesOf, emit, figuresOn, nameOf, on, refresh } from "./state.js";
import { goTo, view } from "./view.js";

export const T = {
  apps: [], trackers: [], direction: "forward", until: "key", frames: 50, auto: false, follow: true, choice: {}, messages: [],
  looked: false, last: null, speeds: {},
};
Object.assign(T, JSON.parse(localStorage.getItem("tracking") ?? "{}"));
const keep = () => localStorage.setItem("tracking", JSON.stringify({ direction: T.direction, until: T.until, frames: T.frames, auto: T.auto, follow: T.follow, choice: T.choice, speeds: T.speeds }));
export function setTracking(changes) { Object.assign(T, changes); keep(); emit("tracking"); }

const SESSION = "annotator";

export const autoTrack = () => T.apps.find((app) => app.autoTrack && app.ready) ?? null;

export async function lookForApps() {
  try {
    T.apps = await get("/workbench/annotator/apps", { patient: false });
    T.looked = true;
    emit("tracking");
  } catch { /* asked again */ }
  setTimeout(lookForApps, autoTrack() ? 15000 : 1500);
}

export async function loadTrackers() {
  T.trackers = await get("/workbench/annotator/trackers");
  emit("tracking");
}

// --- what is tracked -------------------------------------------------------------------------------------------------

export function subjects(frame = S.frame) {
  const here = new Set(figuresOn(frame).map((f) => f.objectId));
  const chosen = [...S.selected].filter((id) => here.has(id));
  return S.selected.size ? chosen : [...here].filter((id) => !S.hidden.has(id));
}

const last = () => S.video.frames - 1;

function nextKey(id, frame, step) {
  const codes = codesOf(id);
  for (let at = frame + step; codes && at >= 0 && at <= last(); at += step) if (codes[at] === KEY) return at;
  return null;
}

// How many frames to go in a direction: to the next key figure of any of them, so many, or to the end.
export function distance(ids, frame, step) {
  const end = step > 0 ? last() - frame : frame;
  if (T.until === "end") return end;
  if (T.until === "frames") return Math.min(end, T.frames);
  const keys = ids.map((id) => nextKey(id, frame, step));
  return keys.length && keys.every((key) => key !== null) ? Math.max(...keys.map((key) => Math.abs(key - frame))) : end;
}

// What Track would do from this frame: {way, frames, span}, frames 0 when there is nothing left that way.
function reach(ids, frame, direction) {
  const ahead = distance(ids, frame, 1), behind = distance(ids, frame, -1);
  const way = direction === "both" ? (ahead === 0 ? "backward" : behind === 0 ? "forward" : "both") : direction;
  const frames = way === "both" ? Math.max(ahead, behind) : way === "forward" ? ahead : behind;
  return { way, frames, span: [way === "forward" ? frame : Math.max(0, frame - frames), way === "backward" ? frame : Math.min(last(), frame + frames)] };
}

// The same in words, so that nobody has to press Track to see what it means.
export function plan() {
  const ids = subjects();
  if (!ids.length) return S.selected.size ? "The selected object is not on this frame." : "Draw an object on this frame, then track it.";
  const { way, frames, span: [first, end] } = reach(ids, S.frame, T.direction);
  if (frames < 1) return way === "forward" ? "This is the last frame: track backward." : "This is the first frame: track forward.";
  return `${named(ids)}, frame ${way === "both" ? `${first} ← ${S.frame} → ${end}` : way === "forward" ? `${S.frame} → ${end}` : `${S.frame} → ${first}`}`;
}
export const named = (ids) => (ids.length === 1 ? nameOf(ids[0]) : `${ids.length} objects`);

export async function track(direction = T.direction, { ids = subjects(), frame = S.frame, quiet = false } = {}) {
  const app = autoTrack();
  if (!app) { toast("Auto Track is still starting. Try again in a moment.", { id: "track" }); return null; }
  if (!ids.length) {
    if (!quiet) toast(S.selected.size ? "The selected object has no figure on this frame. Draw it first." : "Draw something first, then track it.", { id: "track" });
    return null;
  }
  const { way, frames, span } = reach(ids, frame, direction);
  if (frames < 1) {
    if (!quiet) toast(way === "forward" ? "This is the last frame: track backward instead." : "This is the first frame: track forward instead.", { id: "track" });
    return null;
  }
  const trackId = crypto.randomUUID();
  S.tracks.set(trackId, { trackId, ids, span, frame, direction: way, current: 0, total: ids.length * frames, began: performance.now(), own: true, watched: !quiet });
  emit("tracks");
  try {
    await ask(app.id, "set_settings", { sessionId: SESSION }, { settings: { engines: engines() } });
    await ask(app.id, "track", {
      trackId, videoId: S.video.id, objectIds: ids, frameIndex: frame, frames, direction: way,
      sessionId: SESSION, trackByDetection: false, detectOffScreen: true,
    });
    T.last = { trackId, ids, span, direction: way };
  } catch (error) {
    S.tracks.delete(trackId);
    emit("tracks");
    toast(error instanceof Refused ? error.message : String(error), { error: true });
    return null;
  }
  return trackId;
}

function engines() {
  const chosen = {};
  for (const shape of ["rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph"]) {
    const choice = T.choice[shape] ?? "default";
    if (choice === "interpolation") chosen[shape] = { interpolation: true };
    else if (choice.startsWith?.("task:")) {
      const id = Number(choice.slice(5));
      chosen[shape] = T.apps.some((app) => app.id === id && app.ready) ? { task_id: id } : { engine: "default" };
    } else chosen[shape] = { engine: choice };
  }
  return chosen;
}

export async function stop() {
  const running = [...S.tracks.values()];
  const app = autoTrack();
  await Promise.all(running.flatMap(({ trackId }) => [
    post("/workbench/stop", { trackId }),
    app ? ask(app.id, "stop_tracking", { trackId }).catch(() => null) : null,
  ]));
  for (const run of running) run.stopping = true;
  emit("tracks");
}

// --- progress --------------------------------------------------------------------------------------------------------

let pending = null, timer = null;
function refreshSoon([first, end]) {
  pending = pending ? [Math.min(pending[0], first), Math.max(pending[1], end)] : [first, end];
  timer ??= setTimeout(() => { const span = pending; pending = timer = null; refresh(...span).catch(() => null); }, 250);
}

export function heard(kind, body) {
  if (kind === "change") {
    if (body.videoId === S.video?.id) emit("elsewhere", body);
    return;
  }
  if (kind !== "notify") return;
  const data = body.data ?? {}, id = data.trackId;
  if (Number(data.videoId) !== S.video?.id && !S.tracks.has(id)) return;
  if (body.type === "videos:tracking-error") { say(data.error?.message ?? "Tracking failed.", true); return; }
  if (body.type === "videos:tracking-warning") { say(data.message, false); return; }
  if (body.type !== "videos:fetch-figures-in-range") return;
  progress(data);
}

export function progress(data) {
  const { trackId, frameRange, progress: { current, total } } = data;
  let run = S.tracks.get(trackId);
  if (!run && current >= total) { refreshSoon(frameRange); return; }
  if (!run) S.tracks.set(trackId, (run = { trackId, ids: [], span: frameRange, frame: frameRange[0], direction: "", began: performance.now(), resumed: current }));
  run.first ??= { at: performance.now(), current };
  Object.assign(run, { current, total, at: performance.now(), reached: frameRange });
  const spent = (run.at - run.first.at) / 1000, done = current - run.first.current;
  if (spent > 0.5 && done > 0) {
    run.steps = done / spent;
    run.left = (total - current) / run.steps;
  }
  refreshSoon(frameRange);
  follow(run);
  if (current >= total) {
    S.tracks.delete(trackId);
    refreshSoon(run.span);
    emit("tracked", run);
  }
  emit("tracks");
}

// The frame that tracking has come to.
export const head = (run) => run.reached && (run.reached[0] < run.frame ? run.reached[0] : run.reached[1]);

// The last frame on which it made anything, seen from where it began.
function lastMade({ ids, span: [first, end], frame, direction }) {
  const step = direction === "backward" ? -1 : 1, any = (at) => ids.some((id) => codesOf(id)?.[at]);
  let at = step > 0 ? end : first;
  while (at !== frame && !any(at)) at -= step;
  return at;
}

// The picture goes along with tracking until the person looks or works elsewhere.
let going = false, ended = null; // ended: the run whose last figures are being read
function follow(run) {
  // objects come one after another: where all of them have been, not where the first of them is
  run.heads = [...(run.heads ?? []), head(run)].slice(-Math.max(1, run.ids.length));
  const to = (head(run) < run.frame ? Math.max : Math.min)(...run.heads), now = performance.now();
  if (!T.follow || !run.watched || document.hidden || view.shown !== S.frame || now - (run.followed ?? 0) < 250) return;
  run.followed = now;
  going = true;
  goTo(to, { step: Math.sign(to - S.frame) || 1, alone: true });
  going = false;
}
const leave = () => { if (!going) for (const run of [...S.tracks.values(), ended ?? {}]) run.watched = false; };
on("frame", leave);
document.addEventListener("pointerdown", (event) => { if (event.target.closest?.("#middle, #bottom")) leave(); }, true);
document.addEventListener("keydown", (event) => { if (!["Control", "Shift", "Alt", "Meta", "Tab"].includes(event.key)) leave(); }, true);

export function speed(run) {
  if (!run.steps) return "";
  const objects = Math.max(1, run.ids.length || 1);
  return `${(run.steps / objects).toFixed(run.steps / objects < 10 ? 1 : 0)} frames/s · ${seconds(run.left)} left`;
}

// What each choice of tracker did on this machine the last time, in frames a second with one object.
function remember(run) {
  const shapes = new Set(run.ids.flatMap((id) => figuresOn(run.frame).filter((f) => f.objectId === id).map((f) => f.type)));
  if (!run.steps || shapes.size !== 1) return;
  const [shape] = shapes;
  T.speeds = { ...T.speeds, [`${shape} ${T.choice[shape] ?? "default"}`]: [run.steps, S.video.width, S.video.height] };
  keep();
}

export function measured(shape, choice) {
  const found = T.speeds[`${shape} ${choice}`];
  if (!found) return "";
  const [steps, width, height] = found;
  return `Last time here ${steps < 10 ? steps.toFixed(1) : Math.round(steps)} figures a second (${width} x ${height}).`;
}

function say(message, error) {
  T.messages = [{ message, error, at: new Date() }, ...T.messages].slice(0, 30);
  emit("tracking");
  toast(friendly(message), { error, id: message.slice(0, 60), seconds: 10 });
}

// Auto Track speaks of ids; a labeler knows objects by their number.
export function friendly(message) {
  return message.replace(/\[Off-Screen Detection\] /, "").replace(/[Oo]bject (?:ID )?(\d{4,})/g, (all, id) => (S.objects.has(Number(id)) ? nameOf(Number(id)) : all))
    .replace(/\bframe (\d+)/g, (_, n) => `frame ${n}`);
}

on("tracked", (run) => {
  if (run.stopping) { toast("Stopped. What was tracked so far is kept.", { id: "track" }); return; }
  if (!run.own) return;
  remember(run);
  ended = run;
  refresh(...run.span).catch(() => null).then(() => report(run));
});

function report(run) {
  const [first, end] = run.span, inside = (frame) => frame >= first && frame <= end;
  if (run.watched && T.follow && run.direction !== "both") goTo(lastMade(run));
  const asked = run.ids.length * (end - first);
  const made = run.ids.reduce((sum, id) => sum + (codesOf(id)?.subarray(first, end + 1).reduce((n, code) => n + (code ? 1 : 0), 0) ?? 0), 0) - run.ids.length;
  const look = run.ids.filter((id) => S.objects.has(id)).flatMap(doubts).filter((doubt) => inside(doubt.frame)).sort((a, b) => a.frame - b.frame);
  const part = made < asked ? `${Math.max(0, made)} of ${asked}` : `${asked}`;
  const places = look.length ? ` ${look.length} place${look.length === 1 ? "" : "s"} to look at.` : "";
  const what = run.ids.length === 1 ? `${named(run.ids)} on ${part} frame${asked === 1 ? "" : "s"}` : `${named(run.ids)}: ${part} figures`;
  toast(`Tracked ${what}.${places}`, {
    id: "track", seconds: 9,
    actions: [...(look.length ? [["Review", () => show(look[0])]] : []), ["Accept", () => approve(run)], ["Undo", () => discard(run)]],
  });
}

export const discard = ({ ids, span }) =>
  apply("Undo tracking", [{ op: "remove_span", objectIds: ids, first: span[0], last: span[1], what: "tracked" }], span);

const approve = ({ ids, span }) =>
  apply("Accept tracking", [{ op: "accept_span", objectIds: ids, first: span[0], last: span[1] }], span);

// --- after a person's changes: Auto Track is told, as the annotation tool tells it ------------------------------------------

const tell = (command, context) => {
  const app = autoTrack();
  if (app) ask(app.id, command, context).catch(() => null);
};

on("changed", ({ changes, made }) => {
  const fresh = [];
  changes.forEach((change, n) => {
    if (change.op === "add_object") fresh.push(made[n][0]);
    if (change.op === "add_figure") drawn(change.objectId < 0 ? fresh[-change.objectId - 1] : change.objectId, change.frame);
    if (change.op === "edit_figure") {
      const figure = figuresOn(S.frame).find((f) => f.id === change.id);
      if (figure) drawn(figure.objectId, figure.frame);
    }
    if (change.op === "set_absent") tell("no_objects_tag_changed", { videoId: S.video.id, objectId: change.objectId });
    if (change.op === "remove_span")
      tell("objects_removed", { figures: change.objectIds.map((objectId) => ({ objectId, frames: [change.first, Math.min(change.last, last())] })) });
    if (change.op === "remove_objects")
      tell("objects_removed", { figures: change.ids.map((objectId) => ({ objectId, frames: [0, last()] })) });
  });
});

on("removed", (figures) => tell("manual_objects_removed", { videoId: S.video.id, figures: figures.map((f) => ({ objectId: f.objectId, frame: f.frame })) }));
on("undone", (pairs) => {
  if (pairs.length && S.tracks.size) tell("manual_objects_removed", { videoId: S.video.id, figures: pairs.map(([objectId, frame]) => ({ objectId, frame })) });
});

// A figure was drawn or corrected: a track that is running takes it up; in auto mode a new one begins.
function drawn(objectId, frame) {
  const app = autoTrack();
  if (!app) return;
  for (const run of S.tracks.values()) {
    if (!run.ids.includes(objectId) || run.stopping) continue;
    const frames = run.direction === "backward" ? frame - run.span[0] : run.span[1] - frame;
    if (frames < 1) continue;
    ask(app.id, "track", {
      trackId: run.trackId, videoId: S.video.id, objectIds: [objectId], frameIndex: frame, frames,
      direction: run.direction === "both" ? "forward" : run.direction, sessionId: SESSION, trackByDetection: false,
    }).catch((error) => toast(error.message, { error: true }));
    return;
  }
  if (T.auto) track(T.direction, { ids: [objectId], frame, quiet: true });
}

// Near the end of what was tracked, auto mode goes on.
on("frame", (frame) => {
  const run = T.last;
  if (!T.auto || T.until !== "frames" || !run || S.tracks.size || run.direction !== "forward") return;
  if (frame < run.span[1] - 10 || frame > run.span[1] || run.span[1] >= last()) return;
  const app = autoTrack(), from = run.span[1], frames = Math.min(T.frames, last() - from);
  if (!app || frames < 1) return;
  run.span = [run.span[0], from + frames];
  S.tracks.set(run.trackId, { ...run, frame: from, current: 0, total: run.ids.length * frames, began: performance.now(), own: true });
  emit("tracks");
  ask(app.id, "continue_track", {
    trackId: run.trackId, videoId: S.video.id, objectIds: run.ids, frameIndex: from, frames, direction: "forward", sessionId: SESSION, trackByDetection: false,
  }).catch((error) => { S.tracks.delete(run.trackId); emit("tracks"); toast(error.message, { error: true }); });
});

export function interpolate() {
  const app = autoTrack(), figures = figuresOn(S.frame).filter((f) => f.key && (S.selected.size === 0 || S.selected.has(f.objectId)));
  if (!app || !figures.length) { toast("Go to a frame with a figure that you drew, and select it.", { id: "track" }); return; }
  ask(app.id, "interpolate", { videoId: S.video.id, figureIds: figures.map((f) => f.id), trackId: crypto.randomUUID(), sessionId: SESSION })
    .catch((error) => toast(error.message, { error: true }));
}

