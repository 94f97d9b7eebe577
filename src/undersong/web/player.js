// What is heard: one item at a time, and those that come next.

import { addressOf } from "./address.js";
import { SIGNS, announce, button, byId, element, named, sign } from "./elements.js";
import { soundOf } from "./service.js";
import { text } from "./texts.js";

let queue = [];
let at = -1;
const audio = element("audio", { controls: true, preload: "none" });
const same = (a, b) => a && a.id === b.id && a.kind === b.kind;

/** A button that plays an item, with what is played after it. */
export function playButton(item, list) {
  const made = button(sign(SIGNS.play), () => {
    if (same(queue[at], item) && !audio.paused) return audio.pause();
    if (same(queue[at], item)) return audio.play().catch(() => {});
    playAll(list, list.findIndex((one) => same(one, item)));
  }, { class: "round play", label: text("play", { name: item.name }), "data-plays": `${item.kind} ${item.id}` });
  mark(made);
  return made;
}

/** Play a list, from one item on. */
export function playAll(list, from = 0) {
  queue = [...list];
  play(from);
}

/** Make the player work. */
export function startPlayer() {
  audio.addEventListener("ended", () => play(at + 1));
  for (const name of ["play", "pause", "emptied"]) audio.addEventListener(name, markAll);
  audio.addEventListener("error", () => {
    if (at < 0) return;
    announce(text("cannotPlay", { name: queue[at].name }));
    if (at + 1 < queue.length) play(at + 1);
  });
}

function play(next) {
  if (next < 0 || next >= queue.length) return markAll();
  at = next;
  audio.src = soundOf(queue[at]);
  audio.play().catch(() => {});
  draw();
  announce(text("playing", { name: queue[at].name }));
}

function stop() {
  audio.pause();
  audio.removeAttribute("src");
  audio.load();
  [queue, at] = [[], -1];
  byId("player").hidden = true;
  document.body.classList.remove("playing");
  byId("points").focus();
}

function draw() {
  const player = byId("player");
  const item = queue[at];
  const focused = player.contains(document.activeElement) ? document.activeElement.className : "";
  const opened = player.querySelector("details")?.open ?? false;
  player.hidden = false;
  document.body.classList.add("playing");
  const skip = (name, to) => button(sign(SIGNS[name]), () => play(to),
    { class: `round ${name}`, label: text(name), disabled: !queue[to] });
  const title = element("a", { href: addressOf(item) }, named(item.name));
  player.replaceChildren(
    skip("previous", at - 1),
    skip("next", at + 1),
    element("p", {}, title, item.kind === "track" && element("small", {}, named(item.about))),
    audio,
    element("details", { open: opened }, element("summary", {}, text("queue", { n: queue.length })),
      element("ol", {}, queue.map((one, place) => element("li", {},
        button(named(one.name), () => play(place), { "aria-current": place === at ? "true" : null }))))),
    button(sign(SIGNS.close), stop, { class: "round stop", label: text("stop") }),
  );
  if (focused) player.getElementsByClassName(focused)[0]?.focus();
  markAll();
}

function mark(one) {
  const item = queue[at];
  const heard = item && one.dataset.plays === `${item.kind} ${item.id}` && !audio.paused;
  one.setAttribute("aria-pressed", String(Boolean(heard)));
  one.replaceChildren(sign(heard ? SIGNS.pause : SIGNS.play));
}

function markAll() {
  for (const one of document.querySelectorAll("[data-plays]")) mark(one);
}
