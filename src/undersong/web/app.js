// The page: shows whatever the address names.

import { address, addressOf, chosen, follow, go, listAddress, note, state } from "./address.js";
import { showCard, startCard } from "./card.js";
import { filterWords } from "./controls.js";
import { announce, button, byId, element, trouble } from "./elements.js";
import { makeMap } from "./map.js";
import { startPlayer } from "./player.js";
import { startPlaylist } from "./playlist.js";
import { fillSearch, offerWords, startSearch } from "./search.js";
import { ask, keepToken, token } from "./service.js";
import { showSound, startSound } from "./sound.js";
import { count, language, phrase, readTexts, text, turnLanguage } from "./texts.js";

const found = new Map(); // kind -> what /api/map replied
let map = null;
let shown = null; // the address without what changes nothing, so that small changes do not ask again
let last = null; // the item that was shown

async function show({ back = false } = {}) {
  const now = state();
  const item = chosen(now);
  const reported = now.page === "report";
  const carded = Boolean(item || now.heard || now.described || now.list || now.page === "playlist");
  document.body.classList.toggle("carded", carded);
  document.body.classList.toggle("reported", reported);
  byId("card").hidden = !carded;
  byId("report").hidden = !reported;
  byId("desk").inert = byId("map").inert = reported;
  for (const [id, here] of [["to-report", reported], ["to-playlist", now.page === "playlist"]]) {
    if (here) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  fillSearch(now);
  const drawn = showMap(item?.kind ?? (now.list || now.kind || "artist"));
  const before = shown;
  shown = address({ ...now, why: "", at: "", q: "" });
  if (reported) return (await import("./report.js")).showReport(again).catch(refuse);
  if (shown === before && now.page !== "playlist") return;
  if (!carded) {
    document.title = "undersong";
    takeFocus();
    await drawn;
    map?.select(null);
    map?.highlight("");
    if (now.at) map?.goTo(now.at);
    return;
  }
  const gone = last;
  const card = await (now.heard ? showSound(now.heard) : showCard(now, { item, again, back })).catch(refuse);
  if (!card) return; // another address came in between, or a token is wanted
  last = card.item;
  const rows = [...byId("card").querySelectorAll(".answers > li")];
  const left = back && gone && rows.find((row) => row.dataset.id === gone.id);
  if (before !== null && !byId("desk").contains(document.activeElement) && !byId("player").contains(document.activeElement)) {
    (left ? left.querySelector("a") : byId("card-name"))?.focus({ preventScroll: true });
  }
  await drawn;
  if (now.at) map?.goTo(now.at);
  map?.select(card.item?.id, card.ids, { stay: Boolean(now.at), chain: card.chain });
  map?.highlight(now.genre);
}

/** On the first screen one types at once, unless a finger would call up a keyboard that way. */
function takeFocus() {
  const free = document.activeElement === document.body || byId("card").contains(document.activeElement);
  if (free && matchMedia("(pointer: fine)").matches) byId("asked").focus();
}

function again() {
  shown = null;
  show();
}

const mapOf = (kind) => {
  if (!found.has(kind)) {
    found.set(kind, ask("api/map", { kind }));
    found.get(kind).catch(() => found.delete(kind));
  }
  return found.get(kind);
};

async function showMap(kind) {
  if (map?.kind === kind) return;
  try {
    const reply = await mapOf(kind);
    if (map?.kind === kind) return;
    map = makeMap(reply, { kind, open: (id) => go(addressOf({ kind, id })) });
    byId("map-note").hidden = true;
    welcome(reply);
    offerSurprise().catch(() => {});
  } catch (error) {
    refuse(error);
  }
}

/** What could not be shown: a token is missing, or the map. */
function refuse(error) {
  if (error.status === 401) return wantToken();
  byId("map-note").replaceChildren(trouble(error, error.status ? {} : { retry: again }));
  byId("map-note").hidden = false;
}

function welcome({ count: items, long_tail: tail, hears, describes }) {
  const lost = tail.reduce((sum, one) => sum + one, 0);
  const all = count(items, map.kind);
  const unlinked = lost === items; // a mark that all have would say nothing
  document.body.classList.toggle("unlinked", unlinked);
  byId("counts").replaceChildren(...phrase(unlinked ? "countsNone" : lost ? "counts" : "countsAll", {
    all, n: lost,
    unlinked: element("a", { class: "tail", href: listAddress(map.kind, { unlinked: "true" }) }, text("unlinked")),
  }));
  byId("drop").hidden = !hears;
  offerWords(describes);
}

/** Offer a surprise, where some artists are unlinked; a mark that all have would say nothing. */
async function offerSurprise() {
  const { long_tail: tail } = await mapOf("artist");
  byId("surprise").hidden = tail.every(Boolean) || !tail.some(Boolean);
}

/** When all of it was last refreshed, where something refreshes it. */
async function tellRefreshed() {
  const { refreshed } = await ask("api/status");
  if (!refreshed) return;
  byId("refreshed").textContent = text("refreshed", { when: new Date(refreshed.finished).toLocaleDateString(language()) });
  byId("refreshed").hidden = false;
}

/** Offer tracks to search for, where the catalogue has some. */
async function offerKinds() {
  try {
    await filterWords("track");
    byId("kinds").hidden = false;
  } catch { /* artists alone */ }
}

function wantToken() {
  if (byId("private")) return;
  const box = element("input", { type: "password", name: "token", "aria-label": text("token"), required: true, autocomplete: "off" });
  const form = element("form", { id: "private", onsubmit: (event) => {
    event.preventDefault();
    keepToken(box.value);
    location.reload();
  } }, element("h1", {}, text("private")), element("p", {}, text("privateText")),
  token() && element("p", { role: "alert" }, text("wrongToken")),
  element("div", { class: "box" }, box, button(text("open"), null, { type: "submit" })));
  byId("desk").prepend(form);
  document.body.classList.add("private");
  box.focus();
}

/** A token in the address is kept in this tab and taken out, so that nobody shares it. */
function takeToken() {
  const value = new URLSearchParams(location.search).get("token");
  if (!value) return;
  keepToken(value);
  note({});
}

async function surprise() {
  const { ids, long_tail: tail } = await mapOf("artist");
  const lost = ids.filter((_, i) => tail[i]);
  go(address({ artist: lost[Math.floor(Math.random() * lost.length)] }));
}

await readTexts();
takeToken();
startSearch();
startSound();
startCard();
startPlayer();
startPlaylist();
byId("surprise").addEventListener("click", surprise);
byId("language").addEventListener("click", turnLanguage);
byId("kinds").addEventListener("change", (event) => {
  go(address({ kind: event.target.value === "track" ? "track" : "" }));
  announce(text("searching", { what: text(`${event.target.value}s`) }));
});
follow(show);
show();
offerKinds();
tellRefreshed().catch(() => {});
