// Elements of the page from data. Text is only ever a text node, so no name can become markup.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "line", "rect", "circle", "path", "polyline", "text", "title"]);

/**
 * Make an element. Attributes that are null or false are left out; `onclick` and the like are
 * listeners; `style` is an object of properties, set one by one as the content policy asks.
 */
export function element(name, attributes = {}, ...children) {
  const made = DRAWN.has(name)
    ? document.createElementNS(SVG, name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") {
      for (const [property, said] of Object.entries(value)) made.style.setProperty(property, said);
    } else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A name as its own piece of text: one that runs from right to left moves nothing beside it. */
export const named = (text) => element("bdi", {}, text);

export const byId = (id) => document.getElementById(id);

/** Tell those who listen instead of looking. */
export function announce(text) {
  byId("status").textContent = text;
}

/** What went wrong as a sentence, with a way on. */
export function trouble(error, { retry = null, word = "Try again" } = {}) {
  const text = error.message.charAt(0).toUpperCase() + error.message.slice(1);
  return element(
    "div",
    { class: "trouble", role: "alert" },
    element("p", {}, /[.!?]$/.test(text) ? text : `${text}.`),
    retry && element("button", { type: "button", onclick: retry }, word),
  );
}

/** 1 artist, 2 artists, 1,234 artists. */
export const count = (number, what) =>
  `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
