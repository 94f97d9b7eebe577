// Why one item is an answer: each source as a bar that begins where the one before ended, so that
// anyone can see them add up to the score; then what the two have in common, as sentences.

import { element, trouble } from "./elements.js";

const WHOSE = {
  asked: "known of the first alone", answered: "known of the second alone", neither: "none is known",
};

const readable = (source) => source.replaceAll("_", " ");
/** +0.120 or −0.120; without a sign where it rounds to nothing. */
function signed(value) {
  const digits = Math.abs(value).toFixed(3);
  return Number(digits) ? `${value < 0 ? "−" : "+"}${digits}` : digits;
}

/** The sources that hold an answer up most, in a few words; "" if none does. */
export function inShort({ contributions }) {
  const holding = contributions.filter((part) => part.share > 0);
  holding.sort((a, b) => b.share - a.share);
  return holding.slice(0, 2).map((part) => readable(part.source)).join(", ");
}

/** All reasons of one answer. */
export function reasons(why) {
  return element(
    "div",
    { class: "reasons" },
    sums(why),
    element("ul", {}, why.sentences.map((text) => element("li", {}, text))),
    why.unknown.map((text) => element("p", { class: "unknown" }, text)),
  );
}

/** Say that there are none, and why. */
export const noReasons = (text) => element("div", { class: "reasons" }, trouble({ message: text }));

function sums({ start, contributions, score }) {
  const rows = [{ name: "a pair of which nothing is known", from: 0, to: start }];
  let reached = start;
  for (const { source, share, known_of: whose } of contributions) {
    rows.push({ name: readable(source), note: WHOSE[whose], from: reached, to: reached + share });
    reached += share;
  }
  rows.push({ name: "score", from: 0, to: score, whole: true });
  const ends = rows.flatMap((row) => [row.from, row.to]);
  const low = Math.min(0, ...ends);
  const wide = Math.max(0, ...ends) - low || 1;
  const share = (value) => `${(100 * (value - low)) / wide}%`;
  return element(
    "table",
    { class: "sums" },
    element("caption", { class: "unseen" }, "What each source adds to the score"),
    rows.map(({ name, note, from, to, whole }) => element(
      "tr",
      whole ? { class: "whole" } : {},
      element("th", { scope: "row" }, name, note ? element("small", {}, note) : null),
      element("td", { class: "bar", "aria-hidden": "true" }, element("span", {
        class: to < from ? "against" : null,
        style: { left: share(Math.min(from, to)), width: `${(100 * Math.abs(to - from)) / wide}%` },
      })),
      element("td", { class: "number" }, whole ? to.toFixed(3) : signed(to - from)),
    )),
  );
}
