// What stands over the points: names of regions and items, the chosen item and its neighbours.

export const MOST_NAMED = 60; // items in view above which none but the marked ones are named
const GAP = 5; // pixels between two names

/**
 * Draw marks and names; a name that would cover another is left out, the weightier one stays. So is
 * one that would stand under what lies over the map. Rings come first, so that none crosses a name.
 * @param seen x and y in pixels of point i; view width, height, ratio; and
 *   labels as [text, x, y] in pixels, marks {chosen, near, under} as indexes (-1: none),
 *   covered boxes of what lies over the map, crowd indexes in view or null, names, colours {ink, soft, paper, tail}, isTail(i)
 */
export function draw(context, { view, seen, labels, marks, covered, crowd, names, colours, isTail }) {
  const { width, height, ratio } = view;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const write = writer(context, { colours, width, height, covered });
  if (marks.chosen >= 0) spokes(context, { seen, marks, colours });
  const chief = [marks.under, marks.chosen].filter((i) => i >= 0);
  const ringed = (i, radius) => ring(context, seen(i), { radius, colour: isTail(i) ? colours.tail : colours.ink });
  for (const i of marks.near) ringed(i, 4);
  for (const i of chief) ringed(i, 7);
  const named = (i, options) => {
    const [x, y] = seen(i);
    write(names[i], { x, y, beside: true, ...options });
  };
  for (const i of chief) named(i, { always: true, strong: true });
  for (const i of marks.near) named(i, {});
  for (const [text, x, y] of labels) write(text, { x, y, region: true });
  for (const i of crowd ?? []) named(i, { quiet: true });
}

function spokes(context, { seen, marks, colours }) {
  const [x, y] = seen(marks.chosen);
  context.lineWidth = 1;
  context.strokeStyle = colours.soft;
  context.globalAlpha = 0.35;
  context.beginPath();
  for (const i of marks.near) {
    context.moveTo(x, y);
    context.lineTo(...seen(i));
  }
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

/** A function that writes one name, unless it would cover another or leave the map. */
function writer(context, { colours, width, height, covered }) {
  const taken = covered.map(({ left, top, right, bottom }) => [left, top, right, bottom]);
  const style = getComputedStyle(context.canvas);
  const [plain, heading] = [style.getPropertyValue("--plain"), style.getPropertyValue("--serif")];
  context.lineJoin = "round";
  context.textBaseline = "middle";
  return (text, { x, y, beside, always, strong, region, quiet }) => {
    context.font = region ? `italic 600 16px ${heading}` : `${strong ? 600 : 400} 13px ${plain}`;
    const wide = context.measureText(text).width;
    const left = beside ? x + 10 : x - wide / 2;
    const box = [left - GAP, y - 9, left + wide + GAP, y + 9];
    const outside = box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height;
    const covers = taken.some((other) => box[0] < other[2] && other[0] < box[2]
      && box[1] < other[3] && other[1] < box[3]);
    if ((outside || covers) && !always) return;
    taken.push(box);
    context.lineWidth = 4;
    context.strokeStyle = colours.paper;
    context.strokeText(text, left, y);
    context.fillStyle = quiet ? colours.soft : colours.ink;
    context.fillText(text, left, y);
  };
}
