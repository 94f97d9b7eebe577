// The search: a combobox that suggests names while one types (ARIA 1.2 "list autocomplete").

import { address, addressOf, chosen, go, note, state } from "./address.js";
import { about } from "./answers.js";
import { announce, byId, element, named } from "./elements.js";
import { ask } from "./service.js";
import { text } from "./texts.js";

const SHOWN = 8;
const PATIENCE = 120; // milliseconds after a key, before the service is asked

const box = byId("asked");
const list = byId("suggestions");
let found = [];
let active = -1;
let asking = new AbortController();
let waiting = 0;
let described = false; // whether the service takes words as well as names
let combining = false; // whether the next choice joins what is open

/** The kind that is searched for. */
export const kind = () => new FormData(byId("search")).get("kind") ?? "artist";

/** Make the box work. */
export function startSearch() {
  box.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(suggest, PATIENCE);
  });
  box.addEventListener("keydown", press);
  addEventListener("keydown", jump);
  box.addEventListener("focus", () => found.length && open(true));
  box.addEventListener("blur", () => open(false));
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    if (active >= 0) choose(active);
    else if (box.value.trim()) suggest().then(() => choose(0));
  });
  // Without this the box would lose the focus, and the list close, before the click arrives.
  list.addEventListener("mousedown", (event) => event.preventDefault());
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) choose([...list.children].indexOf(option));
  });
}

/** Offer to ask in words as well. */
export function offerWords(able) {
  described = able;
}

/** Show what an address says was typed. */
export function fillSearch({ q, kind: wanted }) {
  for (const radio of document.querySelectorAll("#kinds input")) {
    radio.checked = radio.value === (wanted || "artist");
  }
  if (box.value === q) return;
  box.value = q;
  if (q) suggest();
  else empty();
}

async function suggest() {
  const typed = box.value.trim();
  asking.abort();
  note({ q: box.value });
  if (!typed) return empty();
  asking = new AbortController();
  try {
    const asked = { q: typed, kind: kind(), limit: SHOWN };
    const reply = await ask("api/search", asked, { signal: asking.signal });
    show(reply.items, typed);
  } catch (error) {
    if (error.name === "AbortError") return;
    empty();
    say(error.message);
  }
}

function show(items, typed) {
  const words = described && /\s|^.{4,}$/.test(typed) ? [{ words: typed }] : [];
  found = [...items, ...words];
  list.replaceChildren(...found.map(option));
  mark(-1);
  open(found.length > 0);
  say(items.length ? "" : text("nothingCalled", { text: typed }));
  announce(items.length ? text("nSuggestions", { n: items.length }) : "");
}

function option(item, at) {
  const place = { role: "option", id: `suggestion-${at}`, "aria-selected": "false" };
  if (item.words) return element("li", { ...place, class: "words" }, text("describe", { text: item.words }));
  return element(
    "li",
    place,
    named(item.name),
    element("span", { class: "about" }, about(item)),
    item.long_tail && element("span", { class: "tail" }, text("unlinked")),
  );
}

/** The key / leads to the search, from wherever it is not a letter. */
function jump(event) {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=range], [type=radio], [type=checkbox])") || byId("desk").inert) return;
  event.preventDefault();
  box.select();
  box.focus();
}

function press(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && found.length) {
    event.preventDefault();
    open(true);
    const places = found.length + 1; // one more: none of them, back in the box
    mark(((active + 1 + step + places) % places) - 1);
  } else if (event.key === "Escape") {
    event.preventDefault();
    if (list.hidden) {
      box.value = "";
      note({ q: "" });
      empty();
    } else open(false);
    combining = false;
    say("");
  }
}

function mark(at) {
  active = at;
  [...list.children].forEach((one, place) => one.setAttribute("aria-selected", place === at));
  list.children[at]?.scrollIntoView({ block: "nearest" });
  if (at < 0) box.removeAttribute("aria-activedescendant");
  else box.setAttribute("aria-activedescendant", `suggestion-${at}`);
}

function choose(at) {
  const item = found[at];
  if (!item) return;
  note({ q: "" });
  box.value = "";
  empty();
  box.blur();
  const now = state();
  const first = chosen(now);
  if (item.words) return go(address({ described: item.words, kind: now.kind }));
  const both = combining && first?.kind === item.kind && first.id !== item.id;
  combining = false;
  go(both ? address({ ...now, also: [...new Set([...now.also, item.id])], k: "", why: "" }) : addressOf(item));
}

/** Let the next name that is chosen join the item that is open. */
export function startCombining() {
  combining = true;
  box.focus();
  say(text("combining"));
  announce(text("combining"));
}

function empty() {
  found = [];
  list.replaceChildren();
  mark(-1);
  open(false);
  say("");
}

function open(wanted) {
  list.hidden = !wanted;
  box.setAttribute("aria-expanded", String(wanted));
}

function say(sentence) {
  byId("search-note").textContent = sentence;
  byId("search-note").hidden = !sentence;
}
