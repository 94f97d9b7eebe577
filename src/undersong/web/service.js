// Questions to the service: JSON in, or a Refused that says in a sentence what is wrong.

import { recall, remember } from "./memory.js";
import { text } from "./texts.js";

/** An answer that did not come; status 0 where nobody answered at all. */
export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** Keep a token for as long as this tab is open: never in the address, which people share. */
export function keepToken(value) {
  remember("token", value, { tab: true });
}

export const token = () => recall("token", { tab: true });

/**
 * Ask the service. Parameters that are null or "" are left out, a list stands there again; `body` makes it a POST.
 * @throws {Refused} with one sentence; an AbortError if `signal` says so
 */
export async function ask(path, parameters = {}, { signal = null, body = null } = {}) {
  let reply;
  try {
    reply = await fetch(`${path}${query(parameters)}`, {
      signal,
      body,
      method: body ? "POST" : "GET",
      headers: token() ? { Authorization: `Bearer ${token()}` } : {},
    });
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Refused(text("noServiceText"), 0);
  }
  let content;
  try {
    content = await reply.json();
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Refused(text("notJson", { n: reply.status }), reply.status);
  }
  if (!reply.ok) throw new Refused(content.error ?? text("status", { n: reply.status }), reply.status);
  return content;
}

/** Path of an item in the API. */
export const itemPath = (item) => `api/items/${item.kind}/${encodeURIComponent(item.id)}`;

/** Address of an item's sound, with the token, as players send no header. */
export function soundOf(item) {
  return `media/${item.kind}/${encodeURIComponent(item.id)}${query({ token: token() })}`;
}

function query(parameters) {
  const pairs = Object.entries(parameters).flatMap(([key, value]) => [value].flat()
    .filter((one) => one !== null && one !== undefined && one !== "").map((one) => [key, one]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
}
