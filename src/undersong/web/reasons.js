// Why one item is an answer, in short; and what is little known of an item.

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
export function speaking({ contributions }) {
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
