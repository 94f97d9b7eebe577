// Why one item is an answer to another: plain shares of what speaks for it, what the two have in
// common as sentences, and the numbers behind it for those who ask.

import { address, listAddress, state } from "./address.js";
import { element, named } from "./elements.js";
import { sourceName, speaking } from "./reasons.js";
import { listing, phrase, text } from "./texts.js";

/** All reasons of one answer, and where one can go on from it. */
export const whyParts = (of, item, why) => (
  [why && reasons(why, { kind: item.kind, a: of.name, b: item.name }), further(of, item)].filter(Boolean));

function reasons(why, { kind, a, b }) {
  const only = { asked: () => text("knownAsked", { name: a }), answered: () => text("knownAnswered", { name: b }) };
  return element(
    "div",
    { class: "reasons" },
    element(
      "table",
      { class: "shares" },
      element("caption", {}, text("shares")),
      element("tbody", {}, speaking(why).filter(([, share]) => share >= 0.005).map(([one, share]) => element(
        "tr",
        {},
        element("th", { scope: "row" }, sourceName(one.source),
          only[one.known_of] && element("small", {}, only[one.known_of]())),
        element("td", { class: "bar", "aria-hidden": "true" },
          element("span", { style: { width: `${100 * share}%` } })),
        element("td", { class: "number" }, `${Math.round(100 * share)} %`),
      ))),
    ),
    element("ul", {}, sentences(why.common, kind).map((one) => element("li", {}, one))),
    why.unknown.map((one) => element("p", { class: "unknown", lang: "en" }, one)),
    numbers(why),
  );
}

function sentences(common, kind) {
  const more = (all, list) => (all > list.length ? [text("nMore", { n: all - list.length })] : []);
  const { through, tags, tracks, of } = common;
  return [
    common.related_by && text("statedBy", { who: common.related_by.replaceAll("_", " ") }),
    common.relations_shared > 0 && phrase("bothLinked", {
      names: listing([...through.map(named), ...more(common.relations_shared, through)]),
    }),
    common.tags_shared > 0 && phrase("tagsInCommon", {
      tags: listing([...tags.map(({ tag, items }) => element("span", {},
        element("a", { href: listAddress(kind, { tag }) }, tag), ` ${text("tagOf", { n: items })}`)),
      ...more(common.tags_shared, tags)]),
    }),
    common.listeners_shared > 0 && of[0] && of[1]
      && text("sameListeners", { n: common.listeners_shared, a: of[0], b: of[1] }),
    tracks && phrase("closestTracks", { a: named(tracks.asked_title), b: named(tracks.answered_title) }),
  ].filter(Boolean);
}

/** +0.120 or −0.120; without a sign where it rounds to nothing. */
function signed(value) {
  const digits = Math.abs(value).toFixed(3);
  return Number(digits) ? `${value < 0 ? "−" : "+"}${digits}` : digits;
}

function numbers({ start, contributions, score }) {
  const rows = [
    [text("starting"), signed(start)],
    ...contributions.map((one) => [sourceName(one.source), signed(one.share)]),
    [text("score"), score.toFixed(3)],
  ];
  return element("details", {}, element("summary", {}, text("details")), element(
    "table",
    { class: "sums" },
    element("tbody", {}, rows.map(([name, value]) => element("tr", {},
      element("th", { scope: "row" }, name), element("td", { class: "number" }, value)))),
  ));
}

/** Where one can go on from an item and one of its answers. */
function further(of, item) {
  const now = state();
  const own = { [of.kind]: of.id, kind: now.kind };
  return element("p", { class: "further" },
    element("a", { href: address({ ...own, also: [...new Set([...now.also, item.id])] }) }, text("toBoth")),
    element("a", { href: address({ ...own, path: item.id }) },
      phrase("path", { a: named(of.name), b: named(item.name) })));
}
