// The map of everything: what is where, and how one moves in it.

import { note } from "./address.js";
import { cells } from "./cells.js";
import { MOST_NAMED, draw } from "./drawing.js";
import { announce, byId, count } from "./elements.js";
import { makeEye, placeAt } from "./eye.js";
import { drawer } from "./points.js";
import { listen } from "./pointers.js";

const REACH = 12; // pixels from a point that still mean it
const STEP = 1.5; // zoom of one key or button
const PACE = 60; // pixels of one arrow key
const NEAR = 4; // zoom at which an item is shown among its neighbours
const EDGE = 60; // pixels from the edge of what is free: nearer to it is not well in view
const REST = 300; // milliseconds without a move, until the address says where one looks
const COVERING = "search, #card, body > header > *, .zoom"; // what lies over the map
const ARROWS = {
  ArrowLeft: [PACE, 0], ArrowRight: [-PACE, 0], ArrowUp: [0, PACE], ArrowDown: [0, -PACE],
};

/**
 * Show a map.
 * @param found as /api/map gives it
 * @param open called with the id of an item that was clicked
 * @returns kind, tail (ids of the long tail), select, goTo and highlight
 */
export function makeMap(found, { kind, open }) {
  const canvas = fresh("points");
  const points = sorted(found);
  const place = new Map(points.ids.map((id, i) => [id, i]));
  const near = cells(points.x, points.y);
  const marks = { chosen: -1, near: [], under: -1, genre: -1 };
  const redraw = picture(canvas, { points, near, marks, labels: found.labels, view: () => eye.view() });
  let resting = 0;
  const eye = makeEye(canvas, () => {
    redraw();
    clearTimeout(resting);
    resting = setTimeout(() => note({ at: eye.said() }), REST);
  });

  const pixel = ({ scale, left, top }, i) => [left + scale * points.x[i], top - scale * points.y[i]];
  const under = (x, y, reach = REACH) => (
    near.nearest(...placeAt(eye.view(), x, y), reach / eye.view().scale));

  function point(i) {
    if (i === marks.under) return;
    marks.under = i;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    redraw();
  }

  function inView(i) {
    const view = eye.view();
    const [x, y] = pixel(view, i);
    const { left, top, width, height } = view.free;
    return view.zoom >= NEAR / 2 && x > left + EDGE && y > top + EDGE
      && x < left + width - EDGE && y < top + height - EDGE;
  }

  canvas.dataset.count = points.ids.length;
  canvas.setAttribute("aria-label", `Map of ${count(points.ids.length, kind)}`);
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && marks.under >= 0) return open(points.ids[marks.under]);
    if (!steer(eye, event.key)) return;
    event.preventDefault();
    point(under(...middle(eye), Infinity));
    if (marks.under >= 0) announce(`${points.names[marks.under]} in the middle`);
  });
  listen(canvas, {
    pan: eye.pan,
    zoomAt: eye.zoomAt,
    point: (x, y) => point(under(x, y)),
    leave: () => point(-1),
    tap: (x, y) => {
      const i = under(x, y);
      if (i >= 0) open(points.ids[i]);
    },
  });
  for (const [id, key] of [["closer", "+"], ["farther", "-"], ["whole", "0"]]) {
    byId(id).onclick = () => steer(eye, key);
  }
  redraw();

  return {
    kind,
    tail: points.ids.slice(points.tail),
    /** Mark an item and its answers; go there unless it is well in view, or the reader stays. */
    select(id, others = [], { stay = false } = {}) {
      marks.chosen = place.get(id) ?? -1;
      marks.near = others.map((one) => place.get(one)).filter((i) => i !== undefined);
      if (marks.chosen >= 0 && !stay && !inView(marks.chosen)) {
        const zoom = Math.max(eye.view().zoom, NEAR);
        eye.fly(points.x[marks.chosen], points.y[marks.chosen], zoom);
      }
      redraw();
    },
    /** Go where an address says: "x,y,zoom". */
    goTo(at) {
      const numbers = at.split(",").map(Number);
      if (numbers.length === 3 && numbers.every(Number.isFinite)) eye.look(...numbers);
    },
    /** Let one genre stand out; "" for all. */
    highlight(name) {
      marks.genre = found.genres.indexOf(name);
      redraw();
    },
  };
}

/** Do what a key means; false if it means nothing here. */
function steer(eye, key) {
  if (ARROWS[key]) eye.pan(...ARROWS[key]);
  else if (key === "+" || key === "=") eye.zoomAt(...middle(eye), STEP);
  else if (key === "-") eye.zoomAt(...middle(eye), 1 / STEP);
  else if (key === "0") eye.fly(0, 0, 1);
  else return false;
  return true;
}

function middle(eye) {
  const { left, top, width, height } = eye.view().free;
  return [left + width / 2, top + height / 2];
}

/** A function that draws the map anew, at most once a frame; it is also called when sizes or colours change. */
function picture(canvas, { points, near, marks, labels, view }) {
  const over = byId("drawing");
  const paint = drawer(canvas, points);
  const context = over.getContext("2d");
  const sparse = Math.sqrt(6000 / Math.max(points.ids.length, 1));
  const ending = new AbortController();
  let colours = readColours();
  let waiting = 0;

  function frame() {
    waiting = 0;
    if (!canvas.isConnected) return ending.abort(); // another map has taken its place
    const now = view();
    for (const one of [canvas, over]) {
      const [wide, high] = [now.width, now.height].map((x) => Math.round(x * now.ratio));
      if (one.width !== wide || one.height !== high) [one.width, one.height] = [wide, high];
    }
    const size = Math.min(1.1 + sparse, 2.6) * Math.min(now.zoom ** 0.4, 2.6);
    paint(now, { size, genre: marks.genre, ink: colours.point, tail: colours.tail });
    const pixel = (x, y) => [now.left + now.scale * x, now.top - now.scale * y];
    const [[west, north], [east, south]] = [placeAt(now, 0, 0), placeAt(now, now.width, now.height)];
    draw(context, {
      view: now,
      seen: (i) => pixel(points.x[i], points.y[i]),
      labels: labels.map((one) => [one.text, ...pixel(one.x, one.y)]),
      marks,
      covered: [...document.querySelectorAll(COVERING)].map((one) => one.getBoundingClientRect()),
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

  const sizes = new ResizeObserver(redraw);
  sizes.observe(canvas);
  const cards = new MutationObserver(redraw);
  cards.observe(document.body, { attributeFilter: ["class"] });
  ending.signal.addEventListener("abort", () => {
    sizes.disconnect();
    cards.disconnect();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    colours = readColours();
    redraw();
  }, ending);
  return redraw;
}

/** The points, long tail last so that it lies on top. */
function sorted({ ids, names, x, y, genre, long_tail: tail }) {
  const order = [...ids.keys()].sort((a, b) => tail[a] - tail[b]);
  const pick = (values) => order.map((i) => values[i]);
  // Where all are long tail, the colour would say nothing.
  const first = tail.every(Boolean) ? -1 : order.findIndex((i) => tail[i]);
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

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const named = ["ink", "soft", "paper", "tail", "point"];
  return Object.fromEntries(named.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
