// How good is this model? What `undersong evaluate` found, in words, small plots and numbers.

import { note, state } from "./address.js";
import { byId, count, element, trouble } from "./elements.js";
import { digits, interval, reliability } from "./plots.js";
import { ask } from "./service.js";

const LEAD = { cold: "ndcg@200", linked: "ndcg@200", paper: "recall@10" };
const SHOWN = ["long-tail share", "coverage", "gini", "hubness", "nobody's neighbour"];
const MEANINGS = {
  ndcg: "how high known relations stand among the answers; 1 if they stand first, all of them",
  recall: "the share of the known relations that the list holds",
  hit: "the share of those who ask with at least one known relation in the list",
  map: "how exact the list is wherever it holds a known relation, on average",
  consistent: "the share of genre, region and popularity that an answer has in common; the models read these",
  strict_consistent: "the share of answers with all of these in common",
  withheld_consistent: "what answers have in common in fields that no model reads",
  coverage: "the share of all items that is an answer to anybody",
  gini: "how unequally often items are shown: 0 alike, 1 one takes all",
  hubness: "how strongly a few items crowd everybody's list; 0 not at all",
  "nobody's neighbour": "the share of items that stand in nobody's list",
  "long-tail share": "the share of the answers that nobody has linked",
  popularity: "how popular the answers are, among all items",
};

let report = null;

/** Show the report, asked for once. */
export async function showReport() {
  const page = byId("report");
  document.title = "How good is this model? – undersong";
  const title = element("h1", { id: "report-name", tabindex: -1 }, "How good is this model?");
  const back = element("p", {}, element("a", { href: "./" }, "Back to the music"));
  try {
    report ??= await ask("api/report");
    page.replaceChildren(title, back, ...sections());
  } catch (error) {
    page.replaceChildren(title, trouble(error, error.status ? {} : { retry: showReport }), back);
  }
  title.focus();
}

function sections() {
  const protocol = report.protocols.find((one) => one.name === state().protocol) ?? report.protocols[0];
  return [
    ...lead(report.protocols[0]),
    methods(protocol),
    exposure(protocol),
    trust(),
    notes(),
  ].filter(Boolean);
}

const short = (metric) => metric.split("@")[0];
const ours = (method) => method === "undersong" || method === report.reference;
const best = () => (report.methods.some(([name]) => name === "undersong") ? "undersong" : report.reference);
const named = (protocol, wanted) => Object.keys(protocol.slices[0].numbers[best()] ?? {})
  .find((metric) => short(metric) === wanted);

function lead(protocol) {
  const [all] = protocol.slices;
  const of = (method, metric) => all.numbers[method]?.[metric]?.mean.value;
  const hit = named(protocol, "hit");
  const lost = named(protocol, "nobody's neighbour");
  const of100 = (value) => Math.round(100 * value);
  const words = [];
  if (hit && of(best(), hit) !== undefined) {
    words.push(`For ${of100(of(best(), hit))} of 100 ${report.kind}s at least one of the first `
      + `${report.k} answers is a relation that was hidden from the model; by chance, for `
      + `${of100(of("random", hit) ?? 0)} of 100.`);
  }
  if (lost && of(best(), lost) !== undefined) {
    words.push(`Nobody's list holds ${of100(of(best(), lost))} of 100 ${report.kind}s.`);
  }
  return [
    element("p", { class: "lead" }, `${protocol.meaning} ${words.join(" ")}`),
    element("p", { class: "note" }, "Known relations are what people wrote down. An answer that nobody "
      + "wrote down may still be right, so these numbers compare methods; they are no marks out of one."),
  ];
}

