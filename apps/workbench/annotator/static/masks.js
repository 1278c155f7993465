// Masks as Supervisely keeps them (base64 of a zlib stream of a PNG), as pictures that can be drawn and painted on.

async function through(stream, bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

const toBytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function toText(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

// A canvas of the mask's own size: white where the mask is, clear elsewhere.
export async function decode(data) {
  const png = await through(new DecompressionStream("deflate"), toBytes(data));
  const bitmap = await createImageBitmap(new Blob([png], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const image = context.getImageData(0, 0, canvas.width, canvas.height), pixels = image.data;
  let clear = false;
  for (let at = 3; at < pixels.length; at += 4) if (pixels[at] < 128) { clear = true; break; }
  for (let at = 0; at < pixels.length; at += 4) {
    // a PNG without transparency says it with black and white
    const inside = clear ? pixels[at + 3] >= 128 : pixels[at] > 0;
    pixels[at] = pixels[at + 1] = pixels[at + 2] = 255;
    pixels[at + 3] = inside ? 255 : 0;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// The geometry of what is painted on a canvas of the whole picture; null when nothing is.
export async function encode(canvas) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const pixels = context.getImageData(0, 0, width, height).data;
  let x1 = width, y1 = height, x2 = -1, y2 = -1;
  for (let y = 0, at = 3; y < height; y++)
    for (let x = 0; x < width; x++, at += 4)
      if (pixels[at] >= 128) { if (x < x1) x1 = x; if (x > x2) x2 = x; if (y < y1) y1 = y; y2 = y; }
  if (x2 < 0) return null;
  const cut = new OffscreenCanvas(x2 - x1 + 1, y2 - y1 + 1), own = cut.getContext("2d");
  const image = own.createImageData(cut.width, cut.height);
  for (let y = 0; y < cut.height; y++)
    for (let x = 0; x < cut.width; x++) {
      const inside = pixels[((y + y1) * width + x + x1) * 4 + 3] >= 128, at = (y * cut.width + x) * 4;
      image.data[at] = image.data[at + 1] = image.data[at + 2] = inside ? 255 : 0;
      image.data[at + 3] = inside ? 255 : 0;
    }
  own.putImageData(image, 0, 0);
  const png = new Uint8Array(await (await cut.convertToBlob({ type: "image/png" })).arrayBuffer());
  return { bitmap: { origin: [x1, y1], data: toText(await through(new CompressionStream("deflate"), png)) } };
}

// The decoded mask of a figure, when it is there; asks for it otherwise and calls ready when it came.
export function pictureOf(figure, ready) {
  if (figure.picture === undefined) {
    figure.picture = null;
    decode(figure.geometry.bitmap.data).then((canvas) => { figure.picture = canvas; ready(); }, () => { figure.picture = null; });
  }
  return figure.picture;
}

const tinted = new WeakMap();
export function tint(canvas, color) {
  const known = tinted.get(canvas);
  if (known?.color === color) return known.made;
  const made = new OffscreenCanvas(canvas.width, canvas.height), context = made.getContext("2d");
  context.drawImage(canvas, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = color;
  context.fillRect(0, 0, made.width, made.height);
  tinted.set(canvas, { color, made });
  return made;
}
// A rim of one pixel around the mask, one pixel larger on every side.
const rims = new WeakMap();
export function rim(canvas, color) {
  const known = rims.get(canvas);
  if (known?.color === color) return known.made;
  const made = new OffscreenCanvas(canvas.width + 2, canvas.height + 2), context = made.getContext("2d"), picture = tint(canvas, color);
  for (const [x, y] of [[0, 1], [2, 1], [1, 0], [1, 2]]) context.drawImage(picture, x, y);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(canvas, 1, 1);
  rims.set(canvas, { color, made });
  return made;
}
export const untint = (canvas) => tinted.delete(canvas);
