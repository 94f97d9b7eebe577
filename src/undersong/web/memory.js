// What this browser remembers; nothing where its reader allows no page to.

const place = (tab) => (tab ? sessionStorage : localStorage);

/** Recall a text; null where there is none. With `tab`, what this tab alone remembers. */
export function recall(key, { tab = false } = {}) {
  try {
    return place(tab).getItem(`undersong ${key}`);
  } catch {
    return null;
  }
}

/** Remember a text; with `tab` until the tab is closed. */
export function remember(key, value, { tab = false } = {}) {
  try {
    place(tab).setItem(`undersong ${key}`, value);
  } catch { /* then it is forgotten */ }
}
