// A list of items as rows: each with its place, how strong an answer it is and why, and what one
// can do with it.

import { addressOf, note, state } from "./address.js";
import { button, element, named } from "./elements.js";
import { playButton } from "./player.js";
import { addButton } from "./playlist.js";
import { inShort, strength } from "./reasons.js";
import { listing, phrase, place, text } from "./texts.js";

/** What is told of an item wherever it is listed, with countries by their names. */
export const about = (item) => (item.kind === "track" ? item.about
  : item.about.split(", ").map(place).join(", "));

/**
 * Rows of items.
 * @param rows as the service lists them: item, media and maybe rank, reasons, confidence, score, seeds
 * @param of the item that they are answers to, or null; seeds names by id, of several
 */
export function answerList(rows, { of = null, seeds = null, learned = false, hints = "" } = {}) {
  const playable = rows.filter((row) => row.media).map((row) => row.item);
  return element("ol", { class: "answers" }, rows.map((row, at) => (
    answer({ rank: at + 1, ...row }, { of, seeds, learned, playable, hints }))));
}

function answer(row, { of, seeds, learned, playable }) {
  const { rank, item, reasons: why } = row;
  const id = `why-${rank}`;
  const panel = element("div", { id, hidden: true, class: "panel" });
  const opener = of && button(why ? text("why") : text("moreOf"), () => {
    open(panel.hidden);
    note({ why: panel.hidden ? "" : item.id });
  }, {
    class: "why", "aria-expanded": "false", "aria-controls": id,
    label: text(why ? "whyName" : "moreName", { name: item.name }),
  });
  async function open(wanted) {
    panel.hidden = !wanted;
    opener.setAttribute("aria-expanded", String(wanted));
    const { whyParts } = await import("./why.js");
    if (!panel.childNodes.length) panel.append(...whyParts(of, item, why));
  }
  if (of && state().why === item.id) open(true);
  const because = seeds && row.seeds
    ? phrase("from", { names: listing(row.seeds.map((one) => named(seeds.get(one) ?? one))) })
    : why && inShort(why);
  const strong = row.note ?? (row.score === undefined ? "" : strength(row, learned));
  return element(
    "li",
    { class: item.long_tail ? "is-tail" : null, "data-id": item.id },
    element("span", { class: "rank", "aria-hidden": "true" }, rank),
    element(
      "div",
      { class: "what" },
      element("a", { href: addressOf(item) }, named(item.name)),
      item.long_tail && element("span", { class: "tail" }, text("unlinked")),
      element("p", { class: "about" }, named(about(item))),
      (strong || because) && element("p", { class: "about because" },
        strong && element("span", { class: "sure" }, strong), strong && because ? " · " : "", because),
    ),
    element("div", { class: "deeds" }, row.media && playButton(item, playable), addButton({ ...item, media: row.media }), opener),
    panel,
  );
}
