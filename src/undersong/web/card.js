// The card: an item with what is similar to it, a path, a list, the playlist, or what a file sounds like.

import { address, addressOf, keep, listAddress, state, trail, walk, reset } from "./address.js";
import { about, answerList } from "./answers.js";
import { controls, filtered, filterWords, parameters, tuned } from "./controls.js";
import { announce, button, byId, element, named, SIGNS, sign, trouble } from "./elements.js";
import { playAll, playButton } from "./player.js";
import { addButton } from "./playlist.js";
import { gaps } from "./reasons.js";
import { startCombining } from "./search.js";
import { ask, itemPath } from "./service.js";
import { count, language, phrase, place, text } from "./texts.js";

const STEP = 20; // answers more
const MOST = 200;
const REST = 150; // milliseconds without scrolling, until the place is kept

// Plain links out: nobody is asked before somebody clicks one.
const SEARCHES = {
  Bandcamp: "https://bandcamp.com/search?q=",
  YouTube: "https://www.youtube.com/results?search_query=",
  Wikipedia: (words) => `https://${language()}.wikipedia.org/w/index.php?search=${words}`,
};

const card = byId("card");
const wide = matchMedia("(min-width: 48.01rem)");
const opened = new Map(); // sections that the reader opened or closed
let asking = new AbortController();
let current = null; // what the card was made for: key, update(now, {rows})

/** Keep the place in the list, so that "back" finds it. */
export function startCard() {
  let resting = 0;
  // While a list is on its way there is no place in it yet.
  const here = () => card.hidden || card.hasAttribute("aria-busy") || keep({ scroll: card.scrollTop });
  card.addEventListener("scroll", () => {
    clearTimeout(resting);
    resting = setTimeout(here, REST);
  });
  addEventListener("leave", () => {
    clearTimeout(resting);
    here();
  });
}

/**
 * Show what a state names; gives the item and the ids of what is listed, or null if another address
 * came in between. What only tunes the same item's answers changes the list alone.
 */
export async function showCard(now, { item, again, back = false }) {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const depth = (back && history.state?.scroll) || 0;
  const key = JSON.stringify([item, now.also, now.path, now.list, now.tag, now.page, now.described]);
  card.setAttribute("aria-busy", "true");
  try {
    if (current?.key !== key) {
      current = null;
      const made = await (item ? itemCard(item, now, signal) : listCard(now));
      current = { ...made, key };
      card.scrollTop = 0;
      if (item && !now.path) walk({ ...item, name: made.name });
    }
    const shown = await current.update(now, { signal, again });
    if (back) card.scrollTop = depth;
    return shown;
  } catch (error) {
    if (error.name === "AbortError") return null;
    current = null;
    if (error.status === 401) throw error;
    document.title = "undersong";
    const gone = error.status === 0;
    card.replaceChildren(closing(), heading(text(gone ? "noService" : "notHere")),
      trouble(error, error.status === 404 ? {} : { retry: again }));
    return { item: null, ids: [] };
  } finally {
    if (!signal.aborted) card.removeAttribute("aria-busy");
  }
}

const heading = (...name) => element("h2", { id: "card-name", tabindex: -1 }, name);
const loading = () => element("p", { class: "note" }, text("loading"));

/** What closes the card; and on a phone, where it is a sheet, shows the map behind it. */
function closing() {
  const grip = button(null, () => {
    const low = card.classList.toggle("low");
    grip.setAttribute("aria-pressed", String(low));
    dispatchEvent(new Event("resize"));
  }, { class: "grip", label: text("showMap"), "aria-pressed": String(card.classList.contains("low")) });
  return element("div", {}, grip, element("a", { class: "close", href: "./", "aria-label": text("close") }, sign(SIGNS.close)));
}

