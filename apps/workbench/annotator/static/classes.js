// Classes: choosing the one that new objects get, and making new ones.

import { post } from "./api.js";
import { dialog, el, toast } from "./dom.js";
import { S, emit } from "./state.js";

const COLORS = ["#4da3ff", "#ff7a59", "#37c871", "#c678dd", "#f2c744", "#23c6c8", "#ff5fa2", "#9aa8ff", "#b6d94c", "#ff9f43"];
const SHAPES = [["any", "Any kind of figure"], ["rectangle", "Boxes"], ["oriented_bbox", "Rotated boxes"], ["bitmap", "Masks"],
  ["polygon", "Polygons"], ["line", "Lines"], ["point", "Points"], ["graph", "Skeletons"]];
export const SHAPE_NAMES = Object.fromEntries(SHAPES);

const BODY = {
  nodes: [["head", 20, 0], ["neck", 20, 12], ["left shoulder", 10, 14], ["right shoulder", 30, 14], ["left elbow", 5, 30], ["right elbow", 35, 30],
    ["left hand", 2, 45], ["right hand", 38, 45], ["left hip", 13, 48], ["right hip", 27, 48], ["left knee", 12, 70], ["right knee", 28, 70],
    ["left foot", 11, 94], ["right foot", 29, 94]],
  edges: [[0, 1], [1, 2], [1, 3], [2, 4], [4, 6], [3, 5], [5, 7], [2, 8], [3, 9], [8, 9], [8, 10], [10, 12], [9, 11], [11, 13]],
};
const TEMPLATES = {
  Person: BODY,
  Hand: { nodes: [["wrist", 20, 60], ["thumb", 2, 30], ["index", 12, 4], ["middle", 20, 0], ["ring", 28, 4], ["little", 38, 14]], edges: [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]] },
  "Two points": { nodes: [["front", 0, 0], ["back", 40, 0]], edges: [[0, 1]] },
  "Four points": { nodes: [["1", 0, 0], ["2", 40, 0], ["3", 40, 40], ["4", 0, 40]], edges: [[0, 1], [1, 2], [2, 3], [3, 0]] },
};

function templateJson({ nodes, edges }, color) {
  return {
    nodes: Object.fromEntries(nodes.map(([label, x, y], at) => [`n${at}`, { label, loc: [x * 5, y * 5], color }])),
    edges: edges.map(([a, b]) => ({ src: `n${a}`, dst: `n${b}`, color })),
  };
}

export const fits = (kind, type) => kind.shape === "any" ? type !== "graph" || Boolean(kind.template?.nodes) : kind.shape === type;

// The class that a new object of that type would get: the chosen one when it fits, else the only one that does.
export function likely(type) {
  const chosen = S.classes.get(S.classId);
  if (chosen && fits(chosen, type)) return chosen;
  const others = [...S.classes.values()].filter((kind) => fits(kind, type));
  const exact = others.filter((kind) => kind.shape === type);
  return exact.length === 1 || others.length === 1 ? exact[0] ?? others[0] : null;
}

// The same, or a new class that is asked for.
export async function askForClass(type) {
  const found = likely(type);
  if (found) {
    if (found.id === S.classId) return found;
    S.classId = found.id;
    emit("classes");
    toast(`New ${found.name}: that class takes ${SHAPE_NAMES[type]?.toLowerCase() ?? type}.`, { id: "class", seconds: 4 });
    return found;
  }
  return newClass(type);
}

export function newClass(type = "any") {
  const color = COLORS[S.classes.size % COLORS.length];
  return dialog("New class", (close) => {
    const name = el("input", { id: "class-name", required: true, maxlength: 100, autofocus: true, placeholder: "person, car, ball ...", autocomplete: "off" });
    const paint = el("input", { id: "class-color", type: "color", value: color });
    const shape = el("select", { id: "class-shape" }, SHAPES.map(([value, text]) => el("option", { value }, text)));
    shape.value = type === "graph" ? "graph" : "any";
    const template = el("select", { id: "class-template" }, Object.keys(TEMPLATES).map((text) => el("option", { value: text }, text)));
    const row = el("div", { class: "field" }, el("label", { for: "class-template" }, "Skeleton"), template);
    const show = () => { row.hidden = shape.value !== "graph"; };
    shape.addEventListener("change", show);
    show();
    const form = el("form", { class: "form" },
      el("div", { class: "field" }, el("label", { for: "class-name" }, "Name"), name),
      el("div", { class: "field" }, el("label", { for: "class-shape" }, "What it is for"), shape), row,
      el("div", { class: "field" }, el("label", { for: "class-color" }, "Colour"), paint),
      el("footer", {}, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), el("button", { class: "primary" }, "Create class")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        const body = { name: name.value.trim(), shape: shape.value, color: paint.value };
        if (shape.value === "graph") body.template = templateJson(TEMPLATES[template.value], paint.value);
        const all = await post(`/workbench/annotator/projects/${S.video.projectId}/classes`, body);
        S.classes = new Map(all.map((c) => [c.id, c]));
        const made = all.find((c) => c.name === body.name);
        S.classId = made.id;
        emit("classes");
        close(made);
      } catch (error) {
        toast(error.message, { error: true });
      }
    });
    return form;
  });
}
