// What somebody wishes of the answers: how deep to dig, how far to trust links, and filters.

import { address, go, state, WISHES } from "./address.js";
import { element } from "./elements.js";
import { ask } from "./service.js";

const FIRST_DECADE = 1900;

/** Wishes of a state as the parameters of the API. */
export function wishes({ genre, region, from, to, dig, tail, k }) {
  return {
    genre, region,
    decade_from: from, decade_to: to,
    max_popularity: dig && String(Number((1 - dig).toFixed(2))),
    long_tail: tail,
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

/** The controls, as the address sets them; each change is a step to a new address. */
export function controls({ genres, regions }) {
  const now = state();
  const set = WISHES.filter((key) => now[key]);
  const hidden = [now.genre, now.region, now.from, now.to].filter(Boolean).length;
  const change = (key) => (event) => go(address({ ...state(), [key]: event.target.value, k: "", why: "" }));
  return element(
    "form",
    { class: "wishes", "aria-label": "Wishes", onsubmit: (event) => event.preventDefault() },
    dial({ key: "dig", name: "Dig deeper", ends: ["everyone", "least known"], now, said: dug }),
    dial({ key: "tail", name: "Long tail", ends: ["as lists do", "nobody linked"], now, said: forgot }),
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

function dial({ key, name, ends, now, said }) {
  const told = element("output", {}, said(Number(now[key])));
  const slider = element("input", {
    type: "range", min: 0, max: 0.95, step: 0.05, name: key, "aria-label": name,
    "aria-valuetext": said(Number(now[key])),
    oninput: () => {
      told.textContent = said(Number(slider.value));
      slider.setAttribute("aria-valuetext", told.textContent);
    },
    onchange: () => {
      const value = Number(slider.value) ? slider.value : "";
      go(address({ ...state(), [key]: value, k: "", why: "" }));
    },
  });
  if (key === "tail") [slider.min, slider.max] = [-1, 1];
  slider.value = now[key] || 0;
  return element(
    "label",
    { class: "dial" },
    element("span", { class: key === "tail" ? "tail" : null }, name),
    told,
    slider,
    element("small", { "aria-hidden": "true" }, ends[0]),
    element("small", { "aria-hidden": "true" }, ends[1]),
  );
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
