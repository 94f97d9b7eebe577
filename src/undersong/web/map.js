// The map of everything: what is where, and how one moves in it.

import { note } from "./address.js";
import { cells } from "./cells.js";
import { makeDrawing } from "./drawing.js";
import { announce, button, byId, element } from "./elements.js";
import { makeEye, placeAt } from "./eye.js";
import { MOST_INKS, drawer } from "./points.js";
import { listen } from "./pointers.js";
import { count, text } from "./texts.js";

const REACH = 12; // pixels from a point that still mean it
const STEP = 1.5; // zoom of one key or button
const PACE = 60; // pixels of one arrow key
const NEAREST = 24; // zoom that is near enough for an item and its answers
const FITTED = 0.8; // share of the answers, the nearest on the map, that the view holds
const REST = 300; // milliseconds without a move, until the address says where one looks
const GENRES = MOST_INKS - 2; // that have a tint; ink 0 is for all others, the last for the long tail
const TAIL = MOST_INKS - 1;
const COVERING = "search, #card, #private, #player, #legend, body > header > *, body > header nav > *, .zoom"; // what lies over the map
const ARROWS = {
  ArrowLeft: [PACE, 0], ArrowRight: [-PACE, 0], ArrowUp: [0, PACE], ArrowDown: [0, -PACE],
};

/**
 * Show a map.
 * @param found as /api/map gives it
 * @param open called with the id of an item that was clicked
 * @returns kind, select, goTo and highlight
 */
export function makeMap(found, { kind, open }) {
  const canvas = fresh("points");
  const tinted = commonest(found);
  const points = sorted(found, tinted);
  const place = new Map(points.ids.map((id, i) => [id, i]));
  const near = cells(points.x, points.y);
  const marks = { chosen: -1, near: [], chain: false, under: -1, genre: -1, tail: false };
  const redraw = picture(canvas, { points, marks, labels: found.labels, view: () => eye.view() });
  let resting = 0;
  const eye = makeEye(canvas, (byReader) => {
    redraw();
    clearTimeout(resting);
    if (byReader) resting = setTimeout(() => note({ at: eye.said() }), REST);
  });

  const under = (x, y, reach = REACH) => (
    near.nearest(...placeAt(eye.view(), x, y), reach / eye.view().scale));

  function point(i) {
    if (i === marks.under) return;
    marks.under = i;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    redraw();
  }

  canvas.dataset.count = points.ids.length;
  canvas.setAttribute("aria-label", text("mapOf", { n: count(points.ids.length, kind) }));
  canvas.addEventListener("blur", () => point(-1));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && marks.under >= 0) return open(points.ids[marks.under]);
    if (event.ctrlKey || event.metaKey || event.altKey || !steer(eye, event.key)) return;
    event.preventDefault();
    point(under(...middle(eye), Infinity));
    if (marks.under >= 0) announce(text("inTheMiddle", { name: points.names[marks.under] }));
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
  const legend = makeLegend({ found, tinted, tail: points.tail > 0, marks, redraw });
  redraw();

  return {
    kind,
    /** Mark an item and its answers, and hold them in view, unless the reader stays where he is. */
    select(id, others = [], { stay = false, chain = false } = {}) {
      const before = JSON.stringify([marks.chosen, marks.near]);
      marks.chosen = place.get(id) ?? -1;
      marks.near = others.map((one) => place.get(one)).filter((i) => i !== undefined);
      marks.chain = chain;
      redraw();
      if (stay || before === JSON.stringify([marks.chosen, marks.near])) return;
      if (marks.chosen < 0 && !marks.near.length) return;
      const heart = marks.chosen < 0 ? marks.near[0] : marks.chosen;
      const far = (i) => Math.hypot(points.x[i] - points.x[heart], points.y[i] - points.y[heart]);
      const close = [...marks.near].sort((a, b) => far(a) - far(b));
      const held = [heart, ...(chain ? close : close.slice(0, Math.ceil(FITTED * close.length)))];
      eye.fit(held.map((i) => [points.x[i], points.y[i]]), NEAREST);
    },
    /** Go where an address says: "x,y,zoom". */
    goTo(at) {
      const numbers = at.split(",").map(Number);
      if (numbers.length === 3 && numbers.every(Number.isFinite)) eye.look(...numbers);
    },
    /** Let one genre stand out; "" for all. */
    highlight(name) {
      marks.genre = found.genres.indexOf(name);
      legend();
      redraw();
    },
  };
}

/** Do what a key means; false if it means nothing here. */
function steer(eye, key) {
  if (ARROWS[key]) eye.pan(...ARROWS[key]);
  else if (key === "+" || key === "=") eye.zoomAt(...middle(eye), STEP);
  else if (key === "-") eye.zoomAt(...middle(eye), 1 / STEP);
  else if (key === "0") {
    note({ at: "" });
    eye.fly(0, 0, 1);
  } else return false;
  return true;
}

function middle(eye) {
  const { left, top, width, height } = eye.view().free;
  return [left + width / 2, top + height / 2];
}

