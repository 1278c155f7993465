// Geometries as Supervisely writes them: what they look like, where they can be grabbed, what they become when dragged.
// Whole pixels count: pixel 3 reaches from 3 to 4, so a box from 3 to 5 is drawn from 3 to 6, a point in the middle.

import { clamp } from "./dom.js";
import { S, classOf } from "./state.js";

const round = Math.round;
const into = (p) => [clamp(Math.floor(p[0]), 0, S.video.width - 1), clamp(Math.floor(p[1]), 0, S.video.height - 1)];

export function rectangle(a, b) {
  const { width, height } = S.video;
  const [x1, x2] = [a[0], b[0]].map((v) => clamp(v, 0, width)).sort((m, n) => m - n);
  const [y1, y2] = [a[1], b[1]].map((v) => clamp(v, 0, height)).sort((m, n) => m - n);
  const left = Math.min(round(x1), width - 1), top = Math.min(round(y1), height - 1);
  return { points: { exterior: [[left, top], [Math.max(left, round(x2) - 1), Math.max(top, round(y2) - 1)]], interior: [] } };
}

export const edges = (g) => { const [[l, t], [r, b]] = g.points.exterior ?? g.points; return [l, t, r + 1, b + 1]; };

function turnedCorners(g) {
  const [l, t, r, b] = edges(g), cx = (l + r) / 2, cy = (t + b) / 2, cos = Math.cos(g.angle), sin = Math.sin(g.angle);
  return [[l, t], [r, t], [r, b], [l, b]].map(([x, y]) => [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos]);
}

export function turnedBox(cx, cy, w, h, angle) {
  cx = clamp(cx, 1, S.video.width - 1); cy = clamp(cy, 1, S.video.height - 1);
  const l = round(cx - w / 2), t = round(cy - h / 2);
  return { points: [[l, t], [Math.max(l, round(cx + w / 2) - 1), Math.max(t, round(cy + h / 2) - 1)]], angle };
}

export const ring = (points) => ({ points: { exterior: points.map(into), interior: [] } });

export function skeletonIn(template, a, b) {
  const entries = Object.entries(template.nodes), xs = entries.map(([, n]) => n.loc[0]), ys = entries.map(([, n]) => n.loc[1]);
  const span = (list) => Math.max(...list) - Math.min(...list) || 1;
  const [x0, y0] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])], w = Math.abs(b[0] - a[0]), h = Math.abs(b[1] - a[1]);
  const nodes = {};
  for (const [id, node] of entries)
    nodes[id] = { loc: into([x0 + ((node.loc[0] - Math.min(...xs)) / span(xs)) * w, y0 + ((node.loc[1] - Math.min(...ys)) / span(ys)) * h]) };
  return { nodes };
}

const mid = (p) => [p[0] + 0.5, p[1] + 0.5];

// Points of a figure in picture coordinates, ring after ring.
function rings(type, g) {
  if (type === "rectangle") { const [l, t, r, b] = edges(g); return [[[l, t], [r, t], [r, b], [l, b]]]; }
  if (type === "oriented_bbox") return [turnedCorners(g)];
  if (type === "polygon") return [g.points.exterior.map(mid), ...(g.points.interior ?? []).map((hole) => hole.map(mid))];
  if (type === "graph") return [Object.values(g.nodes).map((n) => mid(n.loc))];
  if (type === "bitmap") return [[g.bitmap.origin]];
  return [g.points.exterior.map(mid)];
}

