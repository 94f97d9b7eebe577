// What stands over the points: names of regions and items, the chosen item and its neighbours.

const GAP = 5; // pixels between two names
const AREA = 17_000; // square pixels of the map, for each item that is named
const LOOKED = 2500; // items in view that are tried, the best known first
const LONGEST = 240; // pixels of a name
const SIZES = [[12, 12.5], [6, 13.5], [3, 14.5], [0, 16.5]]; // of regions: from which zoom, in pixels

/**
 * Make the function that draws marks and names. A name that would cover another is left out, the
 * weightier one stays; so is one that would stand under what lies over the map. Rings come first,
 * so that none crosses a name.
 * @param names of the points; order: their indexes, the best known first
 */
export function makeDrawing(context, { names, order }) {
  const widths = new Map(); // font and text -> the text, cut to LONGEST, and its width

  function measure(font, text) {
    const key = font + text;
    if (!widths.has(key)) {
      context.font = font;
      let shown = text;
      while (context.measureText(shown).width > LONGEST) shown = `${shown.slice(0, Math.floor(shown.length * 0.9) - 1)}…`;
      if (widths.size > 20_000) widths.clear();
      widths.set(key, [shown, context.measureText(shown).width]);
    }
    return widths.get(key);
  }

  /**
   * @param seen x and y in pixels of point i; view width, height, ratio, zoom; labels as [text, x,
   *   y, zoom] in pixels; marks {chosen, near, under, chain} as indexes (-1: none); covered boxes of
   *   what lies over the map; colours {ink, soft, paper, tail}; isTail(i)
   */
  return ({ view, seen, labels, marks, covered, colours, isTail }) => {
    const { width, height, ratio } = view;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const write = writer(context, { colours, width, height, covered, measure });
    lines(context, { seen, marks, colours });
    const chief = [marks.under, marks.chosen].filter((i) => i >= 0);
    const ringed = (i, radius) => ring(context, seen(i), { radius, colour: isTail(i) ? colours.tail : colours.ink });
    for (const i of marks.near) ringed(i, 4);
    for (const i of chief) ringed(i, 7);
    const named = (i, options) => write(names[i], ...seen(i), options);
    for (const i of chief) named(i, { always: true, strong: true });
    for (const i of marks.near) named(i, {});
    const written = new Set();
    for (const [text, x, y, zoom] of labels) {
      if (zoom > view.zoom * 1.25 || written.has(text)) continue;
      const [, size] = SIZES.find(([from]) => zoom >= from);
      if (write(text, x, y, { size })) written.add(text);
    }
    let left = Math.round((view.free.width * view.free.height) / AREA);
    let tried = 0;
    for (let at = 0; at < order.length && left > 0 && tried < LOOKED; at++) {
      const [x, y] = seen(order[at]);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      tried++;
      if (write(names[order[at]], x, y, { quiet: true })) left--;
    }
  };
}

/** From the chosen item to each answer; along a path from each to the next. */
function lines(context, { seen, marks, colours }) {
  if (marks.chosen < 0 && !marks.chain) return;
  context.lineWidth = marks.chain ? 2 : 1;
  context.strokeStyle = colours.soft;
  context.globalAlpha = marks.chain ? 0.7 : 0.3;
  context.beginPath();
  marks.near.forEach((i, at) => {
    if (!marks.chain) context.moveTo(...seen(marks.chosen));
    if (marks.chain && !at) context.moveTo(...seen(i));
    else context.lineTo(...seen(i));
  });
  context.stroke();
  context.globalAlpha = 1;
}

function ring(context, [x, y], { radius, colour }) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.lineWidth = 1.75;
  context.strokeStyle = colour;
  context.stroke();
}

/** A function that writes one name and returns true, unless it would cover another or leave the map. */
function writer(context, { colours, width, height, covered, measure }) {
  const taken = covered.map(({ left, top, right, bottom }) => [left, top, right, bottom]);
  const style = getComputedStyle(context.canvas);
  const [plain, heading] = [style.getPropertyValue("--plain"), style.getPropertyValue("--serif")];
  context.lineJoin = "round";
  context.textBaseline = "middle";
  return (text, x, y, { always, strong, size, quiet }) => {
    const font = size ? `italic 600 ${size}px ${heading}` : `${strong ? 600 : 400} ${quiet ? 12 : 13}px ${plain}`;
    const room = quiet ? 2 * GAP : GAP;
    const boxed = (left, wide) => [left - room, y - 8 - room / 2, left + wide + room, y + 8 + room / 2];
    // Without its width first: most are too near to a name that is there already.
    if (quiet && hit(taken, boxed(x + 9, 12))) return false;
    const [shown, wide] = measure(font, text);
    let left = size ? x - wide / 2 : x + 9;
    if (!size && left + wide + GAP > width) left = x - 9 - wide;
    if (always) left = Math.max(GAP, left);
    const box = boxed(left, wide);
    const outside = left < 0 || y < 8 || left + wide > width || y > height - 8;
    if ((outside || hit(taken, box)) && !always) return false;
    taken.push(box);
    context.font = font;
    context.lineWidth = 3.5;
    context.strokeStyle = colours.paper;
    context.strokeText(shown, left, y);
    context.fillStyle = quiet ? colours.soft : colours.ink;
    context.fillText(shown, left, y);
    return true;
  };
}

const hit = (taken, box) => taken.some((other) => (
  box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]));
