// The address is the state: what is shown can be shared, reloaded, and left by going back.
//
//   artist | track   id of the item whose card is open       kind   what the search looks for
//   genre region from to unlinked dig tail k                 wishes about its answers
//   why              id of the answer whose reasons are open
//   at               x, y and zoom of the map                page=report   how good this model is
//   heard            name of a file that was dropped         q     what was typed
//   protocol slice metric                                    what the report shows

const KEYS = [
  "page", "artist", "track", "heard", "kind", "q",
  "genre", "region", "from", "to", "unlinked", "dig", "tail", "k", "why", "at",
  "protocol", "slice", "metric",
];
export const WISHES = ["genre", "region", "from", "to", "unlinked", "dig", "tail"];

/** Read the state: one text for each key, "" where it says nothing. */
export function state() {
  const said = new URLSearchParams(location.search);
  return Object.fromEntries(KEYS.map((key) => [key, said.get(key) ?? ""]));
}

/** The item that a state shows, as kind and id; null if none. */
export function chosen({ artist, track }) {
  if (artist) return { kind: "artist", id: artist };
  return track ? { kind: "track", id: track } : null;
}

/** Write a state as an address relative to the page. */
export function address(wanted) {
  const said = KEYS.filter((key) => wanted[key]).map((key) => [key, wanted[key]]);
  return said.length ? `?${new URLSearchParams(said)}` : "./";
}

/** Address of an item's card, keeping the wishes of now: who digs, goes on digging. */
export function addressOf(item) {
  const now = state();
  const kept = Object.fromEntries(WISHES.map((key) => [key, now[key]]));
  return address({ ...kept, [item.kind]: item.id, kind: item.kind === "track" ? "track" : "" });
}

let show = () => {};

/** Say who shows a state; called for every change, by going back as well. */
export function follow(shows) {
  show = shows;
  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (!link || !plain || link.origin !== location.origin || link.hash) return;
    if (link.pathname !== location.pathname) return;
    event.preventDefault();
    go(link.search || "./");
  });
}

/** Go to an address: one step that "back" undoes. */
export function go(to) {
  history.pushState(null, "", to);
  show();
}

/** Change parts of the state in place: no step of its own, nothing is shown anew. */
export function note(changed) {
  history.replaceState(null, "", address({ ...state(), ...changed }));
}
