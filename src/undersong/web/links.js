// Plain links out: they are looked at by nobody before somebody clicks them.

import { element } from "./elements.js";
import { language, text } from "./texts.js";

const SEARCHES = {
  Bandcamp: "https://bandcamp.com/search?q=",
  YouTube: "https://www.youtube.com/results?search_query=",
  Wikipedia: (words) => `https://${language()}.wikipedia.org/w/index.php?search=${words}`,
};

/** Links from an item to what others say of it. */
export function linksOut(item) {
  const words = encodeURIComponent(item.kind === "track" ? `${item.about} ${item.name}` : item.name);
  const type = item.kind === "track" ? "recording" : "artist";
  const musicbrainz = item.mbid ? `https://musicbrainz.org/${type}/${item.mbid}`
    : `https://musicbrainz.org/search?type=${type}&query=${words}`;
  const places = [["MusicBrainz", musicbrainz], ...Object.entries(SEARCHES).map(([name, search]) => (
    [name, typeof search === "string" ? search + words : search(words)]))];
  return element("p", { class: "elsewhere" }, `${text("elsewhere")} `, places.map(([name, href]) => (
    element("a", { href, target: "_blank", rel: "noopener noreferrer" }, name))));
}
