// The page: shows whatever the address says.

import { address, addressOf, chosen, follow, go, note, state } from "./address.js";
import { showItem } from "./card.js";
import { announce, byId, count, element, trouble } from "./elements.js";
import { makeMap } from "./map.js";
import { showReport } from "./report.js";
import { fillSearch, startSearch } from "./search.js";
import { ask, keepToken } from "./service.js";
import { showSound, startSound } from "./sound.js";
import { filterWords } from "./wishes.js";

let map = null;
let shown = ""; // the address without what changes nothing, so that small changes do not ask again

async function show() {
  const now = state();
  const item = chosen(now);
  const reported = now.page === "report";
  document.body.classList.toggle("carded", Boolean(item || now.heard));
  document.body.classList.toggle("reported", reported);
  byId("card").hidden = !(item || now.heard);
  byId("report").hidden = !reported;
  byId("desk").inert = byId("map").inert = reported;
  byId("to-report").hidden = reported;
  if (reported) return showReport();
  fillSearch(now);
  const kind = item?.kind ?? (now.kind || "artist");
  const drawn = showMap(kind);
  const before = shown;
  shown = address({ ...now, why: "", at: "", q: "" });
  if (shown === before) return;
  if (!item && !now.heard) {
    document.title = "undersong";
    takeFocus();
    await drawn;
    map?.select(null);
    map?.highlight("");
    if (now.at) map?.goTo(now.at);
    return;
  }
  const answers = item ? await showItem(item, { again }) : await showSound(now.heard);
  if (answers === null) return; // another address came in between
  await drawn;
  if (now.at) map?.goTo(now.at);
  map?.select(item?.id, answers, { stay: Boolean(now.at) });
  map?.highlight(now.genre);
  if (before && !byId("desk").contains(document.activeElement)) byId("card-name")?.focus();
}

/** On the first screen one types at once, unless a finger would call up a keyboard that way. */
function takeFocus() {
  const free = document.activeElement === document.body || byId("card").contains(document.activeElement);
  if (free && matchMedia("(pointer: fine)").matches) byId("asked").focus();
}

function again() {
  shown = "";
  show();
}

async function showMap(kind) {
  if (map?.kind === kind) return;
  try {
    const found = await ask("api/map", { kind });
    map = makeMap(found, { kind, open: (id) => go(addressOf({ kind, id })) });
    byId("map-note").hidden = true;
    welcome(found);
  } catch (error) {
    if (error.status === 401) return wantToken(error);
    byId("map-note").replaceChildren(trouble(error, error.status ? {} : { retry: again }));
    byId("map-note").hidden = false;
  }
}

function welcome({ count: items, long_tail: tail, hears }) {
  const lost = tail.reduce((sum, one) => sum + one, 0);
  const unlinked = lost === items; // a mark that all have would say nothing
  document.body.classList.toggle("unlinked", unlinked);
  byId("counts").replaceChildren(...(unlinked ? [`${count(items, map.kind)}; nobody has linked any of them.`] : [
    `${count(items, map.kind)}; ${lost.toLocaleString("en")} of them are `,
    element("span", { class: "tail" }, "long tail"),
    ": nobody has linked them yet.",
  ]));
  byId("pull").hidden = unlinked || !lost;
  byId("drop").hidden = !hears;
}

/** Offer tracks to search for, where the catalogue has some. */
async function offerKinds() {
  try {
    await filterWords("track");
    byId("kinds").hidden = false;
  } catch { /* artists alone */ }
}

function wantToken(error) {
  const box = element("input", { type: "password", name: "token", "aria-label": "Token", required: true });
  const form = element("form", { class: "token", onsubmit: (event) => {
    event.preventDefault();
    keepToken(box.value);
    location.reload();
  } }, trouble(error), box, element("button", {}, "Show it"));
  byId("map-note").replaceChildren(form);
  byId("map-note").hidden = false;
}

/** A token in the address is kept in this tab and taken out, so that nobody shares it. */
function takeToken() {
  const token = new URLSearchParams(location.search).get("token");
  if (!token) return;
  keepToken(token);
  note({});
}

takeToken();
startSearch();
startSound();
byId("pull").addEventListener("click", () => {
  const id = map.tail[Math.floor(Math.random() * map.tail.length)];
  go(addressOf({ kind: map.kind, id }));
});
byId("kinds").addEventListener("change", (event) => {
  go(address({ kind: event.target.value === "track" ? "track" : "" }));
  announce(`Searching ${event.target.value}s`);
});
follow(show);
offerKinds();
show();
