// Small plots: numbers in, one picture out.

import { element } from "./elements.js";
import { text } from "./texts.js";

const WIDE = 160;
const HIGH = 18;

/** Three digits without the zero before the point, as tables of metrics have them. */
export function digits(value) {
  const written = Math.abs(value) < 10 ? value.toFixed(3) : value.toFixed(1);
  return written.replace(/^(-?)0\./, "$1.").replace("-", "−");
}

/** A value and its interval on a line from low to high; ours is filled. */
export function interval({ value, low, high }, { from, to, ours, tail = false }) {
  const x = (at) => (6 + ((WIDE - 12) * (at - from)) / (to - from || 1)).toFixed(1);
  const middle = HIGH / 2;
  return element(
    "svg",
    { class: `interval${ours ? " ours" : ""}${tail ? " of-tail" : ""}`, viewBox: `0 0 ${WIDE} ${HIGH}`,
      width: WIDE, height: HIGH, "aria-hidden": "true" },
    element("line", { class: "base", x1: x(from), x2: x(to), y1: middle, y2: middle }),
    low === null ? null : element("line", { class: "whisker", x1: x(low), x2: x(high), y1: middle, y2: middle }),
    element("circle", { cx: x(value), cy: middle, r: 4 }),
  );
}

/**
 * How often answers of a confidence are right. Roots on both axes, as most answers are unsure.
 * @param rows mean confidence, share that was right, number of answers
 */
export function reliability(rows) {
  const size = 260;
  const most = Math.max(...rows.map(([sure, right]) => Math.max(sure, right))) * 1.08;
  const largest = Math.max(...rows.map(([, , n]) => n));
  const x = (value) => (40 + (size - 55) * Math.sqrt(value / most)).toFixed(1);
  const y = (value) => (size - 35 - (size - 50) * Math.sqrt(value / most)).toFixed(1);
  const ticks = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1].filter((value) => value <= most);
  const percent = (value) => `${value < 0.01 && value > 0 ? (100 * value).toFixed(1) : Math.round(100 * value)} %`;
  const all = rows.map(([sure, right]) => text("sureRight", { sure: percent(sure), right: percent(right) })).join("; ");
  return element(
    "svg",
    { class: "plot", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `${all}.` },
    ticks.map((tick) => [
      element("line", { class: "grid", x1: x(tick), x2: x(tick), y1: y(0), y2: y(most) }),
      element("line", { class: "grid", y1: y(tick), y2: y(tick), x1: x(0), x2: x(most) }),
      element("text", { x: x(tick), y: size - 20, "text-anchor": "middle" }, percent(tick)),
      element("text", { x: 34, y: Number(y(tick)) + 4, "text-anchor": "end" }, percent(tick)),
    ]).flat(),
    element("line", { class: "guide", x1: x(0), y1: y(0), x2: x(most), y2: y(most) }),
    rows.map(([sure, right, n]) => element("circle",
      { cx: x(sure), cy: y(right), r: 3 + 6 * Math.sqrt(n / largest) },
      element("title", {}, text("discTitle", { n, sure: percent(sure), right: percent(right) })))),
    element("text", { x: (40 + size - 15) / 2, y: size - 4, "text-anchor": "middle" }, text("howSure")),
    element("text", { x: 40, y: 9, "text-anchor": "start" }, text("howRight")),
  );
}
