// Review: the frames to look at, worst of each stretch, and what a person does about them.

import { toast } from "./dom.js";
import { KEY, S, SCORE, apply, codesOf, emit, figuresOn, nameOf, on, select } from "./state.js";
import { goTo, view } from "./view.js";

const NEAR = 4; // frames beside a key figure that need no look: a person has just looked
export const R = { list: [], accepted: 0 };

// The least sure frame of every stretch below the threshold, and every stretch without a figure between two that have one.
export function doubts(id) {
  const codes = codesOf(id), found = [], { absent } = S.objects.get(id);
  if (!codes) return found;
  const away = (frame) => absent.some(([a, b]) => frame >= a && frame <= b);
  const limit = SCORE + Math.round(S.doubt * 100);
  let worst = null, gap = null, seen = false, key = -Infinity;
  const end = () => {
    if (worst && !nearKey(codes, worst.frame)) found.push(worst);
    worst = null;
  };
  for (let frame = 0; frame < codes.length; frame++) {
    const code = codes[frame];
    if (code === KEY) key = frame;
    if (code >= SCORE && code < limit) {
      const score = (code - SCORE) / 100;
      if (!worst || score < worst.score) worst = { id, frame, score, reason: `${code - SCORE} % sure` };
    } else end();
    if (code === 0) { if (seen && gap === null && !away(frame)) gap = frame; }
    else {
      if (gap !== null) found.push({ id, frame: gap, last: frame - 1, score: 0, reason: frame - gap === 1 ? "no figure here" : `no figure on ${frame - gap} frames` });
      gap = null;
      seen = true;
    }
  }
  end();
  return key === -Infinity && found.length === 0 ? [] : found;
}

function nearKey(codes, frame) {
  for (let at = Math.max(0, frame - NEAR); at <= Math.min(codes.length - 1, frame + NEAR); at++) if (codes[at] === KEY) return true;
  return false;
}

export function list() {
  R.list = [...S.objects.keys()].filter((id) => !S.hidden.has(id)).flatMap(doubts).sort((a, b) => a.frame - b.frame || a.score - b.score);
  emit("review");
}
on("objects look", list);

export function next(step = 1) {
  const here = S.frame, current = R.at;
  if (!R.list.length) { toast("Nothing left to review: every figure is sure enough.", { id: "review" }); return; }
  const at = R.list.findIndex((d) => current && d.frame === current.frame && d.id === current.id);
  let found;
  if (at >= 0 && current.frame === here) found = R.list[(at + step + R.list.length) % R.list.length];
  else found = step > 0 ? R.list.find((d) => d.frame > here) ?? R.list[0] : [...R.list].reverse().find((d) => d.frame < here) ?? R.list.at(-1);
  show(found);
}

export function show(doubt) {
  R.at = doubt;
  goTo(doubt.frame, { step: 1 });
  select(doubt.id);
  emit("review");
}

// What is seen is right: the figure becomes a person's; a gap becomes "not there".
export async function accept() {
  const doubt = R.at?.frame === S.frame ? R.at : null;
  const id = doubt?.id ?? [...S.selected][0];
  if (id === undefined) return;
  const figures = figuresOn(S.frame).filter((f) => f.objectId === id);
  if (figures.length) {
    if (view.shown !== S.frame || figures.every((f) => f.key)) { if (doubt) next(); return; }
    await apply(`Accept ${nameOf(id)}`, figures.filter((f) => !f.key).map((f) => ({ op: "edit_figure", id: f.id })));
  } else if (doubt?.last !== undefined) {
    const ranges = [...S.objects.get(id).absent, [doubt.frame, doubt.last]];
    await apply(`${nameOf(id)} is not there`, [{ op: "set_absent", objectId: id, ranges }], [doubt.frame, doubt.last]);
  } else return;
  R.accepted++;
  if (doubt) { if (R.list.length) show(R.list.find((d) => d.frame >= S.frame) ?? R.list[0]); else toast("Review finished: nothing is left.", { id: "review" }); }
}

// --- whole ranges: what was tracked around this frame, without a break and without a key figure ---------------------------

const tracked = (code) => code > 0 && code !== KEY;

export function stretch(id, frame = S.frame) {
  const codes = codesOf(id);
  if (!tracked(codes?.[frame])) return null;
  let first = frame, last = frame;
  while (first > 0 && tracked(codes[first - 1])) first--;
  while (last < codes.length - 1 && tracked(codes[last + 1])) last++;
  return [first, last];
}

// Of the selected objects, of all that are seen when none is selected.
const meant = () => (S.selected.size ? [...S.selected] : [...S.objects.keys()].filter((id) => !S.hidden.has(id)));
export const anyStretch = () => meant().some((id) => tracked(codesOf(id)?.[S.frame]));

const named = (found) => (found.length === 1 ? `${nameOf(found[0].id)}, frames ${found[0].span[0]} to ${found[0].span[1]}` : `${found.length} objects`);
const whole = (found) => [Math.min(...found.map(({ span }) => span[0])), Math.max(...found.map(({ span }) => span[1]))];

async function onRanges(label, change, done) {
  const found = meant().map((id) => ({ id, span: stretch(id) })).filter(({ span }) => span);
  if (!found.length) { toast("Nothing was tracked here: go to a frame between two key figures.", { id: "range" }); return; }
  const changes = found.map(({ id, span: [first, last] }) => ({ ...change, objectIds: [id], first, last }));
  if (await apply(`${label} ${named(found)}`, changes, whole(found))) toast(`${done}: ${named(found)}.`, { id: "range", seconds: 4 });
}

export const acceptRange = () => onRanges("Accept", { op: "accept_span" }, "Accepted");
export const removeRange = () => onRanges("Remove tracking of", { op: "remove_span", what: "tracked" }, "Removed");
