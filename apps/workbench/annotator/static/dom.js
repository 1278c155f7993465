// Small helpers for building the page: elements, icons, toasts, dialogs.

export const $ = (id) => document.getElementById(id);

// el("button", {class: "x", onclick: f, "aria-label": "y"}, child, "text", ...)
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "value" || name === "checked" || name === "disabled") made[name] = value;
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function button(label, { icon: name, text, key, ...props } = {}, onclick) {
  const title = key ? `${label}  (${key})` : label;
  return el("button", { type: "button", title, "aria-label": label, onclick, ...props }, name ? icon(name) : null, text ?? null);
}

// A short message at the bottom; errors stay until they are closed. actions: [text, function] pairs.
export function toast(message, { error = false, actions = [], id = null, seconds = 6 } = {}) {
  const box = $("toasts");
  if (id) box.querySelector(`[data-id="${id}"]`)?.remove();
  const close = () => made.remove();
  const made = el("div", { class: error ? "toast error" : "toast", role: error ? "alert" : "status", "data-id": id },
    el("span", {}, message),
    ...actions.map(([text, act]) => el("button", { type: "button", class: "link", onclick: () => { close(); act(); } }, text)),
    button("Close message", { icon: "x", class: "ghost" }, close));
  box.append(made);
  while (box.children.length > 4) box.firstElementChild.remove();
  if (!error) setTimeout(close, seconds * 1000);
  return close;
}

// A modal dialog; resolves with what close(value) was called with, null when it was dismissed.
export function dialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    const close = (value) => { made.close(); made.remove(); resolve(value ?? null); };
    const body = el("div", { class: "body" });
    const made = el("dialog", { class: wide ? "wide" : "", "aria-label": title },
      el("header", {}, el("h2", {}, title), button("Close", { icon: "x", class: "ghost" }, () => close(null))), body);
    made.addEventListener("cancel", (event) => { event.preventDefault(); close(null); });
    made.addEventListener("pointerdown", (event) => { if (event.target === made) close(null); });
    body.append(...[build(close)].flat());
    document.body.append(made);
    made.showModal();
    made.querySelector("[autofocus]")?.focus();
  });
}

export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export function every(ms, act) { // calls act at most once per ms, and once after the last call
  let timer = null, last = 0;
  return (...args) => {
    clearTimeout(timer);
    const left = last + ms - performance.now();
    if (left <= 0) { last = performance.now(); act(...args); }
    else timer = setTimeout(() => { last = performance.now(); act(...args); }, left);
  };
}

export const seconds = (value) =>
  value < 90 ? `${Math.max(1, Math.round(value))} s` : value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;

export function timecode(value) {
  const whole = Math.floor(value), part = Math.floor((value - whole) * 100);
  const two = (n) => String(n).padStart(2, "0");
  return `${whole >= 3600 ? Math.floor(whole / 3600) + ":" : ""}${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}.${two(part)}`;
}

export function readable(hex) { // black or white, whichever is read better on that colour
  const n = parseInt(hex.slice(1), 16);
  return (n >> 16) * 0.299 + ((n >> 8) & 255) * 0.587 + (n & 255) * 0.114 > 150 ? "#000" : "#fff";
}
