// Videos in, labels in and out, running apps, the keys: the dialogs.

import { Refused, call, get, post } from "./api.js";
import { dialog, el, seconds, timecode, toast } from "./dom.js";
import { S, openVideo } from "./state.js";
import { T } from "./tracking.js";

const PIECE = 4 << 20;

// Sends a file piece by piece; after a reload or a lost connection the same file goes on where it stopped.
async function upload(file, told) {
  const name = `upload ${file.name} ${file.size} ${file.lastModified}`;
  let at = null, id = localStorage.getItem(name);
  if (id) at = await get(`/workbench/annotator/uploads/${id}`).then((r) => r.offset, () => null);
  if (at === null) {
    ({ id } = await post("/workbench/annotator/uploads", { size: file.size }));
    at = 0;
    localStorage.setItem(name, id);
  }
  const began = performance.now(), first = at;
  while (at < file.size) {
    const reply = await call(`/workbench/annotator/uploads/${id}?offset=${at}`, { method: "PUT", raw: file.slice(at, at + PIECE) });
    at = reply.offset;
    const speed = (at - first) / ((performance.now() - began) / 1000);
    told(at / file.size, at < file.size ? `${Math.round((100 * at) / file.size)} % · ${(speed / 1e6).toFixed(1)} MB/s · ${seconds((file.size - at) / speed)} left` : "Looking into the video ...");
  }
  localStorage.removeItem(name);
  return id;
}

export async function uploadVideo(file, told = () => {}) {
  const id = await upload(file, told);
  const made = await post(`/workbench/annotator/uploads/${id}/video`, { name: file.name });
  return made.id;
}

