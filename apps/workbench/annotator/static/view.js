// The stage: the picture of a frame with its figures, zoom and pan, and what the pointer does.

import { $, clamp, readable } from "./dom.js";
import { Frames } from "./frames.js";
import * as masks from "./masks.js";
import * as shapes from "./shapes.js";
import { S, SCORE, classOf, codesOf, colorOf, emit, figuresOn, findFigure, nameOf, on, select, wantFigures } from "./state.js";

const canvas = $("stage"), context = canvas.getContext("2d");
export const view = {
  scale: 1, x: 0, y: 0, fitted: true, shown: -1, bitmap: null, frames: null, figure: null, hover: null, handle: null,
  draft: null, // what is being drawn: {draw(context, unit)}
  override: new Map(), // figure id -> geometry while it is dragged
  paint: null, // {canvas, color, figureId} while a mask is painted
  measured: [], // ms from asking for a frame to showing it, for the benchmark
};

let asked = 0, dirty = false, trail = []; // trail: the frames last asked for

// --- frames --------------------------------------------------------------------------------------------------------

on("video", (other) => {
  if (!other && view.frames?.video.id === S.video.id) { view.frames.retry(); return; }
  view.frames?.close();
  view.frames = new Frames(S.video, arrived);
  view.shown = -1;
  view.bitmap = null;
  view.figure = null;
  fit();
});

export function goTo(frame, { step, alone = false } = {}) {
  if (!S.video) return;
  const next = clamp(Math.round(frame), 0, S.video.frames - 1), by = step ?? next - S.frame;
  asked = performance.now();
  const changed = next !== S.frame;
  S.frame = next;
  trail = [...trail.slice(-15), next];
  wantFigures(next);
  const there = view.frames.get(next);
  if (there) show(next, there);
  view.frames.move(next, by, alone);
  if (changed) emit("frame", next);
}

function arrived(frame, bitmap) {
  if (frame === S.frame) {
    if (bitmap) show(frame, bitmap);
    else { view.shown = frame; view.bitmap = null; redraw(); }
  } else if (bitmap && trail.includes(frame) && Math.abs(frame - S.frame) < Math.abs(view.shown - S.frame)) show(frame, bitmap, false);
}

// Whoever drags through the video faster than pictures come sees those on the way.
function show(frame, bitmap, meant = true) {
  if (meant && view.shown !== frame && asked) {
    const began = asked;
    asked = 0;
    requestAnimationFrame(() => {
      view.measured.push(performance.now() - began);
      if (view.measured.length > 5000) view.measured.splice(0, 2500);
    });
  }
  view.shown = frame;
  view.bitmap = bitmap;
  if (view.figure && !findFigure(view.figure, frame)) view.figure = null;
  redraw();
  emit("shown", frame);
}

// --- zoom and pan --------------------------------------------------------------------------------------------------

const size = () => [canvas.clientWidth, canvas.clientHeight];

export function fit() {
  if (!S.video) return;
  const [w, h] = size(), { width, height } = S.video, margin = 20;
  view.scale = Math.min((w - margin) / width, (h - margin) / height);
  view.x = (w - width * view.scale) / 2;
  view.y = (h - height * view.scale) / 2;
  view.fitted = true;
  sharpen();
}

export function zoom(factor, at = size().map((v) => v / 2)) {
  const next = clamp(view.scale * factor, 0.02, 60), real = next / view.scale;
  view.x = at[0] - (at[0] - view.x) * real;
  view.y = at[1] - (at[1] - view.y) * real;
  view.scale = next;
  view.fitted = false;
  hold();
  sharpen();
}

function hold() { // some of the picture always stays on the stage
  const [w, h] = size(), { width, height } = S.video;
  view.x = clamp(view.x, 60 - width * view.scale, w - 60);
  view.y = clamp(view.y, 60 - height * view.scale, h - 60);
}

function sharpen() {
  if (!view.frames) return;
  view.frames.fit(S.video.width * view.scale * devicePixelRatio);
  view.frames.pump();
  $("zoom").textContent = `${Math.round(view.scale * 100)} %`;
  redraw();
}