function methods(protocol) {
  const now = state();
  const slices = protocol.slices.filter((one) => Object.keys(one.numbers).length);
  const slice = slices.find((one) => one.name === now.slice) ?? slices[0];
  const metrics = [...new Set(Object.values(slice.numbers).flatMap((one) => Object.keys(one)))].sort();
  const wanted = LEAD[protocol.name.split(",")[0]];
  const metric = [now.metric, wanted, metrics[0]].find((one) => metrics.includes(one));
  const rows = report.methods.filter(([name]) => slice.numbers[name]?.[metric])
    .map(([name, about]) => ({ name, about, ...slice.numbers[name][metric] }));
  const ends = rows.flatMap(({ mean }) => [mean.value, mean.low ?? mean.value, mean.high ?? mean.value]);
  const span = { from: Math.min(0, ...ends), to: Math.max(...ends) };
  return element(
    "section",
    { "aria-labelledby": "methods-name" },
    element("h2", { id: "methods-name" }, "Method by method"),
    element("form", { class: "choices", onsubmit: (event) => event.preventDefault() },
      choice("How it is asked", "protocol", report.protocols.map((one) => one.name), protocol.name),
      choice("Who asks", "slice", slices.map((one) => one.name), slice.name),
      choice("What is measured", "metric", metrics, metric)),
    element("p", {}, `${protocol === report.protocols[0] ? "" : `${protocol.meaning} `}${count(slice.queries, report.kind)} ask; `
      + `${protocol.candidates.toLocaleString("en")} may be an answer.`),
    element("p", {}, element("b", {}, metric), ": ", MEANINGS[short(metric)] ?? "", "."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of methods" }, element(
      "table",
      { class: "numbers" },
      element("caption", { class: "unseen" }, `${metric}, ${protocol.name}, ${slice.name}`),
      element("thead", {}, element("tr", {}, ["method", "", metric, "95 %", `above ${report.reference}`]
        .map((text) => (text ? element("th", { scope: "col" }, text) : element("td"))))),
      element("tbody", {}, rows.map(({ name, about, mean, difference }) => element(
        "tr",
        { class: ours(name) ? "ours" : null },
        element("th", { scope: "row" }, name, element("small", {}, about ?? "")),
        element("td", {}, interval(mean, { ...span, ours: ours(name), tail: metric === "long-tail share" })),
        element("td", {}, digits(mean.value)),
        element("td", {}, bounds(mean)),
        element("td", {}, difference ? `${digits(difference.value)} ${bounds(difference)}` : "–"),
      ))),
    )),
  );
}

const bounds = ({ low, high }) => (low === null ? "" : `[${digits(low)}, ${digits(high)}]`);

function choice(name, key, all, now) {
  return element("label", {}, element("span", {}, name), element("select", {
    name: key,
    onchange: (event) => {
      note({ [key]: event.target.value });
      byId("report").replaceChildren(...byId("report").querySelectorAll(":scope > h1, :scope > h1 + p"),
        ...sections());
      byId("report").querySelector(`select[name=${key}]`).focus();
    },
  }, all.map((one) => element("option", { value: one, selected: one === now }, one))));
}

function exposure(protocol) {
  const [all] = protocol.slices;
  const found = SHOWN.map((wanted) => named(protocol, wanted)).filter(Boolean);
  const rows = report.methods.map(([name]) => name)
    .filter((name) => found.some((metric) => all.numbers[name]?.[metric]));
  if (!found.length || !rows.length) return null;
  return element(
    "section",
    { "aria-labelledby": "shown-name" },
    element("h2", { id: "shown-name" }, "Who is shown, and who never is"),
    element("p", {}, "A method may be exact and yet show the same few to everybody. Hubness tells."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of exposure" }, element(
      "table",
      { class: "numbers" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "method"), found.map((metric) => (
        element("th", { scope: "col", class: metric === "long-tail share" ? "tail" : null }, metric))))),
      element("tbody", {}, rows.map((name) => element(
        "tr",
        { class: ours(name) ? "ours" : null },
        element("th", { scope: "row" }, name),
        found.map((metric) => element("td", {}, all.numbers[name][metric]
          ? digits(all.numbers[name][metric].mean.value) : "–")),
      ))),
    )),
    element("ul", { class: "note" }, found.map((metric) => element("li", {}, `${metric}: ${MEANINGS[short(metric)]}.`))),
  );
}

function trust() {
  const groups = Object.entries(report.reliability ?? {});
  if (!groups.length) return null;
  const [sure, right, n] = groups[0][1].at(-1);
  const percent = (value) => `${Math.round(100 * value)} %`;
  return element(
    "section",
    { "aria-labelledby": "trust-name" },
    element("h2", { id: "trust-name" }, `How far to trust “${percent(sure)} sure”`),
    element("p", {}, "How sure an answer is: the chance that somebody who looked at both would list the pair. "
      + "It is told apart for those that are linked and those that nobody has linked, so that nobody is less sure "
      + "because nobody has listed it."),
    element("p", {}, `The surest ${n.toLocaleString("en")} ${groups[0][0]} answers to ${report.kind}s that were kept from the model were `
      + `${percent(sure)} sure on average; people had written down ${percent(right)} of them. Each disc is a group of `
      + "answers, larger where there are more of them. On the dashed line it is right as often as it is sure."),
    groups.map(([name, rows]) => element(
      "figure", {}, element("figcaption", { class: name === "unlinked" ? "tail" : null }, name), reliability(rows),
    )),
  );
}

function notes() {
  const fields = report.withheld.length ? `Withheld from all models: ${report.withheld.join(", ")}. ` : "";
  return element("p", { class: "note" }, `Intervals hold the number with 95 %: ${report.resamples.toLocaleString("en")} `
    + `resamples of those who ask. ${fields}Popularity is measured ${report.popularity}. `
    + "`undersong report` writes all of it as one file, with the model card.");
}
