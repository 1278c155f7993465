// Calls to the workbench. A server that is away is waited for: the page says so and goes on by itself when it is back.

import { $ } from "./dom.js";

export const PAGE = crypto.randomUUID().slice(0, 12);

export class Refused extends Error {}

let away = false;
const waiting = new Set();
const returned = new Set(); // what is done when the connection is back

export const onReturn = (act) => returned.add(act);

function setAway(value) {
  if (away === value) return;
  away = value;
  $("offline").hidden = !value;
  if (!value) {
    for (const go of waiting) go();
    waiting.clear();
    for (const act of returned) act();
  } else probe();
}

async function probe() {
  let pause = 300;
  while (away) {
    await new Promise((done) => setTimeout(done, pause));
    pause = Math.min(pause * 1.5, 3000);
    try {
      const reply = await fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (reply.ok) {
        await fetch("/", { cache: "no-store" }); // a new data folder has a new token; this brings its cookie
        setAway(false);
      }
    } catch { /* still away */ }
  }
}

export async function call(path, { method = "GET", body, raw, signal, patient = true } = {}) {
  const headers = { "x-workbench-page": "1" };
  if (body !== undefined) headers["content-type"] = "application/json";
  for (let attempt = 0; ; attempt++) {
    if (away) {
      if (!patient) throw new TypeError("away");
      await new Promise((go) => waiting.add(go));
    }
    let reply;
    try {
      reply = await fetch(path, { method, headers, body: raw ?? (body === undefined ? undefined : JSON.stringify(body)), signal });
    } catch (error) {
      if (signal?.aborted || !patient) throw error;
      setAway(true);
      continue;
    }
    if (reply.ok) return reply.headers.get("content-type")?.includes("json") ? reply.json() : reply.text();
    const said = await reply.json().catch(() => ({}));
    if (reply.status === 503 && attempt < 5) { await new Promise((done) => setTimeout(done, 500)); continue; }
    throw new Refused(said.message || said.details?.message || `The workbench answered ${reply.status}.`);
  }
}

export const get = (path, options) => call(path, options);
export const post = (path, body = {}, options = {}) => call(path, { method: "POST", body, ...options });
export const rest = (method, body, options) => post(`/public/api/v3/${method}`, body, options);

// A request to an app, as the Video Annotation Tool makes it: through the platform, by task number.
export const ask = (taskId, command, context, state = {}, timeout = 60) =>
  rest("tasks.request.direct", { taskId, command, context, state, timeout });

// Server-sent events since a number; takes up where it was cut off.
export class Events {
  constructor(after, handle) {
    this.after = after;
    this.handle = handle;
    this.open();
  }
  open() {
    this.source = new EventSource(`/workbench/events?after=${this.after}`);
    for (const kind of ["notify", "change", "stop", "task"])
      this.source.addEventListener(kind, (event) => {
        this.after = Number(event.lastEventId);
        this.handle(kind, JSON.parse(event.data).body);
      });
    this.source.onerror = () => { this.source.close(); if (!this.closed) setAway(true); };
  }
  close() { this.closed = true; this.source.close(); }
}
