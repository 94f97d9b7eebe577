// The card of an item: what it is, how well known, and its neighbours with their reasons.

import { address, addressOf, note, state } from "./address.js";
import { announce, byId, count, element, named, trouble } from "./elements.js";
import { inShort, reasons } from "./reasons.js";
import { ask, itemPath, soundOf } from "./service.js";
import { clearWishes, controls, filterWords, wishes } from "./wishes.js";

const STEP = 20; // answers more
const MOST = 200;

const card = byId("card");
let asking = new AbortController();

/** Show an item and what is similar to it; gives the ids of the answers, [] while there are none. */
export async function showItem(item, { again }) {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const now = state();
  card.setAttribute("aria-busy", "true");
  try {
    const [{ item: known, learned }, words] = await Promise.all([
      ask(itemPath(item), {}, { signal }), filterWords(item.kind),
    ]);
    const list = element("div", { class: "list" }, element("p", { class: "note" }, "Leafing …"));
    card.replaceChildren(closing(), head(known), controls(words, { learned }), list);
    document.title = `${known.name} – undersong`;
    const answers = await ask(`${itemPath(item)}/similar`, { ...wishes(now), reasons: true }, { signal })
      .catch((error) => {
        if (error.name === "AbortError") throw error;
        list.replaceChildren(trouble(error, wayOn(error, again)));
        return null;
      });
    if (answers) list.replaceChildren(...neighbours(answers, { now, media: known.media, item }));
    return answers ? answers.answers.map((one) => one.item.id) : [];
  } catch (error) {
    if (error.name === "AbortError") return null;
    document.title = "undersong";
    card.replaceChildren(closing(), element("h2", { id: "card-name", tabindex: -1 }, "Not here"),
      trouble(error, error.status === 404 ? {} : { retry: again }));
    return [];
  } finally {
    if (!signal.aborted) card.removeAttribute("aria-busy");
  }
}

/** Show what sounds like a file; `answers` null while it is heard, or the error. */
export function showHeard(name, { answers = null, error = null, again = null }) {
  asking.abort();
  const list = element("div", { class: "list" });
  if (error) list.append(trouble(error, again ? { retry: again } : {}));
  else if (answers) list.append(...neighbours(answers, { now: state(), media: false, item: null }));
  else list.append(element("p", { class: "note" }, "Listening …"));
  card.replaceChildren(
    closing(),
    element("p", { class: "kind" }, "What sounds like"),
    element("h2", { id: "card-name", tabindex: -1 }, named(name)),
    answers ? element("p", { class: "note" },
      "Only its sound was compared, no name or tag, and nothing of the file was kept.") : null,
    list,
  );
  document.title = `${name} – undersong`;
}

/** What closes the card; and on a phone, where it is a sheet, makes it taller. */
function closing() {
  const grip = element("button", {
    type: "button", class: "grip", "aria-label": "Taller", "aria-pressed": String(card.classList.contains("tall")),
    onclick: () => grip.setAttribute("aria-pressed", String(card.classList.toggle("tall"))),
  });
  return element("div", {}, grip, element("a", { class: "close", href: "./", "aria-label": "Close" }, "×"));
}

function wayOn(error, again) {
  return error.status === 400 ? { retry: clearWishes, word: "Clear all wishes" } : { retry: again };
}

function head(item) {
  const origin = [item.genres.join(", "), item.region, item.decade && `${item.decade}s`];
  const shown = origin.filter(Boolean).join(" · ") || item.about;
  const other = item.kind === "track" && item.artist ? { kind: "artist", id: item.artist } : null;
  return element(
    "div",
    { class: item.long_tail ? "head is-tail" : "head" },
    element("p", { class: "kind" }, item.kind,
      item.long_tail ? element("span", { class: "tail" }, " · long tail") : null),
    element("h2", { id: "card-name", tabindex: -1 }, named(item.name)),
    shown ? element("p", { class: "about" }, named(shown)) : null,
    other ? element("p", { class: "about" }, item.album ? ["on ", named(item.album), " · "] : null,
      element("a", { href: addressOf(other) }, "its artist")) : null,
    element("p", { class: "known" }, fame(item)),
    item.unknown ? element("p", { class: "unknown" }, item.unknown) : null,
    item.media ? element("audio", { controls: true, preload: "none", src: soundOf(item),
      "aria-label": `Listen to ${item.name}` }) : null,
  );
}

