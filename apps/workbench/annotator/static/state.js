// What the page knows: the video, its objects, figures by frame (in pieces, as many as are looked at), codes for the timeline.

import { Refused, PAGE, get, post } from "./api.js";
import { toast } from "./dom.js";

export const CHUNK = 32; // frames of figures that are fetched at once
const KEPT_CHUNKS = 120;
export const KEY = 1, NO_SCORE = 2, SCORE = 100;

export const S = {
  video: null, frame: 0, classes: new Map(), objects: new Map(), codes: new Map(), ranges: new Map(), selected: new Set(), classId: null,
  tool: "select", history: { undo: null, redo: null }, chunks: new Map(), hidden: new Set(), tracks: new Map(),
  doubt: 0.5, labels: true, opacity: 0.3,
};

const listeners = new Map();
export function on(names, act) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), act]);
}
export function emit(name, detail) {
  for (const act of listeners.get(name) ?? []) act(detail);
}

const base = () => `/workbench/annotator/videos/${S.video.id}`;

export async function openVideo(id) {
  const found = await get(`/workbench/annotator/videos/${id}`);
  const other = S.video?.id !== found.video.id;
  S.video = found.video;
  S.classes = new Map(found.classes.map((c) => [c.id, c]));
  if (other) { S.selected.clear(); S.hidden.clear(); S.frame = 0; S.tracks.clear(); }
  S.chunks.clear();
  S.codes.clear();
  S.history = found.history;
  setObjects(found.objects);
  setCodes(found.timeline, 0, S.video.frames - 1);
  if (!S.classes.has(S.classId)) S.classId = found.classes[0]?.id ?? null;
  emit("classes"); emit("objects"); emit("history"); emit("video", other);
  return found;
}

function setObjects(list) {
  S.objects = new Map(list.map((o, at) => [o.id, { ...o, number: at + 1 }]));
  for (const id of [...S.selected]) if (!S.objects.has(id)) S.selected.delete(id);
}

function setCodes(timeline, first, last) {
  const end = Math.min(last, S.video.frames - 1);
  for (const [id, codes] of S.codes) if (S.objects.has(id)) codes.fill(0, first, end + 1); else S.codes.delete(id);
  for (const [key, part] of Object.entries(timeline)) {
    const id = Number(key), bytes = Uint8Array.from(atob(part.codes), (c) => c.charCodeAt(0));
    if (!S.codes.has(id)) S.codes.set(id, new Uint8Array(S.video.frames));
    S.codes.get(id).set(bytes, part.first);
  }
  S.ranges.clear();
  for (const [id, codes] of S.codes) {
    const begin = codes.findIndex((code) => code !== 0);
    if (begin >= 0) S.ranges.set(id, [begin, codes.findLastIndex((code) => code !== 0)]);
  }
}

export const codesOf = (id) => S.codes.get(id);
export const classOf = (object) => S.classes.get(object?.classId);
export const colorOf = (id) => objectColor(S.objects.get(id));
export const nameOf = (id) => { const o = S.objects.get(id); return o ? `#${o.number} ${classOf(o)?.name ?? ""}` : `#?`; };

