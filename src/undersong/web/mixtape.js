// The card of the playlist: ordered by hand, saved as a file.

import { go } from "./address.js";
import { SIGNS, announce, button, byId, element, named, sign } from "./elements.js";
import { playAll } from "./player.js";
import { read, write } from "./playlist.js";
import { ask, itemPath, soundOf, token } from "./service.js";
import { text } from "./texts.js";

const SONGS = 10; // that are added at a time
const SEEDS = 200; // of the playlist, that they fit to
const FORMS = { m3u8: "audio/x-mpegurl", jspf: "application/json", xspf: "application/xspf+xml" };
const NAMESPACE = "http://xspf.org/ns/0/";

const located = !token(); // else each address would tell the token to whoever gets the file

/** What the card shows of the playlist. */
export function playlistParts(again) {
  const list = read();
  const change = (items) => {
    write({ ...list, items });
    if (items.length) return again();
    announce(text("cleared"));
    go("./");
  };
  const move = (at, by) => {
    const items = [...list.items];
    const [item] = items.splice(at, 1);
    items.splice(at + by, 0, item);
    change(items);
    announce(text("moved", { name: item.name, n: at + by + 1 }));
    const row = byId("card").querySelectorAll(".answers > li")[at + by];
    (row.querySelector(by < 0 ? ".up:enabled" : ".down:enabled") ?? row.querySelector("button:enabled")).focus();
  };
  const name = element("input", {
    type: "text", value: list.name, maxlength: 100, "aria-label": text("playlistName"), placeholder: text("myPlaylist"),
    onchange: () => write({ ...list, name: name.value.trim() }),
  });
  const grow = async () => {
    const ids = list.items.map((one) => one.id);
    const body = new Blob([JSON.stringify({ like: ids.slice(-SEEDS), never: ids.slice(-10_000), k: SONGS })], { type: "application/json" });
    try {
      const { answers } = await ask("api/playlist", {}, { body });
      const fitting = answers.map(({ item: { kind, id, name: called, about }, media }) => ({ kind, id, name: called, about, media }));
      change([...list.items, ...fitting]);
      announce(text("grown", { n: fitting.length }));
    } catch (error) {
      announce(error.message);
      note.textContent = error.message;
    }
  };
  const note = element("p", { class: "note" }, text("playlistNote"));
  const playable = list.items.filter((one) => one.media);
  const title = () => name.value.trim() || text("myPlaylist");
  return [
    element("div", { class: "playlist" }, name,
      playable.length > 0 && button(text("playAll"), () => playAll(playable)),
      Object.keys(FORMS).filter((form) => form !== "m3u8" || (located && playable.length))
        .map((form) => button(text("save", { form: form.toUpperCase() }), () => save(list.items, { title: title(), form }))),
      !byId("kinds").hidden && button(text("grow", { n: SONGS }), grow),
      button(text("clear"), () => change([]))),
    note,
    element("ol", { class: "answers" }, list.items.map((item, at) => element(
      "li",
      { "data-id": item.id },
      element("span", { class: "rank", "aria-hidden": "true" }, at + 1),
      element("div", { class: "what" },
        element("a", { href: `?${new URLSearchParams({ [item.kind]: item.id })}` }, named(item.name)),
        element("p", { class: "about" }, named(item.about))),
      element("div", { class: "deeds" },
        button(sign(SIGNS.up), () => move(at, -1), { class: "round up", disabled: !at, label: text("up", { name: item.name }) }),
        button(sign(SIGNS.down), () => move(at, 1), { class: "round down", disabled: at === list.items.length - 1, label: text("down", { name: item.name }) }),
        button(sign(SIGNS.close), () => change(list.items.filter((_, place) => place !== at)), { class: "round", label: text("remove", { name: item.name }) })),
    ))),
  ];
}

/** Save a playlist as a file of the reader's. */
async function save(items, { title, form }) {
  const songs = [];
  for (const item of items) songs.push(await song(item));
  const content = { m3u8, jspf, xspf }[form](songs, title);
  const url = URL.createObjectURL(new Blob([content], { type: FORMS[form] }));
  element("a", { href: url, download: `${title.replace(/[\\/:*?"<>|]+/g, "_")}.${form}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What files call an item; one that has gone since is named by what was kept. */
async function song(item) {
  const { item: known } = await ask(itemPath(item)).catch(() => ({ item }));
  const artist = item.kind === "artist";
  return {
    title: artist ? null : item.name,
    creator: artist ? item.name : item.about,
    album: known.album ?? null,
    identifier: known.mbid ? `https://musicbrainz.org/${artist ? "artist" : "recording"}/${encodeURIComponent(known.mbid)}` : null,
    location: located && known.media ? new URL(soundOf(item), document.baseURI).href : null,
  };
}

const line = (words) => words.filter(Boolean).join(" - ").replace(/\s+/g, " ");

function m3u8(songs, title) {
  const heard = songs.filter((one) => one.location);
  return ["#EXTM3U", `#PLAYLIST:${line([title])}`,
    ...heard.flatMap((one) => [`#EXTINF:-1,${line([one.creator, one.title])}`, one.location]), ""].join("\n");
}

function jspf(songs, title) {
  const listed = (value) => (value ? [value] : undefined);
  return JSON.stringify({ playlist: { title, track: songs.map(({ location, identifier, ...one }) => ({
    ...Object.fromEntries(Object.entries(one).filter(([, value]) => value)),
    location: listed(location), identifier: listed(identifier),
  })) } }, null, 2);
}

function xspf(songs, title) {
  const file = document.implementation.createDocument(NAMESPACE, "playlist");
  const add = (parent, name, value) => {
    const made = parent.appendChild(file.createElementNS(NAMESPACE, name));
    if (value) made.textContent = value;
    return made;
  };
  file.documentElement.setAttribute("version", "1");
  add(file.documentElement, "title", title);
  const tracks = add(file.documentElement, "trackList");
  for (const one of songs) {
    const track = add(tracks, "track");
    for (const name of ["location", "identifier", "title", "creator", "album"]) if (one[name]) add(track, name, one[name]);
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(file)}\n`;
}
