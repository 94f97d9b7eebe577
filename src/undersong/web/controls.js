// What tunes the answers: dials and filters. Each is drawn only where it can do something, and made
// once for an item, so that focus and place survive every turn.

import { FILTERS, TUNED, reset, state, tune } from "./address.js";
import { button, element } from "./elements.js";
import { ask } from "./service.js";
import { place, text } from "./texts.js";

const FIRST_DECADE = 1900;

/** What a state asks for, as the parameters of the API. */
export function parameters({ genre, region, from, to, unlinked, dig, tail, variety, one, k, also }) {
  return {
    genre, region, also,
    decade_from: from, decade_to: to,
    max_popularity: dig && String(Number((1 - dig).toFixed(2))),
    long_tail: tail, diversity: variety,
    per_artist: one && "1", only_unlinked: unlinked && "true",
    k: k || "20",
  };
}

const words = new Map(); // kind -> what its filters may say, asked once

/** Genres and regions that filters of a kind may say. */
export function filterWords(kind) {
  if (!words.has(kind)) {
    const asked = Promise.all([ask("api/genres", { kind }), ask("api/regions", { kind })])
      .then(([{ genres }, { regions }]) => ({ genres, regions }));
    words.set(kind, asked);
    asked.catch(() => words.delete(kind));
  }
  return words.get(kind);
}

const percent = (share) => Math.round(100 * share);
const DIALS = {
  dig: { least: 0, most: 0.95, label: (x) => (x > 0 ? text("leastKnown", { n: percent(1 - x) }) : text("everyone")) },
  tail: {
    least: -1, most: 1, ends: ["asLists", "asIf"],
    label: (x) => text(x > 0 ? "tailMore" : x < 0 ? "tailLess" : "fair", { n: percent(Math.abs(x)) }),
  },
  variety: { least: 0, most: 1, label: (x) => (x > 0 ? text("share", { n: percent(x) }) : text("off")) },
};

/**
 * The controls of an item, as the address sets them, and a function that sets them anew.
 * @param can learned: whether an order was learned, else there are no links to ignore; ranked:
 *   whether any popularity is known
 */
export function controls(kind, { genres, regions }, can) {
  const set = [];
  const add = (made, update) => {
    set.push(update);
    return made;
  };
  const clear = button(text("reset"), reset);
  const made = element(
    "form",
    { class: "controls", "aria-label": text("controls"), onsubmit: (event) => event.preventDefault() },
    can.ranked && dial("dig", add),
    can.learned && dial("tail", add),
    dial("variety", add),
    element(
      "div",
      { class: "filters" },
      genres.length > 0 && pick("genre", genres.map((one) => [one, one]), add),
      regions.length > 0 && pick("region", regions.map((one) => [one, place(one)]), add),
      can.dated && pick("since", decades(), add, "from"),
      can.dated && pick("until", decades(), add, "to"),
      can.learned && tick("onlyUnlinked", "unlinked", "true", add),
      kind === "track" && tick("onePerArtist", "one", "1", add),
    ),
    clear,
  );
  const update = (now) => {
    for (const one of set) one(now);
    clear.hidden = !TUNED.some((key) => now[key]);
  };
  update(state());
  return { made, update };
}

/** How many of them are set. */
export const tuned = (now) => TUNED.filter((key) => now[key]).length;
export const filtered = (now) => [...FILTERS, "dig"].some((key) => now[key]);

function dial(key, add) {
  const { least, most, label, ends } = DIALS[key];
  const output = element("span", { class: "value" });
  const slider = element("input", {
    type: "range", min: least, max: most, step: 0.05, name: key, "aria-label": text(key),
    "aria-describedby": `${key}-help`,
    oninput: () => say(Number(slider.value)),
    onchange: () => tune({ [key]: Number(slider.value) ? slider.value : "" }),
  });
  const say = (value) => {
    output.textContent = label(value);
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  return add(element(
    "label",
    { class: "dial" },
    element("span", { class: key === "tail" ? "tail" : null }, text(key)),
    output,
    slider,
    ends && ends.map((end) => element("small", { "aria-hidden": "true" }, text(end))),
    element("small", { id: `${key}-help`, class: "help" }, text(`${key}Help`)),
  ), (now) => {
    slider.value = now[key] || 0;
    say(Number(slider.value));
  });
}

function tick(label, key, on, add) {
  const box = element("input", { type: "checkbox", name: key, onchange: () => tune({ [key]: box.checked ? on : "" }) });
  return add(element("label", { class: "tick" }, box, text(label)), (now) => {
    box.checked = Boolean(now[key]);
  });
}

function pick(label, choices, add, key = label) {
  const select = element("select", { name: key, onchange: () => tune({ [key]: select.value }) });
  return add(element("label", {}, element("span", {}, text(label)), select), (now) => {
    // An address may name what no longer exists: shown as it stands, so that it can be taken back.
    const missing = now[key] && !choices.some(([value]) => value === now[key]);
    const all = [["", text("any")], ...(missing ? [[now[key], now[key]]] : []), ...choices];
    if (select.options.length !== all.length) {
      select.replaceChildren(...all.map(([value, name]) => element("option", { value }, name)));
    }
    select.value = now[key];
  });
}

function decades() {
  const last = Math.floor(new Date().getFullYear() / 10) * 10;
  return Array.from({ length: (last - FIRST_DECADE) / 10 + 1 }, (_, i) => String(last - 10 * i))
    .map((year) => [year, text("decade", { year })]);
}