export function bounds(figure) {
  if (figure.type === "bitmap") {
    const [x, y] = figure.geometry.bitmap.origin;
    return [x, y, x + (figure.picture?.width ?? 1), y + (figure.picture?.height ?? 1)];
  }
  const all = rings(figure.type, figure.geometry)[0];
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

const inRing = ([x, y], points) => {
  let inside = false;
  for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
    const [xi, yi] = points[i], [xj, yj] = points[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
};

export function toSegment([x, y], [ax, ay], [bx, by]) {
  const dx = bx - ax, dy = by - ay, t = clamp(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0, 1);
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

function nearLine(p, points, reach, closed) {
  for (let i = closed ? 0 : 1; i < points.length; i++)
    if (toSegment(p, points[(i + points.length - 1) % points.length], points[i]) <= reach) return true;
  return false;
}

// Whether a figure is under the pointer. reach: how near counts, in picture pixels.
export function hit(figure, p, reach) {
  const { type, geometry } = figure;
  if (type === "bitmap") {
    if (!figure.picture) return false;
    const [ox, oy] = geometry.bitmap.origin, x = Math.floor(p[0] - ox), y = Math.floor(p[1] - oy);
    if (x < 0 || y < 0 || x >= figure.picture.width || y >= figure.picture.height) return false;
    return figure.picture.getContext("2d").getImageData(x, y, 1, 1).data[3] > 127;
  }
  const all = rings(type, geometry);
  if (type === "point") return Math.hypot(p[0] - all[0][0][0], p[1] - all[0][0][1]) <= reach * 2;
  if (type === "line") return nearLine(p, all[0], reach, false);
  if (type === "graph") {
    if (all[0].some((q) => Math.hypot(p[0] - q[0], p[1] - q[1]) <= reach * 2)) return true;
    return bonesOf(figure).some(([a, b]) => toSegment(p, mid(a.loc), mid(b.loc)) <= reach);
  }
  if (all.some((points) => nearLine(p, points, reach, true))) return true;
  return inRing(p, all[0]) && !all.slice(1).some((hole) => inRing(p, hole));
}

export function area(figure) {
  const [l, t, r, b] = bounds(figure);
  return (r - l) * (b - t);
}

function bonesOf(figure) {
  const template = classOf(S.objects.get(figure.objectId))?.template, nodes = figure.geometry.nodes;
  return (template?.edges ?? []).map((e) => [nodes[e.src], nodes[e.dst]]).filter(([a, b]) => a && b);
}

// Where a figure can be grabbed: {x, y, id, cursor, ring?}.
export function handles(figure) {
  const { type, geometry: g } = figure;
  if (type === "rectangle") {
    const [l, t, r, b] = edges(g), cx = (l + r) / 2, cy = (t + b) / 2;
    return [["nw", l, t], ["n", cx, t], ["ne", r, t], ["e", r, cy], ["se", r, b], ["s", cx, b], ["sw", l, b], ["w", l, cy]]
      .map(([id, x, y]) => ({ id, x, y, cursor: `${id}-resize` }));
  }
  if (type === "oriented_bbox") {
    const corners = turnedCorners(g), [a, b] = corners, up = Math.max(18, (edges(g)[3] - edges(g)[1]) * 0.25);
    const top = [(a[0] + b[0]) / 2 + Math.sin(g.angle) * up, (a[1] + b[1]) / 2 - Math.cos(g.angle) * up];
    return [...corners.map(([x, y], at) => ({ id: at, x, y, cursor: "crosshair" })), { id: "turn", x: top[0], y: top[1], cursor: "grab" }];
  }
  if (type === "graph")
    return Object.entries(g.nodes).map(([id, n]) => ({ id, x: n.loc[0] + 0.5, y: n.loc[1] + 0.5, cursor: "move", off: n.disabled }));
  if (type === "bitmap") return [];
  return rings(type, g).flatMap((points, at) => points.map(([x, y], n) => ({ id: n, ring: at, x, y, cursor: "move" })));
}

const moved = (points, dx, dy) => {
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  dx = clamp(dx, -Math.min(...xs), S.video.width - 1 - Math.max(...xs));
  dy = clamp(dy, -Math.min(...ys), S.video.height - 1 - Math.max(...ys));
  return [dx, dy];
};

// The geometry after the whole figure was moved by so much; it stays within the picture.
export function move(figure, dx, dy) {
  const { type, geometry: g } = figure;
  dx = round(dx); dy = round(dy);
  if (type === "oriented_bbox") {
    const [l, t, r, b] = edges(g);
    return turnedBox((l + r) / 2 + dx, (t + b) / 2 + dy, r - l, b - t, g.angle);
  }
  if (type === "bitmap") {
    const [x, y] = g.bitmap.origin, w = figure.picture?.width ?? 1, h = figure.picture?.height ?? 1;
    return { bitmap: { ...g.bitmap, origin: [clamp(x + dx, 0, S.video.width - w), clamp(y + dy, 0, S.video.height - h)] } };
  }
  if (type === "graph") {
    const [mx, my] = moved(Object.values(g.nodes).map((n) => n.loc), dx, dy);
    return { nodes: Object.fromEntries(Object.entries(g.nodes).map(([id, n]) => [id, { ...n, loc: [n.loc[0] + mx, n.loc[1] + my] }])) };
  }
  const [mx, my] = moved(g.points.exterior, dx, dy), by = (points) => points.map(([x, y]) => [x + mx, y + my]);
  return { points: { exterior: by(g.points.exterior), interior: (g.points.interior ?? []).map(by) } };
}

// The geometry after a handle was dragged to p.
export function drag(figure, handle, p) {
  const { type, geometry: g } = figure;
  if (type === "rectangle") {
    let [l, t, r, b] = edges(g);
    if (handle.id.includes("w")) l = p[0];
    if (handle.id.includes("e")) r = p[0];
    if (handle.id.includes("n")) t = p[1];
    if (handle.id.includes("s")) b = p[1];
    return rectangle([l, t], [r, b]);
  }
  if (type === "oriented_bbox") {
    const [l, t, r, b] = edges(g), cx = (l + r) / 2, cy = (t + b) / 2;
    if (handle.id === "turn") return { ...g, angle: Math.atan2(p[0] - cx, cy - p[1]) };
    const fixed = turnedCorners(g)[(handle.id + 2) % 4], cos = Math.cos(g.angle), sin = Math.sin(g.angle);
    const dx = p[0] - fixed[0], dy = p[1] - fixed[1];
    return turnedBox(fixed[0] + dx / 2, fixed[1] + dy / 2, Math.max(2, Math.abs(dx * cos + dy * sin)), Math.max(2, Math.abs(-dx * sin + dy * cos)), g.angle);
  }
  if (type === "graph") return { nodes: { ...g.nodes, [handle.id]: { ...g.nodes[handle.id], loc: into(p) } } };
  const put = (points) => points.map((q, n) => (n === handle.id ? into(p) : q));
  return {
    points: {
      exterior: handle.ring ? g.points.exterior : put(g.points.exterior),
      interior: (g.points.interior ?? []).map((hole, at) => (at + 1 === handle.ring ? put(hole) : hole)),
    },
  };
}

// Without that vertex, or null when too few would be left. A skeleton's node is switched off or on instead.
export function without(figure, handle) {
  const { type, geometry: g } = figure;
  if (type === "graph") {
    const node = { ...g.nodes[handle.id] };
    if (node.disabled) delete node.disabled; else node.disabled = true;
    return { nodes: { ...g.nodes, [handle.id]: node } };
  }
  if (type !== "polygon" && type !== "line") return null;
  const drop = (points) => points.filter((_, n) => n !== handle.id);
  const interior = g.points.interior ?? [];
  if (handle.ring) {
    const holes = interior.map((hole, at) => (at + 1 === handle.ring ? drop(hole) : hole)).filter((hole) => hole.length >= 3);
    return { points: { exterior: g.points.exterior, interior: holes } };
  }
  const exterior = drop(g.points.exterior);
  return exterior.length < (type === "polygon" ? 3 : 2) ? null : { points: { exterior, interior } };
}

// With a vertex more where the outline is nearest to p, null when it is nowhere near.
export function withVertex(figure, p, reach) {
  if (figure.type !== "polygon" && figure.type !== "line") return null;
  const all = rings(figure.type, figure.geometry), g = figure.geometry;
  for (let at = 0; at < all.length; at++)
    for (let n = figure.type === "polygon" ? 0 : 1; n < all[at].length; n++)
      if (toSegment(p, all[at][(n + all[at].length - 1) % all[at].length], all[at][n]) <= reach) {
        const put = (points) => [...points.slice(0, n), into(p), ...points.slice(n)];
        return {
          points: {
            exterior: at === 0 ? put(g.points.exterior) : g.points.exterior,
            interior: (g.points.interior ?? []).map((hole, k) => (k + 1 === at ? put(hole) : hole)),
          },
        };
      }
  return null;
}

// Draws a figure's outline and filling onto a context that is in picture coordinates. unit: one screen pixel.
export function draw(context, figure, { color, unit, strong, fill, dashed }) {
  const { type, geometry: g } = figure, all = rings(type, g);
  context.lineWidth = (strong ? 2.5 : 1.75) * unit;
  context.setLineDash(dashed ? [6 * unit, 4 * unit] : []);
  context.lineJoin = "round";
  const path = () => {
    context.beginPath();
    for (const points of all) {
      points.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (type !== "line") context.closePath();
    }
  };
  const stroke = () => { // a dark rim keeps thin lines readable on any picture
    const width = context.lineWidth;
    context.strokeStyle = "rgba(0,0,0,.45)";
    context.lineWidth = width + 1.5 * unit;
    context.stroke();
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke();
  };
  const dot = ([x, y], size, hollow) => {
    context.beginPath();
    context.arc(x, y, size * unit, 0, Math.PI * 2);
    context.fillStyle = hollow ? "rgba(0,0,0,.35)" : color;
    context.fill();
    context.setLineDash([]);
    context.lineWidth = 1.5 * unit;
    context.strokeStyle = hollow ? color : "rgba(0,0,0,.6)";
    context.stroke();
  };
  if (type === "point") return dot(all[0][0], strong ? 6.5 : 5);
  if (type === "graph") {
    context.beginPath();
    for (const [a, b] of bonesOf(figure)) { context.moveTo(a.loc[0] + 0.5, a.loc[1] + 0.5); context.lineTo(b.loc[0] + 0.5, b.loc[1] + 0.5); }
    stroke();
    for (const node of Object.values(g.nodes)) dot([node.loc[0] + 0.5, node.loc[1] + 0.5], strong ? 5 : 4, node.disabled);
    return undefined;
  }
  path();
  if (type !== "line" && fill > 0) {
    context.globalAlpha = fill;
    context.fillStyle = color;
    context.fill("evenodd");
    context.globalAlpha = 1;
  }
  stroke();
  return undefined;
}