// Objects of one class are told apart: the class's colour, turned a little further for each of them.
export function objectColor(object) {
  const color = classOf(object)?.color ?? "#7aa2f7";
  const same = [...S.objects.values()].filter((o) => o.classId === object?.classId).findIndex((o) => o.id === object?.id);
  return same <= 0 ? color : turned(color, same * 47);
}
const turnedColors = new Map();
function turned(hex, degrees) {
  const key = hex + degrees;
  if (!turnedColors.has(key)) {
    let [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
    const max = Math.max(r, g, b), min = Math.min(r, g, b), span = max - min;
    let hue = span === 0 ? 210 : max === r ? ((g - b) / span) * 60 : max === g ? ((b - r) / span) * 60 + 120 : ((r - g) / span) * 60 + 240;
    hue = (hue + degrees + 360) % 360;
    const light = Math.min(0.68, Math.max(0.45, (max + min) / 2)), strong = 0.75;
    const part = (n) => { const k = (n + hue / 30) % 12; return Math.round(255 * (light - strong * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
    turnedColors.set(key, "#" + [part(0), part(8), part(4)].map((v) => v.toString(16).padStart(2, "0")).join(""));
  }
  return turnedColors.get(key);
}

// --- figures -------------------------------------------------------------------------------------------------------

export function figuresOn(frame) {
  const chunk = S.chunks.get(Math.floor(frame / CHUNK));
  return chunk?.byFrame?.get(frame) ?? [];
}
export const figuresKnown = (frame) => S.chunks.get(Math.floor(frame / CHUNK))?.byFrame !== undefined;
export const figureOf = (objectId, frame = S.frame) => figuresOn(frame).find((f) => f.objectId === objectId);
export const findFigure = (id, frame = S.frame) => figuresOn(frame).find((f) => f.id === id);

// Makes sure that the figures around a frame are there or on their way.
export function wantFigures(frame) {
  if (!S.video) return;
  const at = Math.floor(frame / CHUNK);
  load(at);
  if (frame % CHUNK > CHUNK * 0.6) load(at + 1);
  else if (frame % CHUNK < CHUNK * 0.4) load(at - 1);
}

async function load(at) {
  if (at < 0 || at * CHUNK >= S.video.frames) return;
  const known = S.chunks.get(at);
  if (known && !known.stale) { S.chunks.delete(at); S.chunks.set(at, known); return; }
  if (known?.loading) { known.again = true; return; }
  const chunk = known ?? {};
  chunk.loading = true;
  chunk.stale = false;
  S.chunks.set(at, chunk);
  const video = S.video.id;
  try {
    const first = at * CHUNK, last = Math.min(first + CHUNK, S.video.frames) - 1;
    const byFrame = new Map();
    for (let from = first; from <= last;) {
      const part = await get(`${base()}/figures?first=${from}&last=${last}`);
      for (const figure of part.figures) byFrame.set(figure.frame, [...(byFrame.get(figure.frame) ?? []), figure]);
      from = part.last + 1;
    }
    if (S.video.id !== video) return;
    keepPictures(chunk.byFrame, byFrame);
    chunk.byFrame = byFrame;
    emit("figures", [first, last]);
  } catch (error) {
    chunk.stale = true;
    toast(error.message, { error: true, id: "figures" });
  } finally {
    chunk.loading = false;
    if (chunk.again) { chunk.again = false; chunk.stale = true; load(at); }
  }
  const here = Math.floor(S.frame / CHUNK);
  for (const key of S.chunks.keys()) {
    if (S.chunks.size <= KEPT_CHUNKS) break;
    if (Math.abs(key - here) > 1) S.chunks.delete(key);
  }
}

// A mask that did not change keeps its decoded picture, so nothing flickers.
function keepPictures(before, after) {
  if (!before) return;
  for (const [frame, figures] of after)
    for (const figure of figures) {
      const old = before.get(frame)?.find((f) => f.id === figure.id);
      if (old?.picture && old.geometry.bitmap?.data === figure.geometry.bitmap?.data) figure.picture = old.picture;
    }
}

export function stale(first = 0, last = Infinity) {
  for (const [at, chunk] of S.chunks) if (at * CHUNK <= last && at * CHUNK + CHUNK > first) {
    chunk.stale = true;
    if (chunk.loading) chunk.again = true;
  }
  wantFigures(S.frame);
}

// Reads the timeline of some frames anew, with the objects.
export async function refresh(first = 0, last = S.video.frames - 1) {
  stale(first, last);
  const video = S.video.id;
  const found = await get(`${base()}/timeline?first=${first}&last=${last}`);
  if (S.video.id !== video) return;
  const before = S.objects.size;
  setObjects(found.objects);
  setCodes(found.timeline, first, last);
  S.history = found.history;
  emit("history");
  emit("objects");
  if (before !== S.objects.size && found.objects.some((o) => !S.classes.has(o.classId))) await openVideo(video);
}

// --- changing ------------------------------------------------------------------------------------------------------

let queue = Promise.resolve();

// Changes are carried out one after another; each is one step of undo. first, last: the frames it can touch.
export function apply(label, changes, [first, last] = [S.frame, S.frame]) {
  const request = crypto.randomUUID().slice(0, 32);
  const run = queue.then(async () => {
    try {
      const reply = await post(`${base()}/apply`, { label, changes, page: PAGE, request });
      S.history = reply.history;
      await refresh(first, Math.min(last, S.video.frames - 1));
      await settled();
      emit("changed", { changes, made: reply.made });
      return reply.made;
    } catch (error) {
      stale();
      if (!(error instanceof Refused)) throw error;
      toast(error.message, { error: true });
      return null;
    }
  });
  queue = run.catch(() => null);
  return run;
}

export function undo(redo = false) {
  queue = queue.then(async () => {
    const reply = await post(`${base()}/undo`, { redo, page: PAGE });
    if (reply.label === null) return toast(redo ? "Nothing to redo." : "Nothing to undo.", { id: "undo" });
    await refresh();
    toast(`${redo ? "Redone" : "Undone"}: ${reply.label}`, { id: "undo", seconds: 3 });
    emit("undone", reply.figures);
  }).catch((error) => toast(error.message, { error: true }));
  return queue;
}

async function settled() { // until the figures of the current frame are there
  for (let round = 0; round < 200; round++) {
    const chunk = S.chunks.get(Math.floor(S.frame / CHUNK));
    if (chunk && !chunk.loading && !chunk.stale) return;
    wantFigures(S.frame);
    await new Promise((done) => setTimeout(done, 15));
  }
}

export function select(ids, { add = false } = {}) {
  const list = [ids].flat().filter((id) => id !== null && id !== undefined);
  if (!add) S.selected.clear();
  for (const id of list) if (add && S.selected.has(id)) S.selected.delete(id); else S.selected.add(id);
  const classId = S.objects.get(list[0])?.classId;
  if (classId !== undefined && S.classId !== classId) { S.classId = classId; emit("classes"); }
  emit("selection");
}
export const only = () => (S.selected.size === 1 ? [...S.selected][0] : null);
