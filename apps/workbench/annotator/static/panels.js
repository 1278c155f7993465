// The panel on the right: class of new objects, the list of objects, tracking, review.

import { $, button, el, every } from "./dom.js";
import * as act from "./actions.js";
import { newClass } from "./classes.js";
import { R, accept, acceptRange, anyStretch, next, removeRange, show } from "./review.js";
import { KEY, S, classOf, codesOf, colorOf, emit, nameOf, on, select } from "./state.js";
import * as tracking from "./tracking.js";
import { goTo } from "./view.js";

const { T } = tracking;

// --- classes -----------------------------------------------------------------------------------------------------------

on("classes video", () => {
  const list = $("classes");
  list.replaceChildren(...[...S.classes.values()].map((kind, n) =>
    el("button", {
      type: "button", class: kind.id === S.classId ? "class on" : "class", "aria-pressed": String(kind.id === S.classId),
      title: `New objects are ${kind.name}${n < 9 ? `  (${n + 1})` : ""}`, onclick: () => { S.classId = kind.id; emit("classes"); },
    }, el("i", { class: "swatch", style: { background: kind.color } }), kind.name)),
  button("New class", { icon: "plus", class: "class add", text: S.classes.size ? null : "New class" }, () => newClass()));
});

// --- objects -----------------------------------------------------------------------------------------------------------

on("objects selection classes look video", () => {
  const here = new Map();
  for (const id of S.objects.keys()) here.set(id, codesOf(id)?.[S.frame] ?? 0);
  $("object-count").textContent = S.objects.size || "";
  const list = $("objects"), top = list.scrollTop;
  const rows = [...S.objects.values()].slice(0, 500).map((object, at) => objectRow(object, here.get(object.id), at === 0));
  list.replaceChildren(...(rows.length ? rows : [el("p", { class: "empty" }, "No objects yet.")]));
  list.scrollTop = top;
  const some = S.selected.size > 0;
  for (const id of ["object-merge", "object-split", "object-cut", "object-absent", "object-delete"]) $(id).disabled = !some;
  $("object-merge").disabled = S.selected.size < 2;
  $("object-split").disabled = $("object-absent").disabled = S.selected.size !== 1;
});

function showCode(place, code) {
  place.className = code >= 100 && code < 100 + S.doubt * 100 ? "state bad" : "state";
  place.title = code === 1 ? "Drawn by a person on this frame" : code ? "Tracked on this frame" : "";
  place.textContent = code === 1 ? "◆" : code >= 100 ? `${code - 100}%` : code ? "•" : "";
  return place;
}

// From frame to frame only this changes; the rows stay.
on("frame", every(60, () => {
  for (const row of $("objects").querySelectorAll(".object")) showCode(row.querySelector(".state"), codesOf(Number(row.dataset.id))?.[S.frame] ?? 0);
}));

function objectRow(object, code, first) {
  const on = S.selected.has(object.id), hidden = S.hidden.has(object.id), range = S.ranges.get(object.id);
  const row = el("div", { class: `object${on ? " on" : ""}${hidden ? " off" : ""}`, role: "option", "aria-selected": String(on), tabindex: on || (first && !S.selected.size) ? "0" : "-1", "data-id": object.id,
    onclick: (event) => { if (!event.target.closest("button, select")) select(object.id, { add: event.shiftKey || event.ctrlKey || event.metaKey }); },
    ondblclick: () => { if (range) goTo(range[0]); } },
  el("i", { class: "swatch", style: { background: colorOf(object.id) } }),
  el("span", { class: "number" }, `#${object.number}`),
  on && S.selected.size === 1 && S.classes.size > 1
    ? el("select", { class: "kind", "aria-label": `Class of ${nameOf(object.id)}`, onchange: (e) => act.setClass(object.id, Number(e.target.value)) },
      [...S.classes.values()].map((kind) => el("option", { value: kind.id, selected: kind.id === object.classId }, kind.name)))
    : el("span", { class: "kind" }, classOf(object)?.name ?? "?"),
  showCode(el("span"), code),
  el("span", { class: "range", title: range ? `Frames ${range[0]} to ${range[1]}` : "" }, !range ? "–" : range[0] === range[1] ? `${range[0]}` : `${range[0]}–${range[1]}`),
  button(hidden ? `Show ${nameOf(object.id)}` : `Hide ${nameOf(object.id)}`, { icon: hidden ? "eye-off" : "eye", class: "ghost", "aria-pressed": String(hidden) }, () => act.toggleHidden(object.id)));
  return row;
}

