// The address is the state: what is shown can be shared, reloaded, and left by going back.
//
//   artist | track   id of the item whose card is open       also   ids of further seeds
//   path             id of the item that a path leads to     kind   what the search looks for
//   list             artist or track: a list of all that have these in common:
//   tag genre region from to unlinked                        filters of answers, too (but tag)
//   dig tail variety one k                                   more about its answers
//   why              id of the answer whose reasons are open
//   at               x, y and zoom of the map                page   report or playlist
//   heard            name of a file that was dropped         q      what was typed
//   described        words about somebody who need not exist
//   protocol slice metric                                    what the report shows

const KEYS = [
  "page", "artist", "track", "also", "path", "heard", "described", "list", "kind", "q", "tag",
  "genre", "region", "from", "to", "unlinked", "dig", "tail", "variety", "one", "k", "why", "at",
  "protocol", "slice", "metric",
];
export const FILTERS = ["genre", "region", "from", "to", "unlinked", "one"];
export const TUNED = [...FILTERS, "dig", "tail", "variety"];
const LONGEST = 10; // items of the trail

/** Read the state: one text for each key, "" where it says nothing; `also` is a list. */
export function state() {
  const query = new URLSearchParams(location.search);
  const texts = Object.fromEntries(KEYS.map((key) => [key, query.get(key) ?? ""]));
  return { ...texts, also: query.getAll("also") };
}

/** The item that a state shows, as kind and id; null if none. */
export function chosen({ artist, track }) {
  if (artist) return { kind: "artist", id: artist };
  return track ? { kind: "track", id: track } : null;
}

/** Write a state as an address relative to the page. */
export function address(wanted) {
  const pairs = KEYS.flatMap((key) => [wanted[key] ?? ""].flat().filter(Boolean).map((one) => [key, one]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "./";
}

/** Address of an item's card, tuned as now: who digs, goes on digging. */
export function addressOf(item) {
  const now = state();
  const kept = now.list ? {} : Object.fromEntries(TUNED.map((key) => [key, now[key]]));
  return address({ ...kept, [item.kind]: item.id, kind: item.kind === "track" ? "track" : "" });
}

/** Address of the list of all of a kind that have something in common. */
export const listAddress = (kind, wanted) => (
  address({ list: kind, kind: kind === "track" ? "track" : "", ...wanted }));

let show = () => {};

/** Name who shows a state; called for every change, by going back as well. */
export function follow(shows) {
  show = shows;
  history.scrollRestoration = "manual";
  addEventListener("popstate", () => show({ back: true }));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const plain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (!link || !plain || link.origin !== location.origin || link.hash || link.download) return;
    if (link.pathname !== location.pathname) return;
    event.preventDefault();
    go(link.search || "./");
  });
}

/** Go to an address: one step that "back" undoes. */
export function go(to) {
  dispatchEvent(new Event("leave"));
  history.pushState({ trail: trail() }, "", to);
  show({});
}

/** Tune the answers: turning one control is one step, however often it is turned. */
export function tune(changed) {
  const [turned] = Object.keys(changed);
  const to = address({ ...state(), ...changed, k: "", why: "" });
  if (history.state?.turned === turned) history.replaceState(history.state, "", to);
  else history.pushState({ trail: trail(), turned }, "", to);
  show({});
}

/** Take every filter and dial back. */
export function reset() {
  const none = Object.fromEntries(TUNED.map((key) => [key, ""]));
  go(address({ ...state(), ...none, k: "", why: "" }));
}

/** Change parts of the state in place: no step of its own, nothing is shown anew. */
export function note(changed) {
  history.replaceState(history.state, "", address({ ...state(), ...changed }));
}

/** Where the reader came from: items as kind, id and name, the latest last. */
export const trail = () => history.state?.trail ?? [];

/** Put the item that is shown at the end of the trail. */
export function walk(item) {
  const before = trail().filter((one) => one.id !== item.id || one.kind !== item.kind);
  keep({ trail: [...before, item].slice(-LONGEST) });
}

/** Keep something with this step of the history: "back" finds it again. */
export function keep(values) {
  history.replaceState({ ...history.state, ...values }, "");
}
