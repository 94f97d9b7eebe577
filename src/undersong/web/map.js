// The map of everything: what is where, and how one moves in it.

import { note } from "./address.js";
import { cells } from "./cells.js";
import { MOST_NAMED, draw } from "./drawing.js";
import { announce, byId, count } from "./elements.js";
import { drawer } from "./points.js";

const REACH = 12; // pixels from a point that still mean it
const CLOSEST = 60; // times the whole map
const STEP = 1.5; // zoom of one key or button
const FLIGHT = 350; // milliseconds
const EDGE = 60; // pixels from the edge of what is free: nearer to it is not well in view
const KEYS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
};

/**
 * Show a map.
 * @param found as /api/map gives it
 * @param open called with the id of an item that was clicked
 * @returns select(id, others), highlight(genre), and lookups
 */
export function makeMap(found, { kind, open }) {
  const canvas = fresh("points");
  const over = byId("drawing");
  const points = sorted(found);
  const place = new Map(points.ids.map((id, i) => [id, i]));
  const near = cells(points.x, points.y);
  const paint = drawer(canvas, points);
  const context = over.getContext("2d");
  const eye = { x: 0, y: 0, zoom: 1 };
  const marks = { chosen: -1, near: [], under: -1 };
  let genre = -1;
  let colours = readColours();
  let waiting = 0;
  let flight = 0;

  canvas.dataset.count = points.ids.length;
  canvas.setAttribute("aria-label", `Map of ${count(points.ids.length, kind)}`);

  function view() {
    const { clientWidth: width, clientHeight: height } = canvas;
    const free = freeArea(width, height);
    const scale = eye.zoom * Math.min(free.width, free.height) * 0.48;
    const left = free.left + free.width / 2 - scale * eye.x;
    const top = free.top + free.height / 2 + scale * eye.y;
    return { width, height, ratio: devicePixelRatio, scale, left, top, free };
  }

  const back = ({ scale, left, top }, x, y) => [(x - left) / scale, (top - y) / scale];

  function frame() {
    waiting = 0;
    const now = view();
    for (const one of [canvas, over]) {
      const [wide, high] = [now.width, now.height].map((x) => Math.round(x * now.ratio));
      if (one.width !== wide || one.height !== high) [one.width, one.height] = [wide, high];
    }
    const sparse = Math.sqrt(6000 / Math.max(points.ids.length, 1));
    const size = Math.min(1.1 + sparse, 2.6) * Math.min(eye.zoom ** 0.4, 2.6);
    paint(now, { size, genre, ink: colours.numbers.point, tail: colours.numbers.tail });
    const [west, north] = back(now, 0, 0);
    const [east, south] = back(now, now.width, now.height);
    draw(context, {
      view: now,
      seen: (i) => [now.left + now.scale * points.x[i], now.top - now.scale * points.y[i]],
      labels: found.labels.map(({ text, x, y }) => (
        { text, x: now.left + now.scale * x, y: now.top - now.scale * y })),
      marks,
      crowd: near.within({ west, east, south, north }, MOST_NAMED),
      names: points.names,
      colours,
      isTail: (i) => i >= points.tail,
    });
    canvas.dataset.lens = [now.scale, now.left, now.top].join(" ");
  }

  function redraw() {
    waiting ||= requestAnimationFrame(frame);
  }

  function look(x, y, zoom) {
    eye.zoom = Math.min(CLOSEST, Math.max(0.8, zoom));
    eye.x = Math.min(1.1, Math.max(-1.1, x));
    eye.y = Math.min(1.1, Math.max(-1.1, y));
    redraw();
    clearTimeout(look.noting);
    look.noting = setTimeout(() => note({ at: shortened(eye) }), 300);
  }

  /** Move to a place: at once if the reader wants no motion. */
  function fly(x, y, zoom) {
    cancelAnimationFrame(flight);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return look(x, y, zoom);
    const from = { ...eye };
    const start = performance.now();
    const step = (now) => {
      const share = Math.min(1, Math.max(0, (now - start) / FLIGHT));
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
    const [x, y] = back(view(), px, py);
    const zoom = Math.min(CLOSEST, Math.max(0.8, eye.zoom * times));
    const kept = eye.zoom / zoom;
    look(x + (eye.x - x) * kept, y + (eye.y - y) * kept, zoom);
  }

  function pan(dx, dy) {
    cancelAnimationFrame(flight);
    const { scale } = view();
    look(eye.x - dx / scale, eye.y + dy / scale, eye.zoom);
  }

  function under(px, py, reach = REACH) {
    const now = view();
    return near.nearest(...back(now, px, py), reach / now.scale);
  }

  function inView(i) {
    const { scale, left, top, free } = view();
    const [x, y] = [left + scale * points.x[i] - free.left, top - scale * points.y[i] - free.top];
    return eye.zoom >= 2 && x > EDGE && y > EDGE && x < free.width - EDGE && y < free.height - EDGE;
  }

  function point(i) {
    if (i === marks.under) return;
    marks.under = i;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    redraw();
  }

  function press(event) {
    const step = KEYS[event.key];
    const { free } = view();
    const middle = [free.left + free.width / 2, free.top + free.height / 2];
    if (step) pan(-step[0] * 60, step[1] * 60);
    else if (event.key === "+" || event.key === "=") zoomAt(...middle, STEP);
    else if (event.key === "-") zoomAt(...middle, 1 / STEP);
    else if (event.key === "0") fly(0, 0, 1);
    else if (event.key === "Enter" && marks.under >= 0) return open(points.ids[marks.under]);
    else return;
    event.preventDefault();
    point(under(...middle, Infinity));
    if (marks.under >= 0) announce(`${points.names[marks.under]} in the middle`);
  }

  listenToPointers(canvas, { pan, zoomAt, point: (x, y) => point(under(x, y)), leave: () => point(-1),
    tap: (x, y) => {
      const i = under(x, y);
      if (i >= 0) open(points.ids[i]);
    } });
  canvas.addEventListener("keydown", press);
  canvas.addEventListener("blur", () => point(-1));
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  byId("closer").onclick = () => zoomAt(...middle(), STEP);
  byId("farther").onclick = () => zoomAt(...middle(), 1 / STEP);
  byId("whole").onclick = () => fly(0, 0, 1);
  new ResizeObserver(redraw).observe(canvas);
  new MutationObserver(redraw).observe(document.body, { attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = readColours();
    redraw();
  });
  redraw();

  return {
    kind,
    tail: points.ids.slice(points.tail),
    /** Mark an item and its answers; go there unless it is well in view, or the reader stays. */
    select(id, others = [], { stay = false } = {}) {
      marks.chosen = place.get(id) ?? -1;
      marks.near = others.map((one) => place.get(one)).filter((i) => i !== undefined);
      if (marks.chosen >= 0 && !stay && !inView(marks.chosen)) {
        fly(points.x[marks.chosen], points.y[marks.chosen], Math.max(eye.zoom, 4));
      }
      redraw();
    },
    /** Go where an address says: "x,y,zoom". */
    goTo(at) {
      const [x, y, zoom] = at.split(",").map(Number);
      if ([x, y, zoom].every(Number.isFinite)) look(x, y, zoom);
    },
    /** Let one genre stand out; "" for all. */
    highlight(name) {
      genre = found.genres.indexOf(name);
      redraw();
    },
  };
}

/** The points, long tail last so that it lies on top. */
function sorted({ ids, names, x, y, genre, long_tail: tail }) {
  const order = [...ids.keys()].sort((a, b) => tail[a] - tail[b]);
  const pick = (values) => order.map((i) => values[i]);
  const first = order.findIndex((i) => tail[i]);
  return {
    ids: pick(ids),
    names: pick(names),
    x: Float32Array.from(pick(x)),
    y: Float32Array.from(pick(y)),
    genre: pick(genre),
    tail: first < 0 ? ids.length : first,
  };
}

/** A canvas that nothing was drawn on and nobody listens to, in the place of the one there. */
function fresh(id) {
  const old = byId(id);
  const made = old.cloneNode();
  old.replaceWith(made);
  return made;
}

/** What search and card leave free of the map: beside them, or between them on a phone. */
function freeArea(width, height) {
  const desk = byId("desk").getBoundingClientRect();
  if (desk.width < 0.6 * width) {
    return { left: desk.right, top: 0, width: width - desk.right, height };
  }
  const search = byId("search").getBoundingClientRect();
  const below = byId("card").hidden ? height : byId("card").getBoundingClientRect().top;
  return { left: 0, top: search.bottom, width, height: Math.max(below - search.bottom, 80) };
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const said = (name) => style.getPropertyValue(`--${name}`).trim();
  const named = ["ink", "soft", "paper", "tail", "point"].map((name) => [name, said(name)]);
  const numbers = named.map(([name, colour]) => [
    name, [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255),
  ]);
  return { ...Object.fromEntries(named), numbers: Object.fromEntries(numbers) };
}

const shortened = ({ x, y, zoom }) => [x, y, zoom].map((v) => Number(v.toFixed(3))).join(",");

/** Turn wheel, mouse, pen and fingers into moves of the map. */
function listenToPointers(canvas, { pan, zoomAt, point, leave, tap }) {
  const down = new Map();
  let moved = 0;
  const spread = () => {
    const [a, b] = [...down.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) };
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    zoomAt(event.offsetX, event.offsetY, Math.exp(-Math.max(-240, Math.min(240, pixels)) / 400));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = down.size > 1 ? Infinity : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = down.get(event.pointerId);
    const here = { x: event.offsetX, y: event.offsetY };
    if (!last) return point(here.x, here.y);
    const before = down.size === 2 ? spread() : null;
    down.set(event.pointerId, here);
    moved += Math.hypot(here.x - last.x, here.y - last.y);
    if (before) {
      const after = spread();
      pan(after.x - before.x, after.y - before.y);
      zoomAt(after.x, after.y, after.far / Math.max(before.far, 1));
    } else if (moved > 4) pan(here.x - last.x, here.y - last.y);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (down.delete(event.pointerId) && moved <= 4) tap(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointerleave", leave);
}
