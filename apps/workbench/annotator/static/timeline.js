// The timeline: one strip per object. Diamonds are key figures, colour is how sure tracking was, hatching is "not there".

import { $, clamp } from "./dom.js";
import { KEY, NO_SCORE, S, SCORE, codesOf, colorOf, emit, nameOf, on, select } from "./state.js";
import { R, show as showDoubt } from "./review.js";
import { goTo } from "./view.js";

const ROW = 22, HEAD = 22, SIDE = 132, MIN_SPAN = 20;
const rows = $("rows"), over = $("over"), box = $("timeline"), scroller = $("strips");
const paint = rows.getContext("2d"), pen = over.getContext("2d");
let from = 0, to = 1, dirty = false, dragging = false, colors = null;

const ids = () => [...S.objects.keys()];
const width = () => Math.max(50, box.clientWidth);
const scale = () => (width() - SIDE - 8) / Math.max(1, to - from);
export const xOf = (frame) => SIDE + (frame - from) * scale();
const frameAt = (x) => clamp(Math.floor(from + (x - SIDE) / scale()), 0, S.video.frames - 1);

export function showAll() { from = 0; to = S.video?.frames ?? 1; redraw(); }

export function zoomTimeline(factor, center = S.frame) {
  const total = S.video.frames, span = clamp((to - from) / factor, Math.min(MIN_SPAN, total), total);
  const share = clamp((center - from) / (to - from), 0, 1);
  from = clamp(center - span * share, 0, total - span);
  to = from + span;
  redraw();
}

function follow() { // the playhead is always in sight
  const span = to - from;
  if (S.frame < from || S.frame >= to) {
    from = clamp(S.frame - span * 0.1, 0, Math.max(0, S.video.frames - span));
    to = from + span;
    redraw();
  }
}

function redraw() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; if (S.video) { drawRows(); drawOver(); } });
}

on("video", (other) => { if (other) showAll(); redraw(); });
on("objects selection classes review look theme tracks", () => { colors = null; redraw(); });
on("frame", () => { follow(); drawOver(); box.setAttribute("aria-valuenow", S.frame); box.setAttribute("aria-valuetext", `frame ${S.frame} of ${S.video.frames - 1}`); });
new ResizeObserver(redraw).observe(box);

function theme() {
  const style = getComputedStyle(document.documentElement), get = (name) => style.getPropertyValue(name).trim();
  return (colors ??= { line: get("--line"), text: get("--text"), dim: get("--dim"), panel: get("--panel"), row: get("--raised"), accent: get("--accent"), bad: get("--bad") });
}

// Green where tracking was sure, over yellow to red where it was not.
const heat = Array.from({ length: 101 }, (_, n) => {
  const t = clamp((n - 15) / 70, 0, 1), hue = t * 145, light = 46 + 8 * (1 - Math.abs(2 * t - 1));
  return `hsl(${hue} 62% ${light}%)`;
});

function drawRows() {
  const c = theme(), ratio = devicePixelRatio, list = ids(), w = width();
  const height = Math.max(scroller.clientHeight, list.length * ROW + 4);
  if (rows.width !== Math.round(w * ratio) || rows.height !== Math.round(height * ratio)) {
    rows.width = Math.round(w * ratio); rows.height = Math.round(height * ratio);
    rows.style.width = `${w}px`; rows.style.height = `${height}px`;
  }
  paint.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint.clearRect(0, 0, w, height);
  paint.font = "12px system-ui, sans-serif";
  paint.textBaseline = "middle";
  const top = scroller.scrollTop - ROW, bottom = top + scroller.clientHeight + 2 * ROW;
  list.forEach((id, n) => { if (n * ROW >= top && n * ROW <= bottom) drawStrip(id, n * ROW, w, c); });
  if (!list.length) {
    paint.fillStyle = c.dim;
    paint.fillText("Nothing is labelled yet. Choose a tool on the left and draw the first object; its strip appears here.", SIDE + 12, 18);
  }
}