export const toPicture = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left - view.x) / view.scale, (event.clientY - box.top - view.y) / view.scale];
};

new ResizeObserver(() => {
  const [w, h] = size();
  canvas.width = Math.round(w * devicePixelRatio);
  canvas.height = Math.round(h * devicePixelRatio);
  if (view.fitted) fit(); else redraw();
  paintNow();
}).observe(canvas);

// --- drawing -------------------------------------------------------------------------------------------------------

export function redraw() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(paintNow);
}

on("figures objects selection classes look", redraw);
on("objects", () => { if (view.figure && !findFigure(view.figure)) view.figure = null; });

export const visible = (figure) => !S.hidden.has(figure.objectId);

function paintNow() {
  dirty = false;
  const ratio = devicePixelRatio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!S.video) return;
  context.translate(view.x, view.y);
  context.scale(view.scale, view.scale);
  context.imageSmoothingEnabled = view.scale < 3;
  context.imageSmoothingQuality = "low"; // pictures come in about the size at which they are shown
  const { width, height } = S.video;
  if (view.bitmap) context.drawImage(view.bitmap, 0, 0, width, height);
  else {
    context.fillStyle = "#16181d";
    context.fillRect(0, 0, width, height);
    if (view.shown === S.frame) text("This frame cannot be read; it is left out.", width / 2, height / 2);
  }
  const unit = 1 / view.scale;
  const list = shownFigures();
  const selected = (f) => S.selected.has(f.objectId);
  const order = [...list].sort((a, b) => selected(a) - selected(b));
  for (const figure of order) {
    const color = colorOf(figure.objectId), strong = selected(figure);
    const doubtful = !figure.key && (figure.score ?? 1) < S.doubt;
    const fill = S.opacity * (strong ? 1 : 0.75);
    if (figure.type === "bitmap") {
      if (view.paint?.figureId === figure.id) continue;
      const picture = masks.pictureOf(figure, redraw), [x, y] = figure.geometry.bitmap.origin;
      if (picture) {
        context.globalAlpha = Math.min(1, fill + 0.25);
        context.imageSmoothingEnabled = false;
        context.drawImage(masks.tint(picture, color), x, y);
        context.globalAlpha = 1;
        context.drawImage(masks.rim(picture, color), x - 1, y - 1);
      }
      if (strong && picture) frameOf(x, y, picture.width, picture.height, color, unit);
    } else shapes.draw(context, figure, { color, unit, strong, fill, dashed: doubtful });
  }
  if (view.paint) {
    context.globalAlpha = 0.6;
    context.imageSmoothingEnabled = false;
    context.drawImage(masks.tint(view.paint.canvas, view.paint.color), 0, 0);
    context.globalAlpha = 1;
  }
  if (S.labels) labels(order, unit);
  for (const figure of order) if (figure.id === view.figure && selected(figure)) grips(figure, unit);
  context.setLineDash([]);
  view.draft?.draw(context, unit);
  $("stage-wait").hidden = view.shown === S.frame || view.bitmap === null;
}

