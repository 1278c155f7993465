// What the pointer does on the stage: picking and dragging figures, and drawing new ones of every kind.

import { $, clamp, el, every, toast } from "./dom.js";
import { ask } from "./api.js";
import { askForClass, likely } from "./classes.js";
import * as masks from "./masks.js";
import * as shapes from "./shapes.js";
import { S, apply, colorOf, emit, figureOf, figuresOn, findFigure, nameOf, on, only, select } from "./state.js";
import { autoTrack } from "./tracking.js";
import { figureAt, gripAt, pick, redraw, shapeFits, toPicture, view, zoom } from "./view.js";

const stage = $("stage");

export const TOOLS = {
  select: { label: "Select and edit", key: "V", icon: "cursor", hint: "Click a figure to select it, drag it or its handles. Drag the background to move the picture, wheel to zoom." },
  rectangle: { label: "Box", key: "B", icon: "box", type: "rectangle", hint: "Drag from corner to corner." },
  oriented_bbox: { label: "Rotated box", key: "R", icon: "rbox", type: "oriented_bbox", hint: "Drag along one side, let go, then click where the other side is." },
  polygon: { label: "Polygon", key: "P", icon: "polygon", type: "polygon", hint: "Click the corners; Enter, double-click or the first corner ends it. Alt+click on a selected polygon begins a hole." },
  line: { label: "Line", key: "L", icon: "line", type: "line", hint: "Click the points; Enter or double-click ends it." },
  point: { label: "Point", key: "O", icon: "point", type: "point", hint: "Click where the point is." },
  graph: { label: "Skeleton", key: "K", icon: "skeleton", type: "graph", hint: "Drag a frame around the body, then put the joints where they belong. Alt+click switches a joint off." },
  brush: { label: "Mask brush", key: "M", icon: "brush", type: "bitmap", hint: "Paint. Shift erases, [ and ] change the size." },
  eraser: { label: "Mask eraser", key: "E", icon: "eraser", type: "bitmap", hint: "Rub out parts of the selected mask. [ and ] change the size." },
  smart: { label: "Smart tool", key: "S", icon: "wand", type: "bitmap", hint: "Drag a box around a thing: its mask appears. Then click what is missing, Alt+click what is too much." },
};

let brush = 24, session = null; // session: of the drawing tool that is in the middle of something
let pointer = null, space = false, hole = false;
export const brushSize = () => brush;
export function setBrush(size) { brush = clamp(Math.round(size), 1, 400); emit("tool"); redraw(); }

export function setTool(name) {
  if (name === S.tool) return;
  cancel();
  S.tool = name;
  hole = false;
  emit("tool");
  cursor();
}

// Gives up what is being drawn; whether there was anything.
export function cancel() {
  const had = session !== null;
  session = null;
  view.draft = null;
  view.paint = null;
  view.override.clear();
  redraw();
  emit("tool");
  return had;
}
export const busy = () => session !== null;

export function finish() { // Enter, double-click
  if (session?.finish) { session.finish(); return true; }
  return false;
}
export function backstep() {
  if (!session?.points || session.points.length < 2) return false;
  session.points.pop();
  redraw();
  return true;
}

// --- where a new figure goes -----------------------------------------------------------------------------------------

// The object that a drawing on this frame belongs to: the selected one while a person has drawn nothing of it here.
export function target(type) {
  const id = only();
  if (id === null || !shapeFits(id, type)) return null;
  return figuresOn(view.shown).some((f) => f.objectId === id && f.key) ? null : id;
}

async function add(type, geometry, meta = {}) {
  const frame = view.shown, owner = target(type);
  const figure = (objectId) => ({ op: "add_figure", objectId, frame, geometryType: type, geometry, meta });
  if (owner !== null) {
    const made = await apply(`Draw ${nameOf(owner)}`, [figure(owner)], [frame, frame]);
    if (made) { view.figure = made[0][0]; redraw(); }
    return made && { objectId: owner, figureId: made[0][0] };
  }
  const kind = await askForClass(type);
  if (!kind) return null;
  const made = await apply(`New ${kind.name}`, [{ op: "add_object", classId: kind.id }, figure(-1)], [frame, frame]);
  if (!made) return null;
  select(made[0][0]);
  view.figure = made[1][0];
  redraw();
  return { objectId: made[0][0], figureId: made[1][0] };
}

