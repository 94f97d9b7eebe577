// Where the reader looks at the map from: place and zoom, and how they change.

import { byId } from "./elements.js";

const CLOSEST = 60; // times the whole map
const FARTHEST = 0.8;
const BEYOND = 1.1; // of the map, which is [-1, 1]: no farther from the middle
const FLIGHT = 350; // milliseconds
const HEAD = 44; // pixels of the top line
const FILLED = 0.48; // of the free area's shorter side, from the middle of the map to its edge

const ROOM = 0.72; // share of the free area that is filled, so that names have room beside it

const between = (low, value, high) => Math.min(high, Math.max(low, value));

/**
 * Make an eye that looks at all of the map.
 * @param moved called whenever it looks elsewhere; with true where the reader moved it
 */
export function makeEye(canvas, moved) {
  const eye = { x: 0, y: 0, zoom: 1 };
  let flight = 0;

  /** What is seen: sizes in pixels, and pixel = left + scale * x, top - scale * y. */
  function view() {
    const { clientWidth: width, clientHeight: height } = canvas;
    const free = freeArea(width, height);
    const scale = eye.zoom * Math.min(free.width, free.height) * FILLED;
    const left = free.left + free.width / 2 - scale * eye.x;
    const top = free.top + free.height / 2 + scale * eye.y;
    return { width, height, ratio: devicePixelRatio, scale, left, top, free, zoom: eye.zoom };
  }

  function look(x, y, zoom, byReader = false) {
    eye.zoom = between(FARTHEST, zoom, CLOSEST);
    eye.x = between(-BEYOND, x, BEYOND);
    eye.y = between(-BEYOND, y, BEYOND);
    moved(byReader);
  }

  /** Move to a place: at once if the reader wants no motion. */
  function fly(x, y, zoom) {
    cancelAnimationFrame(flight);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return look(x, y, zoom);
    const from = { ...eye };
    const start = performance.now();
    const step = (now) => {
      const share = between(0, (now - start) / FLIGHT, 1);
      const eased = 1 - (1 - share) ** 3;
      look(from.x + (x - from.x) * eased, from.y + (y - from.y) * eased,
        from.zoom * (zoom / from.zoom) ** eased);
      if (share < 1) flight = requestAnimationFrame(step);
    };
    flight = requestAnimationFrame(step);
  }

  /** Zoom so that what is under a pixel stays there. */
  function zoomAt(px, py, times) {
    cancelAnimationFrame(flight);
    const [x, y] = placeAt(view(), px, py);
    const zoom = between(FARTHEST, eye.zoom * times, CLOSEST);
    const kept = eye.zoom / zoom;
    look(x + (eye.x - x) * kept, y + (eye.y - y) * kept, zoom, true);
  }

  function pan(dx, dy) {
    cancelAnimationFrame(flight);
    const { scale } = view();
    look(eye.x - dx / scale, eye.y + dy / scale, eye.zoom, true);
  }

  /** Fly to where some places fit into what is free, not nearer than `most` times the whole. */
  function fit(places, most) {
    const { free } = view();
    const span = (at) => {
      const values = places.map((place) => place[at]);
      return [Math.min(...values), Math.max(...values)];
    };
    const [[west, east], [south, north]] = [span(0), span(1)];
    const whole = Math.min(free.width, free.height) * FILLED;
    const zoom = ROOM * Math.min(free.width / (east - west || 1e-9), free.height / (north - south || 1e-9)) / whole;
    fly((west + east) / 2, (south + north) / 2, between(FARTHEST, zoom, most));
  }

  /** Where it looks, as an address says it. */
  const said = () => [eye.x, eye.y, eye.zoom].map((value) => Number(value.toFixed(3))).join(",");

  return { view, look, fly, fit, zoomAt, pan, said };
}

/** Place on the map of a pixel. */
export const placeAt = ({ scale, left, top }, x, y) => [(x - left) / scale, (top - y) / scale];

/** What search, card and legend leave free of the map: beside them, or between them on a phone. */
function freeArea(width, height) {
  const desk = byId("desk").getBoundingClientRect();
  if (desk.width < 0.6 * width) {
    const legend = byId("legend").getBoundingClientRect();
    const below = legend.height && legend.left >= desk.right ? legend.top : height;
    return { left: desk.right, top: HEAD, width: width - desk.right, height: Math.max(below - HEAD, 80) };
  }
  const search = byId("search").getBoundingClientRect();
  const bottom = search.bottom || HEAD;
  const below = byId("card").hidden ? height : byId("card").getBoundingClientRect().top;
  return { left: 0, top: bottom, width, height: Math.max(below - bottom, 80) };
}