async function itemCard(item, now, signal) {
  const [{ item: known, ...can }, words] = await Promise.all([
    ask(itemPath(item), {}, { signal }), filterWords(item.kind),
  ]);
  const list = element("div", { class: "list" }, loading());
  const tuning = now.path ? null : controls(item.kind, words, can);
  const tune = tuning && fold("tune", tuning.made, tuned(now) > 0);
  const combine = !now.path && button(text("combine"), startCombining);
  const more = fold("about", aboutItem(known), wide.matches);
  const name = heading(named(known.name));
  const seeds = element("p", { class: "seeds", hidden: true });
  card.replaceChildren(
    closing(), trailOf(item),
    element("p", { class: "kind" }, text(item.kind),
      known.long_tail && element("span", { class: "tail" }, ` · ${text("unlinked")}`)),
    name, seeds, origin(known),
    element("div", { class: "deeds" },
      known.media && playButton(known, [known]), addButton(known), more.opener, tune?.opener,
      combine),
    more.section, tune?.section ?? "", list,
  );
  document.title = `${known.name} – undersong`;
  const update = async (wanted, { signal: stop, again }) => {
    tuning?.update(wanted);
    if (tune) tune.opener.textContent = tuned(wanted) ? text("tuneN", { n: tuned(wanted) }) : text("tune");
    const rows = now.path ? await path(item, wanted, stop) : await similar(item, wanted, { stop, can, list, again });
    if (!rows) return { item, ids: [] };
    const idle = !rows.length && !tuned(wanted); // nothing but its name is known
    for (const one of [combine, tune?.opener]) if (one) one.hidden = idle;
    const names = new Map([known, ...(rows.also ?? [])].map((one) => [one.id, one.name]));
    if (now.path) {
      document.title = text("pathTitle", { a: known.name, b: rows.at(-1)?.item.name ?? "" });
      name.replaceChildren(...phrase("pathTitle", { a: named(known.name), b: named(rows.at(-1)?.item.name ?? now.path) }));
    }
    if (rows.also) showSeeds(seeds, item, rows.also);
    const of = wanted.path || wanted.also.length ? null : known;
    fill(list, rows, wanted, { of, seeds: names, learned: can.learned });
    return { item, ids: rows.map((row) => row.item.id), chain: Boolean(now.path) };
  };
  return { update, name: known.name };
}

async function similar(item, now, { stop, can, list, again }) {
  const asked = { ...parameters(now), reasons: now.also.length ? "" : "true" };
  try {
    const reply = await ask(`${itemPath(item)}/similar`, asked, { signal: stop });
    return Object.assign(reply.answers, { note: reply.note, also: reply.also });
  } catch (error) {
    if (error.name === "AbortError" || !error.status) throw error;
    const nobody = /passes all filters/.test(error.message);
    const why = nobody ? { message: now.dig && !can.ranked ? text("popularityUnknown") : text("noAnswers") } : error;
    list.replaceChildren(trouble(why, error.status === 400 ? { retry: reset, word: text("reset") } : { retry: again }));
    return null;
  }
}

async function path(item, now, stop) {
  const asked = { kind: item.kind, a: item.id, b: now.path };
  const reply = await ask("api/path", asked, { signal: stop });
  const alike = (value) => (value === null ? "" : text("alike", { n: Math.round(100 * value) }));
  const rows = reply.steps.map((step) => ({ item: step.item, note: alike(step.similarity) }));
  return Object.assign(rows, { note: reply.steps.length ? text("pathNote") : reply.note ?? text("noPath") });
}

/** Put rows into the list; focus stays where it was, or goes to the first of those that are new. */
function fill(list, rows, now, { of, seeds, learned }) {
  const before = list.querySelectorAll(".answers > li").length;
  const asked = Number(now.k || STEP);
  const grown = document.activeElement?.classList.contains("more");
  if (!rows.length) {
    const retry = filtered(now) ? { retry: reset, word: text("reset") } : {};
    return list.replaceChildren(trouble({ message: rows.note || text("noAnswers") }, retry));
  }
  const held = focused(list);
  const more = !now.path && rows.length === asked && asked < MOST;
  const first = rows.note && (now.path || now.described); // how words were understood, and the like
  const note = (sentence) => element("p", { class: "note", lang: now.path ? null : "en" }, sentence);
  const unsure = rows.some(({ confidence: sure }) => sure !== undefined && sure !== null && sure < 1);
  list.replaceChildren(
    element("h3", { class: now.path ? "unseen" : null }, text("similar")),
    first ? note(rows.note) : "",
    answerList(rows, { of, seeds, learned }),
    ...(more ? [element("a", { class: "more button", href: address({ ...now, k: Math.min(asked + STEP, MOST) }) }, text("moreAnswers"))] : []),
    unsure ? element("p", { class: "note" }, text("sureMeans")) : "",
    rows.note && !first ? note(rows.note) : "",
  );
  announce(text("firstIs", { n: rows.length, name: rows[0].item.name }));
  if (grown && before) list.querySelectorAll(".answers .what > a")[before]?.focus();
  else held();
}