export const edit = (figure, geometry, label = "Edit") =>
  apply(`${label} ${nameOf(figure.objectId)}`, [{ op: "edit_figure", id: figure.id, geometry }], [figure.frame, figure.frame]);

// --- drafts ----------------------------------------------------------------------------------------------------------

function strokeDraft(context, unit, path, closed) {
  context.setLineDash([]);
  context.beginPath();
  path.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (closed) context.closePath();
  context.strokeStyle = "rgba(0,0,0,.6)";
  context.lineWidth = 3.5 * unit;
  context.stroke();
  context.strokeStyle = "#fff";
  context.lineWidth = 1.75 * unit;
  context.stroke();
}

function dots(context, unit, points) {
  for (const [x, y] of points) {
    context.beginPath();
    context.arc(x, y, 4 * unit, 0, 7);
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = unit;
    context.strokeStyle = "#111";
    context.stroke();
  }
}

const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) * view.scale;

function crosshair(p) {
  return (context, unit) => {
    const { width, height } = S.video;
    context.setLineDash([3 * unit, 3 * unit]);
    context.lineWidth = unit;
    context.strokeStyle = "rgba(255,255,255,.55)";
    context.beginPath();
    context.moveTo(0, p[1]); context.lineTo(width, p[1]);
    context.moveTo(p[0], 0); context.lineTo(p[0], height);
    context.stroke();
  };
}

function begin(made) { session = made; view.draft = made; emit("tool"); redraw(); }
function end() { session = null; view.draft = null; emit("tool"); redraw(); }

function dragBox(from, done) {
  begin({
    from, to: from,
    move(p) { this.to = p; redraw(); },
    up(p) {
      end();
      if (Math.abs(p[0] - from[0]) >= 1.5 && Math.abs(p[1] - from[1]) >= 1.5 && far(p, from) > 5) done(from, p);
      else toast("Drag from one corner to the opposite one.", { id: "hint", seconds: 3 });
    },
    draw(context, unit) {
      const [a, b] = [this.from, this.to];
      strokeDraft(context, unit, [a, [b[0], a[1]], b, [a[0], b[1]]], true);
      if (far(a, b) > 8) sizeLabel(context, unit, a, b);
    },
  });
}

