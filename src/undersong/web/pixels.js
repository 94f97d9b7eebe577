// Points written pixel by pixel (points.js).

import { FAINT, shares } from "./points.js";

const LEVELS = 4; // of how much of a pixel a disc covers

/** Make the function that writes discs into an image: quicker than any canvas where no card helps. */
export function byPixel(context, points) {
  let image = null;
  return (view, look) => {
    const { width, height } = context.canvas;
    if (image?.width !== width || image.height !== height) image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(0);
    for (const { from, to, size, strength, faint } of look.groups) {
      const stamp = disc(size * view.ratio, width);
      const { reach } = stamp;
      const full = look.inks.map((colour) => inked(colour, strength));
      const pale = look.inks.map((colour) => inked(colour, strength * FAINT));
      for (let i = from; i < to; i++) {
        const x = Math.round(view.ratio * (view.left + view.scale * points.x[i]));
        const y = Math.round(view.ratio * (view.top - view.scale * points.y[i]));
        if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
        const out = !faint && (look.genre === -1 || points.genre[i] === look.genre);
        put(pixels, y * width + x, stamp, (out ? full : pale)[points.hue[i]]);
      }
    }
    context.putImageData(image, 0, 0);
  };
}

function put(pixels, at, { offsets, covers }, ink) {
  for (let k = 0; k < offsets.length; k++) {
    const place = at + offsets[k];
    pixels[place] = ink[covers[k] + (pixels[place] >>> 24)];
  }
}

/** The pixels of a disc around one: how far each is in the image, and where its inks begin. */
function disc(radius, width) {
  const reach = Math.ceil(radius);
  const offsets = [];
  const covers = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const cover = Math.min(LEVELS, Math.round(LEVELS * (radius - Math.hypot(x, y) + 0.5)));
      if (cover <= 0) continue;
      offsets.push(y * width + x);
      covers.push((cover - 1) * 256);
    }
  }
  return { reach, offsets: Int32Array.from(offsets), covers: Int32Array.from(covers) };
}

const tables = new Map(); // of what was asked for before

function inked(colour, strength) {
  const key = `${colour} ${strength.toFixed(2)}`;
  if (!tables.has(key)) tables.set(key, inks(colour, strength));
  return tables.get(key);
}

/** What a pixel becomes, as ABGR: for each level of cover and each alpha that it has before. */
function inks(colour, strength) {
  const [red, green, blue] = shares(colour).map((share) => Math.round(255 * share));
  return Uint32Array.from({ length: LEVELS * 256 }, (_, at) => {
    const cover = (strength * (Math.floor(at / 256) + 1)) / LEVELS;
    const alpha = Math.round((at % 256) + (255 - (at % 256)) * cover);
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}
