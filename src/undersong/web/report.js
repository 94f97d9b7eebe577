// How good is this model? What `undersong evaluate` found, in words, pictures and numbers.

import { byId, element, trouble } from "./elements.js";
import { ask } from "./service.js";

/** Show the report, asked once. */
export async function showReport() {
  const page = byId("report");
  document.title = "How good is this model? – undersong";
  try {
    const report = await ask("api/report");
    page.replaceChildren(element("h1", { id: "report-name", tabindex: -1 }, "How good is this model?"));
  } catch (error) {
    page.replaceChildren(element("h1", { id: "report-name" }, "How good is this model?"), trouble(error));
  }
}
