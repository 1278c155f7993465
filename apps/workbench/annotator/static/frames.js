// Pictures of frames: fetched ahead in the direction of travel, decoded off the main thread, kept up to a bound.

const BYTES = 320 << 20, AT_ONCE = 4, AHEAD = 10, BEHIND = 3;
const WIDTHS = [480, 640, 960, 1280, 1600, 1920, 2560, 3840];

export class Frames {
  constructor(video, arrived) {
    this.video = video;
    this.arrived = arrived; // called with (frame, bitmap) for each that comes
    this.cache = new Map(); // frame -> {bitmap, width}; the latest used last
    this.bytes = 0;
    this.running = new Map(); // frame -> AbortController
    this.failed = new Map(); // frame -> number of attempts
    this.at = 0;
    this.step = 1;
    this.width = 1280;
    this.jumping = false;
    this.alone = false;
    this.closed = false;
  }

  // How wide pictures must be for that many pixels on the screen.
  fit(pixels) {
    const width = WIDTHS.find((w) => w >= pixels * 0.9) ?? 0;
    this.width = width >= this.video.width || width === 0 ? 0 : width;
  }

  get(frame) {
    const found = this.cache.get(frame);
    if (!found) return null;
    this.cache.delete(frame);
    this.cache.set(frame, found);
    return found.bitmap;
  }

  sharp(frame) { return this.cache.get(frame)?.width === this.width; }

  // Here is the person now, going that way (frames per step, negative for back). alone: no others will be looked at soon.
  move(frame, step, alone = false) {
    this.at = frame;
    this.alone = alone;
    const far = Math.abs(step) > 16;
    if (step) this.step = far ? Math.sign(step) : step;
    this.jumping = far && !this.cache.has(frame);
    // An aborted request is still worked on by the server. While somebody drags through a video those in flight are let
    // be, and the next waits for one of them: the server never has more to do than is looked at.
    if (!this.jumping) {
      const wanted = new Set(this.wanted());
      for (const [index, running] of this.running) if (!wanted.has(index)) { running.abort(); this.running.delete(index); }
    }
    this.pump();
  }

  *wanted() {
    const last = this.video.frames - 1;
    yield this.at;
    if (this.jumping || this.alone) return; // first the picture that is looked at, then those around it
    const ahead = Math.abs(this.step) > 4 ? 4 : AHEAD;
    for (let n = 1; n <= ahead; n++) { const f = this.at + n * this.step; if (f >= 0 && f <= last) yield f; }
    for (let n = 1; n <= BEHIND; n++) { const f = this.at - n * this.step; if (f >= 0 && f <= last) yield f; }
  }

  pump() {
    for (const frame of this.wanted()) {
      if (this.running.size >= (this.jumping ? 2 : AT_ONCE) || this.closed) return;
      if (this.running.has(frame) || this.sharp(frame) || (this.failed.get(frame) ?? 0) > 2) continue;
      this.fetch(frame);
    }
  }

  async fetch(frame) {
    const control = new AbortController(), width = this.width;
    this.running.set(frame, control);
    try {
      const url = `/workbench/videos/${this.video.id}/frames/${frame}?format=jpeg&width=${width}`;
      const reply = await fetch(url, { signal: control.signal, priority: frame === this.at ? "high" : "low" });
      if (!reply.ok) throw new Error(String(reply.status));
      const bitmap = await createImageBitmap(await reply.blob());
      if (this.closed) return bitmap.close();
      this.keep(frame, bitmap, width);
      if (frame === this.at) this.jumping = false;
      this.arrived(frame, bitmap);
    } catch {
      if (!control.signal.aborted) {
        if (frame === this.at) this.jumping = false;
        this.failed.set(frame, (this.failed.get(frame) ?? 0) + 1);
        if (frame === this.at) this.arrived(frame, null);
      }
    } finally {
      if (this.running.get(frame) === control) this.running.delete(frame);
      this.pump();
    }
  }

  keep(frame, bitmap, width) {
    const old = this.cache.get(frame);
    if (old) { this.bytes -= old.bytes; old.bitmap.close(); this.cache.delete(frame); }
    const bytes = bitmap.width * bitmap.height * 4;
    this.cache.set(frame, { bitmap, width, bytes });
    this.bytes += bytes;
    for (const [index, entry] of this.cache) {
      if (this.bytes <= BYTES) break;
      if (index === this.at || index === frame) continue;
      entry.bitmap.close();
      this.bytes -= entry.bytes;
      this.cache.delete(index);
    }
  }

  retry() { this.failed.clear(); this.pump(); }

  close() {
    this.closed = true;
    for (const control of this.running.values()) control.abort();
    for (const entry of this.cache.values()) entry.bitmap.close();
    this.cache.clear();
  }
}