function drawStrip(id, y, w, c) {
  const strong = S.selected.has(id), faint = S.hidden.has(id), codes = codesOf(id), k = scale();
  if (strong) { paint.fillStyle = c.row; paint.fillRect(0, y, w, ROW); paint.fillStyle = c.accent; paint.fillRect(0, y, 3, ROW); }
  paint.globalAlpha = faint ? 0.4 : 1;
  paint.fillStyle = colorOf(id);
  paint.beginPath();
  paint.roundRect(10, y + 7, 8, 8, 2);
  paint.fill();
  paint.fillStyle = c.text;
  paint.save();
  paint.beginPath();
  paint.rect(0, y, SIDE - 8, ROW);
  paint.clip();
  paint.fillText(nameOf(id), 24, y + ROW / 2 + 0.5);
  paint.restore();
  paint.fillStyle = c.line;
  paint.fillRect(SIDE, y + ROW - 1, w - SIDE, 0.5);
  const first = Math.max(0, Math.floor(from)), last = Math.min(S.video.frames, Math.ceil(to));
  const bar = y + 5, tall = ROW - 10;
  paint.save();
  paint.beginPath();
  paint.rect(SIDE, y, w - SIDE, ROW);
  paint.clip();
  for (const [a, b] of S.objects.get(id).absent) hatch(xOf(a), bar, (b - a + 1) * k, tall, c);
  if (codes) {
    const keys = [];
    if (k >= 1) {
      for (let frame = first; frame < last; frame++) {
        const code = codes[frame];
        if (code === 0) continue;
        if (code === KEY) keys.push(frame);
        paint.fillStyle = code === KEY ? colorOf(id) : code === NO_SCORE ? c.dim : heat[code - SCORE];
        const x = Math.floor(xOf(frame));
        paint.fillRect(x, bar, Math.floor(xOf(frame + 1)) - x, tall);
      }
    } else {
      for (let x = SIDE; x < w; x++) { // several frames on one pixel: the least sure is shown
        const a = Math.floor(from + (x - SIDE) / k), b = Math.min(last, Math.max(a + 1, Math.floor(from + (x + 1 - SIDE) / k)));
        let low = 0, key = -1;
        for (let frame = a; frame < b; frame++) {
          const code = codes[frame];
          if (code === KEY) key = frame;
          else if (code && (!low || code < low)) low = code;
        }
        if (key >= 0) keys.push(key);
        if (!low && key < 0) continue;
        paint.fillStyle = !low ? colorOf(id) : low === NO_SCORE ? c.dim : heat[low - SCORE];
        paint.fillRect(x, bar, 1.2, tall);
      }
    }
    // Where a person's figures stand side by side (accepted ranges) the bar's colour says it; diamonds mark only the ends.
    let before = -Infinity;
    const inside = (frame) => k < 14 && codes[frame - 1] === KEY && codes[frame + 1] === KEY;
    for (const frame of keys) {
      const x = xOf(frame) + Math.max(k / 2, 0.5);
      if (x - before < 3 || inside(frame)) continue;
      before = x;
      diamond(x, y + ROW / 2, 5.2, c);
    }
  }
  paint.restore();
  paint.globalAlpha = 1;
}

function hatch(x, y, w, h, c) {
  paint.save();
  paint.beginPath();
  paint.rect(x, y, w, h);
  paint.clip();
  paint.strokeStyle = c.dim;
  paint.lineWidth = 1;
  paint.globalAlpha *= 0.7;
  paint.beginPath();
  for (let at = Math.floor(Math.max(x, SIDE) / 6) * 6 - h; at < Math.min(x + w, width()); at += 6) { paint.moveTo(at, y + h); paint.lineTo(at + h, y); }
  paint.stroke();
  paint.restore();
}

function diamond(x, y, size, c) {
  paint.beginPath();
  paint.moveTo(x, y - size); paint.lineTo(x + size, y); paint.lineTo(x, y + size); paint.lineTo(x - size, y);
  paint.closePath();
  paint.fillStyle = "#fff";
  paint.fill();
  paint.lineWidth = 1.25;
  paint.strokeStyle = c.panel === "#fff" ? "#333" : "#16181d";
  paint.stroke();
}