function sizeLabel(context, unit, a, b) {
  const said = `${Math.abs(Math.round(b[0] - a[0]))} × ${Math.abs(Math.round(b[1] - a[1]))}`;
  context.font = `${11 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  context.fillStyle = "rgba(0,0,0,.7)";
  const width = context.measureText(said).width + 8 * unit, x = Math.max(a[0], b[0]) - width, y = Math.max(a[1], b[1]) + 4 * unit;
  context.fillRect(x, y, width, 16 * unit);
  context.fillStyle = "#fff";
  context.fillText(said, x + 4 * unit, y + 3 * unit);
}

function dragSide(from) { // a rotated box: first one side, then its width
  begin({
    from, to: from, second: false,
    move(p) { if (this.second) this.at = p; else this.to = p; redraw(); },
    up(p) {
      if (this.second) return;
      if (far(p, from) < 8) { end(); return; }
      this.to = p; this.at = p; this.second = true; this.keep = true;
    },
    down(p) {
      const box = this.box(p);
      end();
      if (box) add("oriented_bbox", box);
    },
    box(p) {
      const [ax, ay] = this.from, [bx, by] = this.to, length = Math.hypot(bx - ax, by - ay), angle = Math.atan2(by - ay, bx - ax);
      const side = -(p[0] - ax) * Math.sin(angle) + (p[1] - ay) * Math.cos(angle);
      if (Math.abs(side) < 2) return null;
      const cx = (ax + bx) / 2 - (side / 2) * Math.sin(angle), cy = (ay + by) / 2 + (side / 2) * Math.cos(angle);
      return shapes.turnedBox(cx, cy, length, Math.abs(side), angle);
    },
    draw(context, unit) {
      strokeDraft(context, unit, [this.from, this.to], false);
      const box = this.second && this.box(this.at);
      if (box) shapes.draw(context, { type: "oriented_bbox", geometry: box }, { color: "#fff", unit, strong: true, fill: 0.1 });
    },
  });
}

function clickPoints(from, type, inside) {
  const least = type === "line" ? 2 : 3;
  begin({
    points: [from], to: from, keep: true,
    move(p) { this.to = p; redraw(); },
    up() {},
    down(p) {
      if (this.points.length >= least && type === "polygon" && far(p, this.points[0]) < 10) return this.finish();
      if (far(p, this.points.at(-1)) > 2) this.points.push(p);
      redraw();
      return undefined;
    },
    finish() {
      const points = this.points;
      if (points.length < least) { toast(`A ${type} needs at least ${least} points.`, { id: "hint" }); return; }
      end();
      if (inside) {
        const g = inside.geometry, made = shapes.ring(points).points.exterior;
        edit(inside, { points: { exterior: g.points.exterior, interior: [...(g.points.interior ?? []), made] } }, "Hole in");
        hole = false;
      } else add(type, shapes.ring(points));
    },
    draw(context, unit) {
      strokeDraft(context, unit, [...this.points, this.to], type === "polygon");
      dots(context, unit, this.points);
    },
  });
}

// --- masks -----------------------------------------------------------------------------------------------------------

function paintable() { // the mask that is painted on: of the selected object on this frame
  const chosen = view.figure && findFigure(view.figure, view.shown);
  if (chosen?.type === "bitmap") return chosen;
  return figuresOn(view.shown).find((f) => f.type === "bitmap" && S.selected.has(f.objectId)) ?? null;
}

async function paint(from, erase) {
  const figure = paintable();
  if (erase && !figure) { toast("Select a mask first, then rub out parts of it.", { id: "hint" }); return; }
  const canvas = new OffscreenCanvas(S.video.width, S.video.height), context = canvas.getContext("2d", { willReadFrequently: true });
  const made = {
    last: from, keep: false, ready: false, points: [from],
    move(p) { this.points.push(p); if (this.ready) this.lay(); },
    lay() {
      context.globalCompositeOperation = erase ? "destination-out" : "source-over";
      context.fillStyle = context.strokeStyle = "#fff";
      context.lineWidth = brush;
      context.lineCap = context.lineJoin = "round";
      for (const p of this.points.splice(0)) {
        context.beginPath();
        context.moveTo(...this.last);
        context.lineTo(p[0] + 0.001, p[1]);
        context.stroke();
        this.last = p;
      }
      masks.untint(canvas);
      redraw();
    },
    async up() {
      session = { keep: true, move() {}, up() {}, down() {}, draw() {} };
      this.ended = true;
      await loading;
      const geometry = await masks.encode(canvas);
      if (geometry && figure) await edit(figure, geometry, erase ? "Erase from" : "Paint");
      else if (geometry) await add("bitmap", geometry);
      else if (figure) await apply(`Delete ${nameOf(figure.objectId)} here`, [{ op: "remove_figures", ids: [figure.id] }]);
      view.paint = null;
      end();
    },
    draw() {},
  };
  begin(made);
  const loading = (async () => {
    if (figure) {
      const picture = figure.picture ?? (figure.picture = await masks.decode(figure.geometry.bitmap.data));
      context.drawImage(picture, ...figure.geometry.bitmap.origin);
    }
    if (session !== made && !made.ended) return; // it was given up meanwhile
    const owner = figure?.objectId ?? target("bitmap");
    view.paint = { canvas, color: owner ? colorOf(owner) : likely("bitmap")?.color ?? "#7aa2f7", figureId: figure?.id };
    made.ready = true;
    made.lay();
  })();
}

// The Smart Tool: a box and clicks go to the app, a mask comes back; the clicks are kept with the figure.
async function smart(input, figure) {
  const task = autoTrack();
  if (!task) { toast("The Smart Tool is not running. Open Apps to see why.", { error: true }); return; }
  const points = (list) => list.map(([x, y]) => ({ x: Math.round(x), y: Math.round(y) }));
  $("stage-busy").hidden = false;
  try {
    const reply = await ask(task.id, "smart_segmentation", {
      crop: points(input.crop), positive: points(input.positive), negative: points(input.negative),
      video: { video_id: S.video.id, frame_index: view.shown }, request_uid: crypto.randomUUID(),
    }, {}, 120);
    if (reply.error) throw new Error(reply.error.message ?? String(reply.error));
    if (!reply.bitmap) { toast("Nothing was found there. Draw the box a little larger, or click on the thing.", { id: "smart" }); return; }
    const geometry = { bitmap: { origin: [reply.origin.x, reply.origin.y], data: reply.bitmap } };
    const meta = { tool: "smart", smartToolInput: { ...input, visible: true } };
    if (figure) await apply(`Smart Tool on ${nameOf(figure.objectId)}`, [{ op: "edit_figure", id: figure.id, geometry, meta }], [figure.frame, figure.frame]);
    else await add("bitmap", geometry, meta);
  } catch (error) {
    toast(error.message, { error: true });
  } finally {
    $("stage-busy").hidden = true;
  }
}

function smartClick(p, negative) {
  const figure = paintable(), round = [Math.round(p[0]), Math.round(p[1])];
  if (!figure?.smart) return false;
  const { crop, positive, negative: without } = figure.smart;
  const xs = [crop[0][0], crop[1][0], ...(negative ? [] : [round[0]])], ys = [crop[0][1], crop[1][1], ...(negative ? [] : [round[1]])];
  smart({
    crop: [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]],
    positive: negative ? positive : [...positive, round], negative: negative ? [...without, round] : without,
  }, figure);
  return true;
}

// --- the pointer -----------------------------------------------------------------------------------------------------

function startTool(p, event) {
  const tool = S.tool, inside = view.figure && findFigure(view.figure, view.shown);
  switch (tool) {
    case "rectangle": dragBox(p, (a, b) => add("rectangle", shapes.rectangle(a, b))); break;
    case "graph": startSkeleton(p); break;
    case "oriented_bbox": dragSide(p); break;
    case "polygon": clickPoints(p, "polygon", (hole || event.altKey) && inside?.type === "polygon" ? inside : null); break;
    case "line": clickPoints(p, "line"); break;
    case "point": add("point", shapes.ring([p])); break;
    case "brush": paint(p, event.shiftKey); break;
    case "eraser": paint(p, !event.shiftKey); break;
    case "smart":
      if (event.altKey) { if (!smartClick(p, true)) toast("Drag a box around a thing first.", { id: "hint" }); break; }
      begin({
        from: p, to: p,
        move(q) { this.to = q; redraw(); },
        up(q) {
          end();
          if (far(p, q) > 8) {
            const crop = [[Math.min(p[0], q[0]), Math.min(p[1], q[1])], [Math.max(p[0], q[0]), Math.max(p[1], q[1])]]
              .map(([x, y]) => [clamp(Math.round(x), 0, S.video.width - 1), clamp(Math.round(y), 0, S.video.height - 1)]);
            smart({ crop, positive: [[Math.round((p[0] + q[0]) / 2), Math.round((p[1] + q[1]) / 2)]], negative: [] }, null);
          } else if (!smartClick(p, false)) toast("Drag a box around a thing first.", { id: "hint" });
        },
        draw(context, unit) { strokeDraft(context, unit, [this.from, [this.to[0], this.from[1]], this.to, [this.from[0], this.to[1]]], true); },
      });
      break;
    default:
  }
}

async function startSkeleton(p) {
  const owner = target("graph");
  const kind = owner !== null ? S.classes.get(S.objects.get(owner).classId) : S.classes.get(S.classId);
  const chosen = kind?.template?.nodes ? kind : [...S.classes.values()].find((c) => c.shape === "graph");
  if (!chosen) {
    const made = await askForClass("graph");
    if (made) toast("Now drag a frame around the body.", { id: "hint" });
    return;
  }
  if (owner === null && S.classId !== chosen.id) { S.classId = chosen.id; emit("classes"); }
  dragBox(p, (a, b) => add("graph", shapes.skeletonIn(chosen.template, a, b)));
}

function saved(figure, geometry) { // unless it is being dragged again already
  if (view.override.get(figure.id) === geometry) view.override.delete(figure.id);
  redraw();
}

function startDrag(grip) {
  const figure = grip.figure;
  begin({
    geometry: null,
    move(q) { this.geometry = shapes.drag(figure, grip, q); view.override.set(figure.id, this.geometry); redraw(); },
    async up() {
      end();
      if (this.geometry) await edit(figure, this.geometry);
      saved(figure, this.geometry);
    },
    draw() {},
  });
}

function startMove(figure, p) {
  begin({
    geometry: null,
    move(q) {
      if (!this.geometry && far(p, q) < 4) return;
      this.geometry = shapes.move(figure, q[0] - p[0], q[1] - p[1]);
      view.override.set(figure.id, this.geometry);
      redraw();
    },
    async up() {
      end();
      if (this.geometry) await edit(figure, this.geometry, "Move");
      saved(figure, this.geometry);
    },
    draw() {},
  });
}

function startPan(event) {
  const from = [event.clientX, event.clientY, view.x, view.y];
  let far = 0;
  begin({
    pan: true,
    screen(e) {
      far = Math.max(far, Math.hypot(e.clientX - from[0], e.clientY - from[1]));
      view.x = from[2] + e.clientX - from[0];
      view.y = from[3] + e.clientY - from[1];
      if (far > 3) view.fitted = false;
      redraw();
    },
    move() {},
    up() { end(); cursor(); if (far < 4 && S.tool === "select" && event.button === 0 && !space) pick(null, { add: event.shiftKey }); },
    draw() {},
  });
  stage.style.cursor = "grabbing";
}

stage.addEventListener("pointerdown", (event) => {
  if (!S.video || (event.button !== 0 && event.button !== 1)) return;
  stage.setPointerCapture(event.pointerId);
  stage.classList.add("pointed"); // the ring is for those who come by keyboard
  stage.focus({ preventScroll: true });
  const p = toPicture(event);
  if (session?.down) { session.down(p); return; }
  if (session) return;
  if (event.button === 1 || space) { event.preventDefault(); startPan(event); return; }
  if (view.shown !== S.frame) return; // what is seen is not what was asked for yet
  const grip = S.tool === "brush" || S.tool === "eraser" || S.tool === "smart" ? null : gripAt(p);
  if (grip && event.altKey) {
    const less = shapes.without(grip.figure, grip);
    if (less) edit(grip.figure, less); else toast("No fewer points are possible.", { id: "hint" });
    return;
  }
  if (grip) { startDrag(grip); return; }
  if (S.tool !== "select") { startTool(p, event); return; }
  const figure = figureAt(p);
  if (!figure) { startPan(event); return; }
  pick(figure, { add: event.shiftKey || event.ctrlKey || event.metaKey });
  if (!event.shiftKey && !event.ctrlKey && !event.metaKey) startMove(figure, p);
});

stage.addEventListener("pointermove", (event) => {
  if (!S.video) return;
  const p = (pointer = toPicture(event));
  if (session) {
    session.screen?.(event);
    for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) session.move(toPicture(part));
    if (session) return;
  }
  view.handle = gripAt(p);
  const under = figureAt(p);
  if (view.hover !== (under?.id ?? null)) { view.hover = under?.id ?? null; redraw(); }
  cursor(under);
  if (S.tool !== "select" && !session) {
    const radius = (S.tool === "brush" || S.tool === "eraser") && brush / 2;
    const lines = crosshair(p);
    view.draft = {
      draw(context, unit) {
        if (!radius) return lines(context, unit);
        context.beginPath();
        context.arc(p[0], p[1], radius, 0, 7);
        context.lineWidth = unit * 1.5;
        context.strokeStyle = "#fff";
        return context.stroke();
      },
    };
    redraw();
  }
});

stage.addEventListener("blur", () => stage.classList.remove("pointed"));
stage.addEventListener("pointerup", (event) => { if (session && event.button !== 2) session.up?.(toPicture(event)); });
stage.addEventListener("pointercancel", cancel);
stage.addEventListener("pointerleave", () => { if (!session) { view.draft = null; view.hover = null; redraw(); } });
stage.addEventListener("contextmenu", (event) => event.preventDefault());
stage.addEventListener("dblclick", (event) => {
  if (finish()) return;
  const figure = view.figure && findFigure(view.figure, view.shown);
  const more = S.tool === "select" && figure && shapes.withVertex(figure, toPicture(event), 8 / view.scale);
  if (more) edit(figure, more);
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-clamp(event.deltaY, -120, 120) * 0.0022), [event.clientX - box.left, event.clientY - box.top]);
}, { passive: false });

export function setSpace(value) { space = value; cursor(); }

function cursor(under) {
  if (session?.pan) return;
  stage.style.cursor = space ? "grab" : view.handle && !["brush", "eraser", "smart"].includes(S.tool) ? view.handle.cursor
    : S.tool === "brush" || S.tool === "eraser" ? "none" : S.tool !== "select" ? "crosshair" : under ? "move" : "default";
}

// --- the bar of the tool ---------------------------------------------------------------------------------------------

// Who has drawn with a tool a few times needs no hint, and sees more of the picture.
const LESSONS = 4, learned = JSON.parse(localStorage.getItem("learned") ?? "{}");
on("changed", ({ changes }) => {
  if (S.tool === "select" || !changes.some((change) => change.op === "add_figure" || change.op === "edit_figure")) return;
  learned[S.tool] = (learned[S.tool] ?? 0) + 1;
  localStorage.setItem("learned", JSON.stringify(learned));
});

const showBar = () => {
  const tool = TOOLS[S.tool], bar = $("tool-bar");
  const parts = [el("strong", {}, tool.label)];
  if (tool.type && S.tool !== "eraser") {
    const owner = target(tool.type), kind = likely(tool.type);
    parts.push(el("span", { class: "chip" }, owner !== null ? `for ${nameOf(owner)}` : kind ? `new ${kind.name}` : "new class"));
  }
  if (S.tool === "brush" || S.tool === "eraser")
    parts.push(el("label", { class: "size" }, "Size ",
      el("input", { type: "range", min: 1, max: 200, value: brush, "aria-label": "Brush size", oninput: (e) => setBrush(e.target.value) }), `${brush}`));
  if (S.tool === "polygon" && view.figure && findFigure(view.figure, view.shown)?.type === "polygon")
    parts.push(el("button", { type: "button", class: hole ? "on" : "", "aria-pressed": String(hole), onclick: () => { hole = !hole; emit("tool"); } }, "Cut a hole"));
  if (session?.finish) parts.push(el("button", { type: "button", class: "primary", onclick: finish }, "Finish (Enter)"));
  if (session && !session.pan && session.keep) parts.push(el("button", { type: "button", onclick: cancel }, "Cancel (Esc)"));
  if (session || (learned[S.tool] ?? 0) < LESSONS) parts.push(el("span", { class: "hint" }, tool.hint));
  bar.title = tool.hint;
  bar.replaceChildren(...parts);
  bar.hidden = S.tool === "select" && S.objects.size > 0;
};
on("tool selection classes video", showBar);
on("shown figures", every(80, () => { if (S.tool !== "select") showBar(); }));

export const hasFigureHere = () => [...S.selected].some((id) => figureOf(id));
export const lastPointer = () => pointer;