$("objects").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  event.preventDefault();
  event.stopPropagation();
  const id = act.cycle(event.key === "ArrowDown" ? 1 : -1);
  if (id !== null) { select(id); $("objects").querySelector(`[data-id="${id}"]`)?.focus(); }
});

// --- tracking ------------------------------------------------------------------------------------------------------------

const KINDS = { rectangle: "Boxes", oriented_bbox: "Rotated boxes", bitmap: "Masks", polygon: "Polygons", line: "Lines", point: "Points", graph: "Skeletons" };

on("tracking video selection", () => {
  for (const name of ["backward", "both", "forward"]) {
    const made = $(`dir-${name}`);
    made.classList.toggle("on", T.direction === name);
    made.setAttribute("aria-pressed", String(T.direction === name));
  }
  $("until").value = T.until;
  $("frames").value = T.frames;
  $("frames").hidden = T.until !== "frames";
  $("auto").checked = T.auto;
  $("follow").checked = T.follow;
  const ready = tracking.autoTrack();
  $("track-state").textContent = ready ? "" : "starting ...";
});

export function wireTracking() {
  for (const name of ["backward", "both", "forward"]) $(`dir-${name}`).addEventListener("click", () => tracking.setTracking({ direction: name }));
  $("until").addEventListener("change", (e) => tracking.setTracking({ until: e.target.value }));
  $("frames").addEventListener("change", (e) => tracking.setTracking({ frames: Math.max(1, Number(e.target.value) || 50) }));
  $("auto").addEventListener("change", (e) => tracking.setTracking({ auto: e.target.checked }));
  $("follow").addEventListener("change", (e) => {
    tracking.setTracking({ follow: e.target.checked });
    for (const run of S.tracks.values()) run.watched = e.target.checked;
  });
  $("track").addEventListener("click", () => (S.tracks.size ? tracking.stop() : tracking.track()));
}

on("tracks tracking", () => {
  const running = [...S.tracks.values()], main = $("track");
  main.classList.toggle("stop", running.length > 0);
  main.querySelector("span").textContent = running.length ? (running.every((r) => r.stopping) ? "Stopping ..." : "Stop") : "Track";
  main.querySelector("use").setAttribute("href", running.length ? "#i-stop" : "#i-target");
  main.setAttribute("aria-label", running.length ? "Stop tracking" : "Track");
  main.title = running.length ? "Stop tracking  (X)" : "Track the selected objects, or all on this frame  (T)";
  $("progress").replaceChildren(...running.map((run) => el("div", { class: "run" },
    el("div", { class: "text" }, el("span", {}, what(run)), el("span", {}, run.total ? `${Math.min(99, Math.floor((100 * run.current) / run.total))} %` : "")),
    el("progress", { max: run.total || 1, value: run.current || 0, "aria-label": "Tracking progress" }),
    el("div", { class: "text dim" }, el("span", {}, tracking.speed(run) || (run.current ? "" : "starting ...")), el("span", {}, run.reached ? `frame ${tracking.head(run)}` : "")))));
});
const what = (run) => (run.ids.length ? tracking.named(run.ids) : "Tracking");

const showPlan = every(80, () => {
  $("track-plan").hidden = S.tracks.size > 0 || !S.video;
  if (S.video) $("track-plan").textContent = tracking.plan();
});
on("frame figures selection objects look tracking tracks video", showPlan);