function drawOver() {
  if (!S.video) return;
  const c = theme(), ratio = devicePixelRatio, w = width(), h = box.clientHeight;
  if (over.width !== Math.round(w * ratio) || over.height !== Math.round(h * ratio)) {
    over.width = Math.round(w * ratio); over.height = Math.round(h * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const k = scale(), step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000].find((s) => s * k >= 62) ?? 100000;
  for (let frame = Math.ceil(from / step) * step; frame < to; frame += step) {
    const x = xOf(frame) + k / 2;
    pen.fillStyle = c.line;
    pen.fillRect(x, HEAD - 7, 1, 6);
    pen.fillStyle = c.dim;
    pen.fillText(String(frame), x + 4, HEAD - 10);
  }
  for (const run of S.tracks.values()) {
    const [a, b] = run.span;
    pen.fillStyle = c.accent;
    pen.globalAlpha = 0.25;
    pen.fillRect(xOf(a), HEAD - 4, Math.max(2, (b - a + 1) * k), 4);
    pen.globalAlpha = 1;
    if (run.reached) pen.fillRect(xOf(run.reached[0]), HEAD - 4, Math.max(3, (run.reached[1] - run.reached[0] + 1) * k), 4);
  }
  for (const doubt of R.list) {
    const x = xOf(doubt.frame) + k / 2;
    if (x < SIDE || x > w) continue;
    pen.beginPath();
    pen.moveTo(x - 4, 2); pen.lineTo(x + 4, 2); pen.lineTo(x, 9);
    pen.closePath();
    pen.fillStyle = c.bad;
    pen.fill();
  }
  const x = xOf(S.frame), wide = Math.max(2, k);
  pen.fillStyle = c.accent;
  pen.globalAlpha = 0.22;
  if (k > 3) pen.fillRect(x, HEAD, wide, h - HEAD);
  pen.globalAlpha = 1;
  pen.fillRect(x + wide / 2 - 0.75, HEAD - 2, 1.5, h - HEAD + 2);
  const said = String(S.frame), size = pen.measureText(said).width + 10, left = clamp(x + wide / 2 - size / 2, SIDE - 20, w - size);
  pen.beginPath();
  pen.roundRect(left, 2, size, HEAD - 6, 4);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.fillText(said, left + 5, HEAD / 2 - 0.5);
}

// --- the pointer ---------------------------------------------------------------------------------------------------

const rowAt = (y) => (y < HEAD ? null : ids()[Math.floor((y - HEAD + scroller.scrollTop) / ROW)] ?? null);
const place = (event) => { const b = box.getBoundingClientRect(); return [event.clientX - b.left, event.clientY - b.top]; };

box.addEventListener("pointerdown", (event) => {
  if (!S.video || event.button !== 0) return;
  const [x, y] = place(event);
  if (x > box.clientWidth - 2) return;
  const id = rowAt(y);
  if (id !== null) select(id, { add: event.shiftKey || event.ctrlKey || event.metaKey });
  if (x < SIDE) return;
  if (y < 11) {
    const doubt = R.list.find((d) => Math.abs(xOf(d.frame) + scale() / 2 - x) < 5);
    if (doubt) { showDoubt(doubt); return; }
  }
  dragging = true;
  box.setPointerCapture(event.pointerId);
  goTo(frameAt(x));
  emit("scrub");
});
box.addEventListener("pointermove", (event) => { if (dragging) goTo(frameAt(place(event)[0])); });
for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { dragging = false; });
box.addEventListener("wheel", (event) => {
  if (!S.video) return;
  if (event.ctrlKey || event.metaKey || event.altKey) {
    event.preventDefault();
    zoomTimeline(Math.exp(-clamp(event.deltaY, -100, 100) * 0.004), frameAt(place(event)[0]));
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    event.preventDefault();
    const by = ((event.deltaX || event.deltaY) / scale()), span = to - from;
    from = clamp(from + by, 0, Math.max(0, S.video.frames - span));
    to = from + span;
    redraw();
  } else scroller.scrollTop += event.deltaY;
}, { passive: false });
scroller.addEventListener("scroll", redraw);

export function reveal(id) {
  const at = ids().indexOf(id) * ROW;
  if (at < scroller.scrollTop) scroller.scrollTop = at;
  else if (at + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = at + ROW - scroller.clientHeight;
}
on("selection", () => { if (S.selected.size === 1) reveal([...S.selected][0]); });
