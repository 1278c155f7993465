// What a person does to objects and figures, apart from drawing them.

import { S, apply, codesOf, emit, figuresOn, nameOf, only, KEY } from "./state.js";
import { dialog, el, toast } from "./dom.js";
import { goTo, redraw, view } from "./view.js";

const last = () => S.video.frames - 1;
const chosen = () => [...S.selected];
const need = (text = "Select an object first.") => toast(text, { id: "hint", seconds: 4 });
const many = (ids) => (ids.length === 1 ? nameOf(ids[0]) : `${ids.length} objects`);

// The selected figures on this frame; of one object only the figure that was picked.
function figuresHere() {
  const here = figuresOn(S.frame).filter((f) => S.selected.has(f.objectId));
  const picked = here.find((f) => f.id === view.figure);
  return S.selected.size === 1 && picked ? [picked] : here;
}

export async function deleteFigures() {
  const figures = figuresHere();
  if (!figures.length) return need(S.selected.size ? "The selected object has no figure on this frame." : undefined);
  const done = await apply(`Delete ${many([...new Set(figures.map((f) => f.objectId))])} on frame ${S.frame}`, [{ op: "remove_figures", ids: figures.map((f) => f.id) }]);
  if (done) emit("removed", figures);
  return done;
}

export async function deleteFromHere() {
  if (!S.selected.size) return need();
  const ids = chosen();
  await apply(`Delete ${many(ids)} from frame ${S.frame} on`, [{ op: "remove_span", objectIds: ids, first: S.frame, last: last() }], [S.frame, last()]);
}

export async function deleteObjects() {
  if (!S.selected.size) return need();
  const ids = chosen();
  await apply(`Delete ${many(ids)}`, [{ op: "remove_objects", ids }], [0, last()]);
  toast(ids.length === 1 ? "Object deleted." : `${ids.length} objects deleted.`, { id: "deleted", seconds: 4 });
}

export async function merge() {
  const ids = chosen();
  if (ids.length < 2) return need("Select the objects that are one and the same (Shift+click), then merge them.");
  const [into, ...others] = ids.sort((a, b) => a - b);
  return apply(`Merge into ${nameOf(into)}`, [{ op: "merge", into, others }], [0, last()]);
}

export async function split() {
  const id = only();
  if (id === null) return need("Select one object to split.");
  return apply(`Split ${nameOf(id)} at frame ${S.frame}`, [{ op: "split", id, frame: S.frame }], [S.frame, last()]);
}

// The selected figures once more on the next frame, as a person's.
export async function copyToNext(step = 1) {
  const figures = figuresHere().length ? figuresHere() : figuresOn(S.frame).filter((f) => !S.hidden.has(f.objectId) && S.selected.size === 0);
  const frame = S.frame + step;
  if (!figures.length) return need("Nothing is selected on this frame.");
  if (frame > last() || frame < 0) return need("There is no frame after this one.");
  const changes = figures.map((f) => ({ op: "add_figure", objectId: f.objectId, frame, geometryType: f.type, geometry: f.geometry }));
  const there = figures.filter((f) => codesOf(f.objectId)?.[frame] === KEY);
  if (there.length) return need(`${nameOf(there[0].objectId)} was drawn on frame ${frame} already.`);
  const made = await apply(`Copy ${many([...new Set(figures.map((f) => f.objectId))])} to frame ${frame}`, changes, [S.frame, frame]);
  if (made) goTo(frame);
  return made;
}

export async function setClass(id, classId) {
  return apply(`Class of ${nameOf(id)}`, [{ op: "edit_object", id, classId }], [0, 0]);
}

export async function setAbsent() {
  const id = only();
  if (id === null) return need("Select one object.");
  const object = S.objects.get(id);
  return dialog(`Frames without ${nameOf(id)}`, (close) => {
    const from = el("input", { type: "number", id: "absent-from", min: 0, max: last(), value: S.frame });
    const to = el("input", { type: "number", id: "absent-to", min: 0, max: last(), value: Math.min(last(), gapEnd(id)) });
    const set = (ranges, label, span) => { close(true); apply(label, [{ op: "set_absent", objectId: id, ranges }], span); };
    const form = el("form", { class: "form" },
      el("p", {}, "Tracking makes no figures there, and figures that are there are removed. It is stored as the tag no-objects."),
      object.absent.map(([a, b], n) => el("div", { class: "line" }, `Frames ${a} to ${b}`,
        el("button", { type: "button", class: "link", onclick: () => set(object.absent.filter((_, m) => m !== n), `${nameOf(id)} is there again`, [a, b]) }, "Remove"))),
      el("div", { class: "two" }, el("label", { for: "absent-from" }, "From frame"), from, el("label", { for: "absent-to" }, "to frame"), to),
      el("footer", {}, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), el("button", { class: "primary" }, "Mark as absent")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const span = [Number(from.value), Number(to.value)].sort((a, b) => a - b);
      set([...object.absent, span], `${nameOf(id)} is not there`, span);
    });
    return form;
  });
}

function gapEnd(id) { // until the object is seen again
  const codes = codesOf(id);
  let at = S.frame;
  if (!codes || codes[at]) return at;
  while (at < last() && !codes[at + 1]) at++;
  return at;
}

export function toggleHidden(id) {
  const ids = id === undefined ? chosen() : [id], hide = ids.some((one) => !S.hidden.has(one));
  for (const one of ids) if (hide) S.hidden.add(one); else S.hidden.delete(one);
  emit("look");
  emit("selection");
}

export function nextKey(step) { // of the selected objects, of all when none is selected
  const ids = S.selected.size ? chosen() : [...S.objects.keys()];
  let best = null;
  for (const id of ids) {
    const codes = codesOf(id);
    for (let at = S.frame + step; codes && at >= 0 && at <= last(); at += step)
      if (codes[at] === KEY) { if (best === null || (at - best) * step < 0) best = at; break; }
  }
  if (best === null) need(`No key figure ${step > 0 ? "after" : "before"} this frame.`);
  else goTo(best, { step });
}

export function cycle(step) {
  const ids = [...S.objects.keys()].filter((id) => !S.hidden.has(id));
  if (!ids.length) return null;
  const at = ids.indexOf([...S.selected].at(-1));
  redraw();
  return ids[(at + step + ids.length) % ids.length];
}
