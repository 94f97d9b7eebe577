// Why one item is an answer: plain shares of what speaks for it, what the two have in common as
// sentences, and the numbers behind it for those who ask.

import { listAddress } from "./address.js";
import { element, named } from "./elements.js";
import { listing, number, phrase, text } from "./texts.js";

const NAMES = {
  relations: "sourceLinks", "genres and tags": "sourceTags", audio: "sourceAudio",
  listeners: "sourceListeners", region: "sourceRegion", popularity: "sourcePopularity",
};
const LEAST = 0.1; // share of what speaks for an answer, to be named in short

/** Name of a source as people say it. */
export const sourceName = (source) => (NAMES[source] ? text(NAMES[source]) : source.replaceAll("_", " "));

/** What speaks for an answer, as [source, share of all that does], the strongest first. */
function speaking({ contributions }) {
  const holding = contributions.filter((one) => one.share > 0).sort((a, b) => b.share - a.share);
  const whole = holding.reduce((sum, one) => sum + one.share, 0);
  return holding.map((one) => [one, one.share / whole]);
}

/** The sources that hold an answer up most, in a few words; "" if none does. */
export function inShort(why) {
  const chief = speaking(why).filter(([, share]) => share >= LEAST).slice(0, 2);
  if (!chief.length) return "";
  return text("because", { reasons: listing(chief.map(([one]) => sourceName(one.source))).join("") });
}

/** All reasons of one answer. */
export function reasons(why, { kind, a, b }) {
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

/** What is little known of an item, and what its answers rest on; null if nothing is lacking. */
export function gaps({ name, relations, listeners, tags, sources, silent }) {
  const known = relations || listeners || sources.length;
  const lacking = [
    !relations && text("lackLinks"),
    listeners === 0 && text("lackListeners"),
    ...silent.filter((one) => one !== "listeners" || listeners !== 0)
      .map((one) => text("lack", { what: sourceName(one) })),
  ].filter(Boolean);
  if (!known || (relations && !silent.length && listeners !== 0)) return null;
  const amounts = {
    audio: text("howItSounds"), listeners: text("listenerCount", { n: listeners ?? 0 }),
    "genres and tags": text("tagCount", { n: Math.max(tags.length, 1) }),
  };
  const rests = sources.map((one) => amounts[one] ?? sourceName(one));
  return element("p", { class: "unknown" },
    phrase("unknown", { name: named(name), lacking: listing(lacking) }), " ",
    rests.length > 0 && text("rests", { sources: listing(rests).join("") }));
}

export const strength = ({ confidence, score }, learned) => {
  if (confidence === 1) return text("linked");
  if (confidence !== null) return text("sure", { n: Math.round(100 * confidence) });
  return learned || score > 1 ? "" : text("alike", { n: number(Math.round(100 * Math.max(score, 0))) });
};