/** A function that gives the focus back to what looks the same after a list was made anew. */
function focused(list) {
  const now = document.activeElement;
  if (!list.contains(now)) return () => {};
  const row = now.closest("li")?.dataset.id;
  const like = [now.localName, ...now.classList].join(".");
  return () => [...list.querySelectorAll("li")].find((one) => one.dataset.id === row)?.querySelector(like)?.focus();
}

function showSeeds(line, item, also) {
  const without = (id) => address({ ...state(), also: also.map((one) => one.id).filter((one) => one !== id), k: "", why: "" });
  line.hidden = !also.length;
  line.replaceChildren(...also.map((one) => element("span", { class: "chip" }, "+ ",
    element("a", { href: addressOf(one) }, named(one.name)),
    element("a", { class: "drop", href: without(one.id), "aria-label": text("remove", { name: one.name }) }, sign(SIGNS.close)))),
  also.length === 1 ? element("a", { href: address({ [item.kind]: item.id, kind: state().kind, path: also[0].id }) },
    phrase("path", { a: named(byId("card-name").textContent), b: named(also[0].name) })) : "");
}

/** A part of the card that opens and closes; `wanted`: whether it is open until the reader turns it. */
function fold(name, content, wanted) {
  const section = element("section", { id: `fold-${name}`, class: "fold", "aria-label": text(name) }, content);
  const opener = button(text(name), () => turn(section.hidden, true), { "aria-controls": section.id });
  const turn = (open, kept = false) => {
    if (kept) opened.set(name, open);
    section.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
  };
  turn(opened.get(name) ?? wanted);
  return { section, opener };
}

const joined = (parts) => parts.filter(Boolean).flatMap((part, at) => (at ? [" · ", part] : [part]));

/** Where an item comes from: links to lists of all that do; and who made a track. */
function origin(item) {
  const { kind } = item;
  const link = (wanted, shown) => element("a", { href: listAddress(kind, wanted) }, shown);
  const maker = kind === "track" && item.artist && element("span", {}, phrase("by", {
    artist: element("a", { href: addressOf({ kind: "artist", id: item.artist }) }, named(item.about)),
  }));
  const parts = joined([
    maker, item.album && element("span", {}, phrase("onAlbum", { album: named(item.album) })),
    ...item.genres.slice(0, 3).map((genre) => link({ genre }, genre)),
    item.region && link({ region: item.region }, place(item.region)),
    item.decade && link({ from: String(item.decade), to: String(item.decade) }, text("decade", { year: String(item.decade) })),
  ]);
  return element("p", { class: "about origin" }, parts.length ? parts : named(about(item)));
}

function aboutItem(item) {
  const genres = new Set(item.genres.map((one) => one.toLowerCase()));
  const tags = item.tags.filter((tag) => !genres.has(tag));
  return [
    element("p", { class: "known" }, fame(item)),
    tags.length > 0 && element("p", { class: "tags" }, tags.map((tag) => (
      element("a", { class: "chip", href: listAddress(item.kind, { tag }) }, tag)))),
    gaps(item),
    linksOut(item),
  ].filter(Boolean);
}

/** Links from an item to what others say of it. */
function linksOut(item) {
  const words = encodeURIComponent(item.kind === "track" ? `${item.about} ${item.name}` : item.name);
  const type = item.kind === "track" ? "recording" : "artist";
  const musicbrainz = item.mbid ? `https://musicbrainz.org/${type}/${encodeURIComponent(item.mbid)}`
    : `https://musicbrainz.org/search?type=${type}&query=${words}`;
  const places = [["MusicBrainz", musicbrainz], ...Object.entries(SEARCHES).map(([name, search]) => (
    [name, typeof search === "string" ? search + words : search(words)]))];
  return element("p", { class: "elsewhere" }, `${text("elsewhere")} `, places.map(([name, href]) => (
    element("a", { href, target: "_blank", rel: "noopener noreferrer" }, name))));
}

function fame({ kind, relations, percentile }) {
  const links = relations ? text("links", { n: relations }) : text("noLinks");
  if (percentile === null) return `${links}.`;
  const [key, share] = percentile < 0.5 ? ["less", 1 - percentile] : ["more", percentile];
  const what = text(kind === "track" ? "tracks" : "artists");
  return `${links}. ${text(key, { share: String(Math.min(Math.round(100 * share), 99)), what })}`;
}

