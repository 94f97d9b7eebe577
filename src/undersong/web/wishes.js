// What somebody wishes of the answers: how deep to dig, how far to trust links, and filters.

import { address, go, state, WISHES } from "./address.js";
import { element } from "./elements.js";
import { ask } from "./service.js";

const FIRST_DECADE = 1900;

/** Wishes of a state as the parameters of the API. */
export function wishes({ genre, region, from, to, unlinked, dig, tail, k }) {
  return {
    genre, region,
    decade_from: from, decade_to: to,
    max_popularity: dig && String(Number((1 - dig).toFixed(2))),
    long_tail: tail,
    only_unlinked: unlinked && "true",
    k: k || "20",
  };
}

const words = new Map(); // kind -> what its filters may say, asked once

/** Genres and regions that filters of a kind may say. */
export function filterWords(kind) {
  if (!words.has(kind)) {
    const asked = Promise.all([ask("api/genres", { kind }), ask("api/regions", { kind })]);
    words.set(kind, asked.then(([first, second]) => (
      { genres: first.genres, regions: second.regions })));
    asked.catch(() => words.delete(kind));
  }
  return words.get(kind);
}

/**
 * The controls, as the address sets them; each change is a step to a new address. Without a
 * learned order there is no long tail to wish for: answers are by cosine, whoever is linked.
 */
export function controls({ genres, regions }, { learned }) {
  const now = state();
  const set = WISHES.filter((key) => now[key]);
  const hidden = [now.genre, now.region, now.from, now.to, now.unlinked].filter(Boolean).length;
  const change = (key) => (event) => go(address({ ...state(), [key]: event.target.value, k: "", why: "" }));
  return element(
    "form",
    { class: "wishes", "aria-label": "Wishes", onsubmit: (event) => event.preventDefault() },
    dial({ ...DIG, now }),
    learned ? dial({ ...TAIL, now }) : null,
    element(
      "details",
      hidden ? { open: true } : {},
      element("summary", {}, hidden ? `Filters (${hidden})` : "Filters"),
      element(
        "div",
        { class: "filters" },
        genres.length ? pick("Genre", genres, now.genre, change("genre")) : null,
        regions.length ? pick("Region", regions, now.region, change("region")) : null,
        pick("From", decades(), now.from, change("from")),
        pick("To", decades(), now.to, change("to")),
        learned ? tick("Only what nobody has linked", now.unlinked, change("unlinked")) : null,
      ),
    ),
    set.length ? element("button", { type: "button", onclick: clearWishes }, "Clear all wishes") : null,
  );
}

/** Take every wish back. */
export function clearWishes() {
  const none = Object.fromEntries(WISHES.map((key) => [key, ""]));
  go(address({ ...state(), ...none, k: "", why: "" }));
}

const dug = (share) => (share > 0 ? `${Math.round(100 * (1 - share))} % least known` : "everyone");
const forgot = (share) => {
  if (share > 0) return `links ${Math.round(100 * share)} % forgotten`;
  return share < 0 ? `${Math.round(-100 * share)} % as lists do` : "fair";
};

const DIG = {
  key: "dig", name: "Dig deeper", least: 0, most: 0.95, ends: ["everyone", "least known"], said: dug,
};
const TAIL = {
  key: "tail", name: "Long tail", least: -1, most: 1, said: forgot,
  ends: ["as lists do", "as if nobody were linked"],
  help: "Left, those that nobody has linked stand last, as on most lists. In the middle nobody is "
    + "pushed up or down. Right, links do not count: only sound, words and plays do.",
};

function dial({ key, name, least, most, ends, now, said, help }) {
  const told = element("output", {}, said(Number(now[key])));
  const slider = element("input", {
    type: "range", min: least, max: most, step: 0.05, name: key, "aria-label": name,
    "aria-valuetext": said(Number(now[key])), "aria-describedby": help ? `${key}-help` : null,
    oninput: () => {
      told.textContent = said(Number(slider.value));
      slider.setAttribute("aria-valuetext", told.textContent);
    },
    onchange: () => {
      const value = Number(slider.value) ? slider.value : "";
      go(address({ ...state(), [key]: value, k: "", why: "" }));
    },
  });
  slider.value = now[key] || 0;
  return element(
    "label",
    { class: "dial" },
    element("span", { class: key === "tail" ? "tail" : null }, name),
    told,
    slider,
    element("small", { "aria-hidden": "true" }, ends[0]),
    element("small", { "aria-hidden": "true" }, ends[1]),
    help ? element("small", { id: `${key}-help`, class: "help" }, help) : null,
  );
}

function tick(name, now, onchange) {
  const box = element("input", {
    type: "checkbox", name: "unlinked", checked: Boolean(now),
    onchange: () => onchange({ target: { value: box.checked ? "true" : "" } }),
  });
  return element("label", { class: "tick" }, box, name);
}

function pick(name, choices, now, onchange) {
  const known = choices.map(String);
  // An address may say what no longer exists: shown as it stands, so that it can be taken back.
  const all = now && !known.includes(now) ? [now, ...known] : known;
  return element(
    "label",
    {},
    element("span", {}, name),
    element("select", { onchange, name: name.toLowerCase() },
      element("option", { value: "" }, "any"),
      all.map((one) => element("option", { value: one, selected: one === now }, one))),
  );
}

function decades() {
  const last = Math.floor(new Date().getFullYear() / 10) * 10;
  return Array.from({ length: (last - FIRST_DECADE) / 10 + 1 }, (_, i) => last - 10 * i);
}