/** How many have linked it, and how well it is known among its like: a number alone has no scale. */
function fame({ kind, relations, percentile }) {
  const links = relations ? count(relations, "known relation") : "Nobody has linked it yet";
  if (percentile === null) return `${links}.`;
  const [word, share] = percentile < 0.5 ? ["less", 1 - percentile] : ["better", percentile];
  return `${links}; ${word} known than about ${Math.min(Math.round(100 * share), 99)} of 100 ${kind}s.`;
}

function neighbours({ answers, note: said }, { now, media, item }) {
  const wished = ["genre", "region", "from", "to", "unlinked", "dig"].some((key) => now[key]);
  if (!answers.length) {
    const text = said || "Nothing that is similar fits these wishes";
    return [trouble({ message: text }, wished ? { retry: clearWishes, word: "Clear all wishes" } : {})];
  }
  announce(`${count(answers.length, "answer")}, the first is ${answers[0].item.name}`);
  const asked = Number(now.k || STEP);
  const more = item && answers.length === asked && asked < MOST
    ? element("a", { class: "more", href: address({ ...now, k: Math.min(asked + STEP, MOST) }) }, "More")
    : null;
  return [
    said ? element("p", { class: "note" }, said) : null,
    element("h3", {}, "Similar"),
    answers.some((one) => one.confidence !== null && one.confidence < 1) ? element("p", { class: "note" },
      "“Sure” is the chance that somebody who looked at both would list them together.") : null,
    element("ol", { class: "answers" }, answers.map((one) => answer(one, { now, media }))),
    more,
  ].filter(Boolean);
}

function answer({ rank, item, confidence, reasons: why }, { now, media }) {
  const id = `why-${rank}`;
  const told = element("div", { id, hidden: true });
  const button = why ? element("button", {
    type: "button", class: "why", "aria-expanded": "false", "aria-controls": id,
    "aria-label": `Why ${item.name}?`,
    onclick: () => {
      open(told.hidden);
      note({ why: told.hidden ? "" : item.id });
    },
  }, "Why?") : null;
  function open(wanted) {
    if (wanted && !told.childNodes.length) told.append(reasons(why));
    told.hidden = !wanted;
    button.setAttribute("aria-expanded", String(wanted));
  }
  if (why && now.why === item.id) open(true);
  const short = why ? inShort(why) : "";
  return element(
    "li",
    { class: item.long_tail ? "is-tail" : null },
    element("span", { class: "rank", "aria-hidden": "true" }, rank),
    element(
      "div",
      { class: "what" },
      element("a", { href: addressOf(item) }, named(item.name)),
      item.long_tail ? element("span", { class: "tail" }, "long tail") : null,
      element("p", { class: "about" }, [item.about, short && `by ${short}`].filter(Boolean).join(" · ")),
    ),
    element("span", { class: "sure" }, sure(confidence)),
    media ? play(item) : null,
    button,
    told,
  );
}

function sure(confidence) {
  if (confidence === null) return "";
  return confidence === 1 ? "known" : `${Math.round(100 * confidence)} % sure`;
}

/** A button that plays a neighbour; one at a time. */
function play(item) {
  const player = byId("player") ?? document.body.appendChild(element("audio", { id: "player", hidden: true }));
  const button = element("button", {
    type: "button", class: "play", "aria-label": `Play ${item.name}`, "aria-pressed": "false",
    onclick: () => {
      const playing = button.getAttribute("aria-pressed") === "true";
      player.dispatchEvent(new Event("stopped"));
      if (playing) return player.pause();
      player.src = soundOf(item);
      button.setAttribute("aria-pressed", "true");
      const stop = () => button.setAttribute("aria-pressed", "false");
      for (const name of ["stopped", "ended"]) player.addEventListener(name, stop, { once: true });
      player.play().catch((error) => {
        stop();
        if (error.name !== "AbortError") announce(`${item.name} cannot be played here`);
      });
    },
  }, "▶");
  return button;
}
