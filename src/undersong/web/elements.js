// Elements of the page from data. Text is only ever a text node, so no name can become markup.

import { text } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "line", "rect", "circle", "path", "polyline", "title"]);

/**
 * Make an element. Attributes that are null or false are left out; `onclick` and the like are
 * listeners; `style` is an object of properties, set one by one as the content policy asks.
 */
export function element(name, attributes = {}, ...children) {
  const made = DRAWN.has(name) || (name === "text")
    ? document.createElementNS(SVG, name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") {
      for (const [property, worth] of Object.entries(value)) made.style.setProperty(property, worth);
    } else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child || child === 0));
  return made;
}

/** A name as its own piece of text: one that runs from right to left moves nothing beside it. */
export const named = (name) => element("bdi", {}, name);

/** A button; its label is what a screen reader says where the content is a sign. */
export const button = (content, onclick, { label = null, ...more } = {}) => (
  element("button", { type: "button", "aria-label": label, onclick, ...more }, content));

/** A sign that pictures what a button does, hidden from those who hear its label. */
export const sign = (path) => element("svg", { viewBox: "0 0 16 16", class: "sign", "aria-hidden": "true" },
  element("path", { d: path }));
export const SIGNS = {
  play: "M4 2.5v11l9-5.5z", pause: "M4 3h3v10H4zM9 3h3v10H9z", add: "M7 2h2v5h5v2H9v5H7V9H2V7h5z",
  took: "M6.2 12.6 2 8.4l1.4-1.4 2.8 2.8L12.6 3.4 14 4.8z", close: "m3.4 2 4.6 4.6L12.6 2 14 3.4 9.4 8l4.6 4.6-1.4 1.4L8 9.4 3.4 14 2 12.6 6.6 8 2 3.4z",
  up: "M8 3l5.5 6h-11z", down: "M8 13l5.5-6h-11z", next: "M2 2.5 10 8l-8 5.5zM11 3h2.5v10H11z", previous: "M14 2.5 6 8l8 5.5zM2.5 3H5v10H2.5z",
};

export const byId = (id) => document.getElementById(id);

/** Tell those who listen instead of looking. */
export function announce(message) {
  byId("status").textContent = message;
}

/** What went wrong as a sentence, with a way on. */
export function trouble(error, { retry = null, word = text("again") } = {}) {
  const first = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  const sentence = /[.!?]$/.test(first) ? first : `${first}.`;
  return element(
    "div",
    { class: "trouble", role: "alert" },
    element("p", { lang: error.status ? "en" : null }, sentence),
    retry && button(word, retry),
  );
}
