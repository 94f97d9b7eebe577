// A playlist that the reader makes, kept in this browser.

import { SIGNS, announce, button, byId, sign } from "./elements.js";
import { recall, remember } from "./memory.js";
import { text } from "./texts.js";

/** The playlist as it is now: its name, and its items as kind, id, name, about and media. */
export function read() {
  try {
    const { name, items } = JSON.parse(recall("playlist"));
    return { name: String(name), items: items.filter((one) => one.kind && one.id) };
  } catch {
    return { name: "", items: [] }; // none yet, or no playlist
  }
}

const same = (a) => (b) => a.id === b.id && a.kind === b.kind;

/** Keep the playlist, and show in the top line how long it is. */
export function write(list) {
  remember("playlist", JSON.stringify(list));
  const n = list.items.length;
  byId("to-playlist").hidden = !n;
  byId("to-playlist").textContent = text("playlistN", { n });
}

/** Show in the top line how many items there are. */
export const startPlaylist = () => write(read());

/** A button that puts an item into the playlist, or takes it out. */
export function addButton(item) {
  const made = button(sign(SIGNS.add), () => {
    const list = read();
    const there = list.items.some(same(item));
    const { kind, id, name, about, media } = item;
    list.items = there ? list.items.filter((one) => !same(item)(one)) : [...list.items, { kind, id, name, about, media }];
    write(list);
    draw();
    announce(text(there ? "taken" : "added", { name: item.name, n: list.items.length }));
  }, { class: "round" });
  const draw = () => {
    const there = read().items.some(same(item));
    made.replaceChildren(sign(there ? SIGNS.took : SIGNS.add));
    made.setAttribute("aria-pressed", String(there));
    made.setAttribute("aria-label", text("add", { name: item.name }));
  };
  draw();
  return made;
}
