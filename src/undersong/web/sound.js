// What sounds like this? A file that is dropped or chosen is heard by the service and not kept.

import { address, go } from "./address.js";
import { announce, byId } from "./elements.js";
import { showHeard } from "./card.js";
import { ask, Refused } from "./service.js";
import { text } from "./texts.js";

const LARGEST = 20_000_000; // bytes that the service takes

let heard = null; // the last file, while this page stays open

/** Take files that are dropped anywhere, or chosen. */
export function startSound() {
  const chooser = byId("song");
  chooser.addEventListener("change", () => {
    if (chooser.files.length) take(chooser.files[0]);
    chooser.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    if (!byId("drop").hidden) document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

function take(file) {
  heard = { file, answers: null };
  go(address({ heard: file.name }));
}

/** Show the answers to a file; gives their ids, and no item. After a reload there is no file to ask about. */
export async function showSound(name) {
  if (heard?.file.name !== name) {
    const error = new Refused(text("notKept"), 413);
    showHeard(name, { error });
    return { item: null, ids: [] };
  }
  const again = () => showSound(name);
  try {
    if (heard.file.size > LARGEST) {
      throw new Refused(text("tooLarge", { n: Math.ceil(heard.file.size / 1e6) }), 413);
    }
    showHeard(name, {});
    announce(text("listening"));
    heard.answers ??= await send(heard.file);
    showHeard(name, { answers: heard.answers });
    return { item: null, ids: heard.answers.answers.map((one) => one.item.id) };
  } catch (error) {
    const lasting = [413, 415, 501].includes(error.status);
    showHeard(name, { error, again: lasting ? null : again });
    return { item: null, ids: [] };
  }
}

function send(file) {
  const body = new FormData();
  body.set("file", file, file.name);
  return ask("api/sounds-like", { k: 20 }, { body });
}