/** What the colours mean; each entry lets its points stand out. A function that shows which does. */
function makeLegend({ found, tinted, tail, marks, redraw }) {
  const entries = tinted.map((genre, at) => [found.genres[genre], `--hue-${at + 1}`, { genre, tail: false }]);
  if (tail) entries.unshift([text("unlinked"), "--tail", { genre: -1, tail: true }]);
  const stands = (wanted) => wanted.genre === marks.genre && wanted.tail === marks.tail;
  const buttons = entries.map(([name, ink, wanted]) => button([
    element("span", { class: "dot", style: { background: `var(${ink})` } }), name,
  ], () => {
    Object.assign(marks, stands(wanted) ? { genre: -1, tail: false } : wanted);
    draw();
    redraw();
  }));
  const draw = () => buttons.forEach((one, at) => one.setAttribute("aria-pressed", String(stands(entries[at][2]))));
  draw();
  const wide = matchMedia("(min-width: 48.01rem)").matches;
  byId("legend").replaceChildren(element("details", { open: wide, ontoggle: redraw },
    element("summary", {}, text("legend")), element("div", {}, buttons)));
  byId("legend").hidden = !entries.length;
  return draw;
}

/** A function that draws the map anew, at most once a frame; it is also called when sizes or colours change. */
function picture(canvas, { points, marks, labels, view }) {
  let paint = null;
  drawer(canvas, points).then((made) => {
    paint = made;
    redraw();
  });
  const over = byId("drawing");
  const write = makeDrawing(over.getContext("2d"), points);
  const sparse = Math.sqrt(6000 / Math.max(points.ids.length, 1));
  const ending = new AbortController();
  let colours = readColours();
  let waiting = 0;

  function frame() {
    waiting = 0;
    if (!paint) return;
    if (!canvas.isConnected) return ending.abort(); // another map has taken its place
    const now = view();
    for (const one of [canvas, over]) {
      const [wide, high] = [now.width, now.height].map((x) => Math.round(x * now.ratio));
      if (one.width !== wide || one.height !== high) [one.width, one.height] = [wide, high];
    }
    const size = Math.min(1.1 + sparse, 2.6) * Math.min(now.zoom ** 0.4, 2.6);
    const near = Math.min(now.zoom / 8, 1); // from afar the long tail lies below, smaller and paler
    const alone = marks.tail;
    paint(now, {
      inks: colours.inks,
      genre: marks.genre,
      groups: [
        { from: 0, to: points.tail, size: size * (alone ? 1.1 : 0.7 + 0.3 * near), strength: alone ? 0.9 : 0.5 + 0.35 * near },
        { from: points.tail, to: points.ids.length, size, strength: 0.75, faint: alone },
      ],
    });
    const pixel = (x, y) => [now.left + now.scale * x, now.top - now.scale * y];
    write({
      view: now,
      seen: (i) => pixel(points.x[i], points.y[i]),
      labels: labels.map((one) => [one.text, ...pixel(one.x, one.y), one.zoom ?? 1]),
      marks,
      covered: [...document.querySelectorAll(COVERING)].map((one) => one.getBoundingClientRect()).filter((box) => box.width),
      colours,
      isTail: (i) => i < points.tail,
    });
    canvas.dataset.lens = [now.scale, now.left, now.top].join(" ");
  }

  function redraw() {
    waiting ||= requestAnimationFrame(frame);
  }

  const sizes = new ResizeObserver(redraw);
  for (const one of [canvas, byId("desk"), byId("player")]) sizes.observe(one);
  const cards = new MutationObserver(redraw);
  for (const one of [document.body, byId("card")]) cards.observe(one, { attributeFilter: ["class"] });
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

/** Numbers of the commonest genres, those that have a tint, the commonest first. */
function commonest({ genre, genres }) {
  const items = genres.map(() => 0);
  for (const one of genre) if (one >= 0) items[one]++;
  return [...genres.keys()].filter((one) => items[one]).sort((a, b) => items[b] - items[a]).slice(0, GENRES);
}

/** The points in the order in which they are drawn: the long tail below, the best known on top. */
function sorted({ ids, names, x, y, genre, long_tail: lost }, tinted) {
  // Where all are long tail, the colour would say nothing.
  const tail = lost.every(Boolean) ? lost.map(() => 0) : lost;
  const drawn = [...ids.keys()].reverse().sort((a, b) => tail[b] - tail[a]);
  const pick = (values) => drawn.map((i) => values[i]);
  const inks = new Map(tinted.map((one, at) => [one, at + 1]));
  const at = new Int32Array(ids.length);
  drawn.forEach((i, position) => {
    at[i] = position;
  });
  return {
    ids: pick(ids),
    names: pick(names),
    x: Float32Array.from(pick(x)),
    y: Float32Array.from(pick(y)),
    genre: pick(genre),
    hue: Uint8Array.from(drawn, (i) => (tail[i] ? TAIL : inks.get(genre[i]) ?? 0)),
    tail: tail.reduce((sum, one) => sum + one, 0),
    order: at,
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
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const named = Object.fromEntries(["ink", "soft", "paper", "tail"].map((name) => [name, read(name)]));
  const hues = Array.from({ length: GENRES }, (_, at) => read(`hue-${at + 1}`));
  return { ...named, inks: [read("point"), ...hues, named.tail] };
}