export function chooseVideo(open) {
  return dialog("Videos", (close) => {
    const input = el("input", { type: "file", accept: "video/*,.mkv,.avi,.mov,.ts,.gif", id: "video-file", class: "file", "aria-label": "Video file" });
    const bar = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload progress" }), said = el("p", { class: "dim" });
    const list = el("div", { class: "videos" });
    const send = async (file) => {
      if (!file) return;
      bar.hidden = false;
      said.className = "dim"; // after an earlier try that failed
      try {
        const id = await uploadVideo(file, (share, text) => { bar.value = share; said.textContent = text; });
        close(id);
        open(id);
      } catch (error) {
        bar.hidden = true;
        said.textContent = error.message;
        said.className = "bad";
        input.value = ""; // so that the same file can be chosen again
      }
    };
    input.addEventListener("change", () => send(input.files[0]));
    const drop = el("label", { class: "drop", for: "video-file" }, el("strong", {}, "Choose a video"), " or drop it here. It stays on this machine.", input);
    drop.addEventListener("dragover", (e) => { e.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (e) => { e.preventDefault(); drop.classList.remove("over"); send(e.dataTransfer.files[0]); });
    get("/workbench/annotator/videos").then((videos) => list.replaceChildren(...videos.map((video) =>
      el("button", { type: "button", class: video.id === S.video?.id ? "video on" : "video", onclick: () => { close(video.id); open(video.id); } },
        el("img", { src: `/workbench/videos/${video.id}/frames/0?format=jpeg&width=240`, alt: "", loading: "lazy", width: 160, height: 90 }),
        el("strong", {}, video.name),
        el("span", { class: "dim" }, `${video.width} × ${video.height} · ${timecode(video.frames / video.fps)} · ${video.objects} object${video.objects === 1 ? "" : "s"}`),
        el("span", { class: "dim" }, video.project)))));
    return [drop, bar, said, list];
  }, { wide: true });
}

export function exportLabels() {
  return dialog("Export labels", (close) => {
    const formats = [
      ["supervisely", "Supervisely", "The whole project with everything in it; opens with the SDK (sly.VideoProject)."],
      ["mot", "MOTChallenge", "A text file: frame, id, box, confidence. For tracking tools and metrics."],
      ["coco", "COCO", "One JSON: boxes, polygons, masks, keypoints, with track ids."],
      ["yolo", "YOLO", "One text file per frame, for training detectors. Boxes only, without ids."],
    ];
    const whole = el("input", { type: "checkbox", id: "with-video", checked: true });
    const choice = ([format, name, about]) => el("button", {
      type: "button", class: "choice", "data-format": format,
      onclick: () => {
        const link = el("a", { href: `/workbench/annotator/videos/${S.video.id}/export?format=${format}&video=${whole.checked}`, download: "" });
        document.body.append(link);
        link.click();
        link.remove();
        close(true);
        toast("The file is being downloaded.", { id: "export" });
      },
    }, el("strong", {}, name), el("span", { class: "dim" }, about));
    const [first, ...others] = formats.map(choice);
    return el("div", { class: "form" }, first, el("label", { class: "check under" }, whole, "with the video itself"), others);
  });
}

export function importLabels() {
  return dialog("Import labels", (close) => {
    const input = el("input", { type: "file", accept: ".json,.txt,.csv,.zip", id: "label-file", class: "file", "aria-label": "Label file" });
    const said = el("p", { class: "dim" });
    input.addEventListener("change", async () => {
      said.className = "dim";
      try {
        const file = input.files[0], id = await upload(file, (_, text) => { said.textContent = text; });
        said.textContent = "Reading ...";
        const report = await post(`/workbench/annotator/uploads/${id}/labels/${S.video.id}`, { name: file.name });
        close(report);
        await openVideo(S.video.id);
        const left = report.skipped.length ? ` Left out: ${report.skipped.join(", ")}.` : "";
        toast(`${report.format}: ${report.objects} objects with ${report.figures} figures imported.${left}`, { id: "import", seconds: 12 });
      } catch (error) {
        said.textContent = error instanceof Refused ? error.message : String(error);
        said.className = "bad";
        input.value = "";
      }
    });
    return el("div", { class: "form" },
      el("p", {}, "A Supervisely project (.zip) or annotation (.json), COCO (.json), MOT (.txt) or YOLO (.zip) for this video. What kind it is, is seen from its content. Undo takes it back."),
      el("label", { class: "drop", for: "label-file" }, el("strong", {}, "Choose a file"), input), said);
  });
}

export function showApps() {
  return dialog("Apps on this machine", () => el("div", { class: "apps" }, T.apps.length ? T.apps.map((app) =>
    el("div", { class: "app" }, el("i", { class: app.ready ? "dot good" : "dot", title: app.ready ? "running" : app.status }),
      el("div", {}, el("strong", {}, app.name), app.ready ? null : el("span", { class: "dim" }, `  ${app.status}`), el("p", { class: "dim" }, app.about.split(". ")[0])),
      app.ready && app.page ? el("a", { href: `/app/${app.id}/`, target: "_blank", rel: "noopener" }, "Open its page") : null)) : el("p", {}, "No apps are running.")), { wide: true });
}

export const KEYS = [
  ["Move", [["← →", "Frame back, forward"], ["Shift + ← →", "10 frames"], ["Ctrl + ← →", "Previous, next key figure"], ["Home / End", "First, last frame"], ["Space", "Play, pause"], ["G", "Go to frame"], ["Wheel, F", "Zoom, fit"], ["Space + drag", "Move the picture"]]],
  ["Draw", [["V", "Select and edit"], ["B / R", "Box / rotated box"], ["P / L / O", "Polygon / line / point"], ["K", "Skeleton"], ["M / E", "Mask brush / eraser"], ["S", "Smart tool"], ["[ ]", "Brush size"], ["Enter / Esc", "Finish / cancel"], ["Backspace", "Last corner back"], ["1 - 9", "Class of new objects"]]],
  ["Edit", [["Ctrl + Z / Y", "Undo / redo"], ["Del", "Delete on this frame"], ["Shift + Del", "Delete from here on"], ["Ctrl + Del", "Delete the object"], ["C", "Copy to next frame"], ["Alt + click", "Remove a corner, switch a joint"], ["Double-click", "New corner on an outline"], ["Q", "Next object"], ["Shift + click", "Select several"], ["H", "Hide, show"], ["J / U", "Merge / split at frame"]]],
  ["Track and review", [["T", "Track as set on the right"], ["Shift + T", "Track the other way"], ["X", "Stop"], ["I", "Interpolate"], ["N / Shift + N", "Next, previous doubtful frame"], ["A", "Accept what is seen"], ["Shift + A / X", "Accept, remove the tracked range"], ["?", "This list"]]],
];

export function showKeys() {
  return dialog("Keys", () => el("div", { class: "keys" }, KEYS.map(([title, keys]) =>
    el("section", {}, el("h3", {}, title), el("dl", {}, keys.map(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])))),
  el("p", { class: "dim" }, "On the timeline: diamonds are figures that you drew, colour from red to green is how sure tracking was, hatching means the object is not there, red marks are frames to look at. Ctrl + wheel zooms it.")), { wide: true });
}