export function trackerSettings() {
  const kinds = Object.entries(KINDS).map(([shape, text]) => {
    const cards = T.trackers.filter((card) => card.shapes.includes(shape));
    const box = el("select", { id: `tracker-${shape}`, onchange: (e) => { tracking.setTracking({ choice: { ...T.choice, [shape]: e.target.value } }); about(); } },
      el("option", { value: "default" }, "Automatic (no weights needed)"),
      cards.map((card) => el("option", { value: card.name }, `${card.title}${card.ready ? "" : "  - weights missing"}`)),
      T.apps.filter((app) => app.ready && !app.autoTrack && app.tags.includes("sly_video_tracking") && app.shapes.includes(shape))
        .map((app) => el("option", { value: `task:${app.id}` }, `App: ${app.name}`)),
      el("option", { value: "interpolation" }, "Constant motion (no picture)"));
    box.value = T.choice[shape] ?? "default";
    if (box.selectedIndex < 0) box.value = "default";
    const said = el("p", { class: "card" });
    const about = () => {
      const card = T.trackers.find((c) => c.name === box.value), speed = tracking.measured(shape, box.value);
      said.replaceChildren(...(speed ? [`${speed} `] : []), ...(card ? [
        `Licence ${card.licence}`, card.weights ? `, weights ${card.weightsLicence ?? "?"}` : ", no weights", `; runs on ${card.devices.join(", ")}. `,
        card.ready ? "" : el("code", {}, `python -m apps models download ${card.weights}`)] : []));
    };
    about();
    return el("div", { class: "field" }, el("label", { for: `tracker-${shape}` }, text), box, said);
  });
  return el("div", { class: "form" }, kinds, el("p", {}, "“Automatic” needs no weights and no GPU. A learned tracker follows better where its weights are on this machine."));
}

// --- review ----------------------------------------------------------------------------------------------------------------

const showReview = () => {
  const box = $("review-list"), count = R.list.length;
  $("review-count").textContent = count || "";
  $("review-next").disabled = $("review-prev").disabled = count === 0;
  const at = R.list.findIndex((d) => d.frame >= S.frame), start = Math.max(0, Math.min((at < 0 ? count : at) - 2, count - 40));
  const rows = R.list.slice(start, start + 40).map((doubt) => el("button", {
    type: "button", class: doubt.frame === S.frame && doubt.id === R.at?.id ? "doubt on" : "doubt", onclick: () => show(doubt),
  }, el("i", { class: "swatch", style: { background: colorOf(doubt.id) } }), el("span", {}, nameOf(doubt.id)), el("span", { class: "why" }, doubt.reason), el("span", { class: "range" }, `${doubt.frame}`)));
  box.replaceChildren(...(rows.length ? rows : [el("p", { class: "empty" }, anythingTracked() ? "Nothing doubtful." : "After tracking, doubtful frames are listed here.")]));
  const current = R.at?.frame === S.frame && R.list.some((d) => d.frame === S.frame && d.id === R.at.id);
  const [one] = S.selected, seen = S.selected.size === 1 && codesOf(one)?.[S.frame] > KEY; // whoever came here without the list
  $("review-accept").disabled = !current && !seen;
  const gap = current && R.at.last !== undefined;
  $("review-accept").querySelector("span").textContent = gap ? "Not there" : "Accept";
  $("review-accept").setAttribute("aria-label", gap ? "The object is not there" : "Accept what is seen");
};
const showRange = () => { $("range-accept").disabled = $("range-remove").disabled = !S.video || !anyStretch(); };
on("review video selection objects", showReview);
on("review video selection objects look", showRange);
on("frame", every(80, () => { showReview(); showRange(); }));
const anythingTracked = () => [...S.objects.keys()].some((id) => codesOf(id)?.some((code) => code >= 2));

export function wireReview() {
  $("review-next").addEventListener("click", () => next(1));
  $("review-prev").addEventListener("click", () => next(-1));
  $("review-accept").addEventListener("click", accept);
  $("range-accept").addEventListener("click", acceptRange);
  $("range-remove").addEventListener("click", removeRange);
  $("doubt").addEventListener("input", (e) => { S.doubt = Number(e.target.value) / 100; $("doubt-value").textContent = `${e.target.value} %`; localStorage.setItem("doubt", e.target.value); emit("look"); });
}