/** Where the reader came from, the latest last. */
function trailOf(item) {
  const steps = trail().filter((one) => one.id !== item.id);
  if (!steps.length) return "";
  return element("nav", { class: "trail", "aria-label": text("trail") }, steps.slice(-4).map((one) => (
    element("a", { href: addressOf(one) }, named(one.name)))));
}

/** A list of all that have something in common, or of what the reader gathered. */
async function listCard(now) {
  const list = element("div", { class: "list" }, loading());
  const own = now.page === "playlist";
  if (now.described) return wordsCard(now, list);
  const unlinked = now.unlinked && [text("unlinkedList")];
  const titles = [now.tag, now.genre, now.region && place(now.region),
    now.from && text("decade", { year: now.from }), unlinked].flat().filter(Boolean);
  const title = own ? text("playlist") : titles.join(", ") || text(`${now.list}s`);
  const kind = own ? "" : text(now.tag ? "tag" : now.genre ? "genre" : now.region ? "region" : "listOf");
  card.replaceChildren(closing(), element("p", { class: "kind" }, kind), heading(named(title)), list);
  document.title = `${title} – undersong`;
  const update = async (wanted, { signal }) => {
    if (own) {
      const { playlistParts } = await import("./mixtape.js");
      const draw = () => list.replaceChildren(...playlistParts(draw));
      draw();
      return { item: null, ids: [] };
    }
    const { tag, genre, region, from, to } = wanted;
    const asked = { kind: now.list, tag, genre, region, decade_from: from, decade_to: to,
      only_unlinked: wanted.unlinked && "true", k: wanted.k || "50" };
    const { total, items } = await ask("api/items", asked, { signal });
    listed(list, items, { total, wanted });
    return { item: null, ids: items.map((one) => one.item.id) };
  };
  return { update, name: title };
}

/** What is like somebody who is described in words. */
function wordsCard({ described }, list) {
  card.replaceChildren(closing(), element("p", { class: "kind" }, text("describedKind")), heading(named(described)), list);
  document.title = `${described} – undersong`;
  const update = async (now, { signal }) => {
    const asked = { kind: now.kind || "artist", words: described, k: now.k || String(STEP) };
    const { answers, note } = await ask("api/described", asked, { signal });
    fill(list, Object.assign(answers, { note }), now, { of: null, seeds: null });
    return { item: null, ids: answers.map((one) => one.item.id) };
  };
  return { update, name: described };
}

function listed(list, rows, { total, wanted }) {
  const all = count(total, wanted.list);
  const grown = document.activeElement?.classList.contains("more");
  const before = list.querySelectorAll(".answers > li").length;
  const playable = rows.filter((row) => row.media).map((row) => row.item);
  const more = rows.length < Math.min(total, MOST);
  const { list: kind, tag, genre, region, from, to, unlinked } = wanted;
  const toggle = listAddress(kind, { tag, genre, region, from, to, unlinked: unlinked ? "" : "true" });
  list.replaceChildren(
    element("p", { class: "note" }, rows.length < total ? text("ofThese", { shown: rows.length, all }) : text("nItems", { all })),
    element("div", { class: "deeds" },
      playable.length > 0 && button(text("playAll"), () => playAll(playable)),
      element("a", { class: "button", href: toggle, "aria-pressed": null, "aria-current": unlinked ? "true" : null }, text("onlyUnlinked"))),
    answerList(rows),
    ...(more ? [element("a", { class: "more button", href: address({ ...wanted, k: String(Math.min(rows.length + 50, MOST)) }) }, text("moreAnswers"))] : []),
  );
  announce(all);
  if (grown && before) list.querySelectorAll(".answers .what > a")[before]?.focus();
}

/** Show what sounds like a file; `answers` null while it is heard, or the error. */
export function showHeard(name, { answers = null, error = null, again = null }) {
  asking.abort();
  current = null;
  const list = element("div", { class: "list" });
  if (error) list.append(trouble(error, again ? { retry: again } : {}));
  else if (answers) fill(list, Object.assign(answers.answers, { note: answers.note }), state(), { of: null, seeds: null });
  else list.append(element("p", { class: "note" }, text("listening")));
  card.replaceChildren(
    closing(),
    element("p", { class: "kind" }, text("soundsLike")),
    heading(named(name)),
    answers ? element("p", { class: "note" }, text("soundNote")) : "",
    list,
  );
  document.title = `${name} – undersong`;
}