function text(said, x, y) {
  context.fillStyle = "#aab";
  context.font = `${16 / view.scale}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.fillText(said, x, y);
  context.textAlign = "start";
}

function frameOf(x, y, w, h, color, unit) {
  context.setLineDash([4 * unit, 4 * unit]);
  context.lineWidth = unit;
  context.strokeStyle = color;
  context.strokeRect(x - 2 * unit, y - 2 * unit, w + 4 * unit, h + 4 * unit);
  context.setLineDash([]);
}

function labels(order, unit) {
  const many = order.length > 25;
  context.font = `600 ${11 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const taken = [];
  for (const figure of [...order].reverse()) {
    const strong = S.selected.has(figure.objectId);
    if (many && !strong && view.hover !== figure.id) continue;
    if (figure.type === "bitmap" && !figure.picture) continue;
    const [l, t, r] = shapes.bounds(figure), color = colorOf(figure.objectId);
    const sure = figure.key ? "" : figure.score === null || figure.score === undefined ? "" : `  ${Math.round(figure.score * 100)}%`;
    const said = `${figure.key ? "◆ " : ""}${nameOf(figure.objectId)}${sure}`;
    const width = context.measureText(said).width + 10 * unit, height = 17 * unit;
    let x = clamp(l, 0, Math.max(0, S.video.width - width)), y = t - height - 3 * unit;
    if (y < -4 * unit) y = t + 3 * unit;
    for (let n = 0; n < 6 && taken.some(([a, b, c, d]) => x < a + c && a < x + width && y < b + d && b < y + height); n++) y += height + unit;
    if (r < 0) continue;
    taken.push([x, y, width, height]);
    context.globalAlpha = strong || view.hover === figure.id ? 1 : 0.85;
    context.fillStyle = color;
    context.beginPath();
    context.roundRect(x, y, width, height, 4 * unit);
    context.fill();
    if (!figure.key && (figure.score ?? 1) < S.doubt) {
      context.lineWidth = 1.5 * unit;
      context.strokeStyle = "#ff5d5d";
      context.stroke();
    }
    context.fillStyle = readable(color);
    context.fillText(said, x + 5 * unit, y + height / 2 + 0.5 * unit);
    context.globalAlpha = 1;
  }
}

function grips(figure, unit) {
  for (const grip of shapes.handles(figure)) {
    const big = view.handle && view.handle.id === grip.id && view.handle.ring === grip.ring;
    context.beginPath();
    if (figure.type === "rectangle" || typeof grip.id === "number" && figure.type === "oriented_bbox") {
      const half = (big ? 5.5 : 4) * unit;
      context.rect(grip.x - half, grip.y - half, half * 2, half * 2);
    } else context.arc(grip.x, grip.y, (big ? 6.5 : 4.5) * unit, 0, Math.PI * 2);
    context.fillStyle = grip.off ? "#888" : "#fff";
    context.fill();
    context.lineWidth = 1.5 * unit;
    context.strokeStyle = "#1b1d22";
    context.stroke();
  }
}

// --- what is under the pointer ---------------------------------------------------------------------------------------

// A figure that was just moved and is still on its way to the server can be gripped where it is seen.
const asSeen = (figure) => (view.override.has(figure.id) ? { ...figure, geometry: view.override.get(figure.id) } : figure);
export const shownFigures = () => figuresOn(view.shown).filter(visible).map(asSeen);

export function gripAt(p) {
  const figure = view.figure && shownFigures().find((f) => f.id === view.figure);
  if (!figure) return null;
  const reach = 9 / view.scale;
  let best = null;
  for (const grip of shapes.handles(figure)) {
    const far = Math.max(Math.abs(grip.x - p[0]), Math.abs(grip.y - p[1]));
    if (far <= reach && (!best || far < best.far)) best = { ...grip, far, figure };
  }
  return best;
}

// The smallest figure under the pointer: what lies within something larger can still be picked.
export function figureAt(p) {
  const reach = 6 / view.scale;
  const found = shownFigures().filter((figure) => shapes.hit(figure, p, reach));
  const rank = (f) => (f.type === "point" || f.type === "line" || f.type === "graph" ? 0 : shapes.area(f));
  const under = found.sort((a, b) => rank(a) - rank(b));
  return under[0] ?? null;
}

export function pick(figure, { add = false } = {}) {
  if (!figure) { view.figure = null; if (!add) select([]); return; }
  select(figure.objectId, { add });
  view.figure = S.selected.has(figure.objectId) ? figure.id : null;
  redraw();
}

// An object was chosen elsewhere: its figure on this frame can be edited then.
on("selection frame figures shown", () => {
  const id = S.selected.size === 1 ? [...S.selected][0] : null;
  if (id === null) return;
  const current = view.figure && findFigure(view.figure, view.shown);
  if (!current || current.objectId !== id) view.figure = figuresOn(view.shown).find((f) => f.objectId === id)?.id ?? null;
});

export const scoreOn = (objectId, frame) => { const code = codesOf(objectId)?.[frame] ?? 0; return code >= SCORE ? (code - SCORE) / 100 : null; };
export const shapeFits = (objectId, type) => { const shape = classOf(S.objects.get(objectId))?.shape; return shape === "any" || shape === type; };
