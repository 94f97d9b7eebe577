// How good is this model? What `undersong evaluate` found, in words, small plots and numbers.

import { note, state } from "./address.js";
import { byId, element, trouble } from "./elements.js";
import { digits, interval, reliability } from "./plots.js";
import { ask } from "./service.js";
import { count, knows, number, text } from "./texts.js";

const LEAD = { cold: "ndcg@200", linked: "ndcg@200", paper: "recall@10" };
const SHOWN = ["long-tail share", "coverage", "gini", "hubness", "nobody's neighbour"];
const FEW = 30; // queries, below which a difference of methods is luck

/** What a metric is, in a few words; "" of one without. */
function meaning(metric) {
  const key = `m_${short(metric).replaceAll("'", "").replaceAll(/[ -]/g, "_")}`;
  return knows(key) ? text(key) : "";
}

let report = null;

/** Show the report, asked for once. */
export async function showReport(again) {
  const page = byId("report");
  dress();
  document.title = `${text("reportTitle")} – undersong`;
  const title = element("h1", { id: "report-name", tabindex: -1 }, text("reportTitle"));
  const back = element("p", {}, element("a", { href: "./" }, text("back")));
  try {
    report ??= await ask("api/report");
    page.replaceChildren(title, back, ...sections());
  } catch (error) {
    if (error.status === 401) throw error;
    page.replaceChildren(title, trouble(error, error.status ? {} : { retry: again }), back);
  }
  title.focus();
}

function dress() {
  if (byId("report-style")) return;
  document.head.append(element("link", { id: "report-style", rel: "stylesheet", href: new URL("report.css", import.meta.url).href }));
}

function sections() {
  const protocol = report.protocols.find((one) => one.name === state().protocol) ?? report.protocols[0];
  return [
    ...lead(),
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

const protocolOf = (name) => report.protocols.find((one) => one.name.split(",")[0] === name);
const what = () => text(report.kind === "track" ? "tracks" : "artists");
const whole = (value) => Math.round(100 * value);

/** Who is found and who is not, as the report of the command line says it (report/layout.py). */
function lead() {
  const of = (protocol, method, metric) => protocol?.slices[0].numbers[method]?.[metric]?.mean.value;
  const both = (protocol, metric) => [best(), "random"].map((method) => of(protocol, method, metric));
  const [cold, found] = [protocolOf("cold"), protocolOf("found")];
  const sentences = [];
  const [hit, luck] = both(cold, `hit@${report.k}`);
  if (hit !== undefined && luck !== undefined) {
    const n = cold.slices[0].answerable;
    sentences.push(text("hidden", { n, what: what(), k: report.k, ours: Math.round(hit * n), chance: Math.round(luck * n) }));
    if (n < FEW) sentences.push(text("fewToJudge", { n, least: FEW }));
  }
  const [share, chance] = both(found, `recall@${report.k}`);
  if (share !== undefined && chance !== undefined) {
    sentences.push(text("foundShare", { what: what(), k: report.k, ours: whole(share), chance: whole(chance) }));
  }
  const lost = found && named(found, "nobody finds");
  if (lost) sentences.push(text("nobodyFinds", { ours: whole(of(found, best(), lost)), what: what() }));
  return [
    element("p", { class: "lead" }, sentences.join(" ").replaceAll(" %", "\u00a0%")),
    element("p", { class: "note" }, text("noGrades")),
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
    element("h2", { id: "methods-name" }, text("methods")),
    element("form", { class: "choices", onsubmit: (event) => event.preventDefault() },
      choice(text("howAsked"), "protocol", report.protocols.map((one) => one.name), protocol.name),
      choice(text("whoAsks"), "slice", slices.map((one) => one.name), slice.name),
      choice(text("measured"), "metric", metrics, metric)),
    element("p", { lang: "en" }, protocol.meaning),
    element("p", {}, text("queries", { all: count(slice.queries, report.kind), n: protocol.candidates }), " ",
      slice.queries < FEW ? text("fewToJudge", { n: slice.queries, least: FEW }) : ""),
    element("p", {}, element("b", {}, metric), ": ", meaning(metric), "."),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": text("tableOfMethods") }, element(
      "table",
      { class: "numbers" },
      element("caption", { class: "unseen" }, `${metric}, ${protocol.name}, ${slice.name}`),
      element("thead", {}, element("tr", {}, [text("method"), "", metric, "95 %", text("above", { name: report.reference })]
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
    element("h2", { id: "shown-name" }, text("exposure")),
    element("p", {}, text("exposureNote")),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": text("tableOfExposure") }, element(
      "table",
      { class: "numbers" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, text("method")), found.map((metric) => (
        element("th", { scope: "col", class: metric === "long-tail share" ? "tail" : null }, metric))))),
      element("tbody", {}, rows.map((name) => element(
        "tr",
        { class: ours(name) ? "ours" : null },
        element("th", { scope: "row" }, name),
        found.map((metric) => element("td", {}, all.numbers[name][metric]
          ? digits(all.numbers[name][metric].mean.value) : "–")),
      ))),
    )),
    element("ul", { class: "note" }, found.map((metric) => element("li", {}, `${metric}: ${meaning(metric)}.`))),
  );
}

function trust() {
  const groups = Object.entries(report.reliability ?? {});
  if (!groups.length) return null;
  const [sure, right, n] = groups[0][1].at(-1);
  const percent = (value) => `${whole(value)} %`;
  const group = (name) => text(name === "unlinked" ? "groupUnlinked" : "groupLinked");
  return element(
    "section",
    { "aria-labelledby": "trust-name" },
    element("h2", { id: "trust-name" }, text("trust", { sure: percent(sure) })),
    element("p", {}, text("trustNote")),
    element("p", {}, text("trustBest", {
      n, group: group(groups[0][0]), what: what(), sure: percent(sure), right: percent(right),
    })),
    groups.map(([name, rows]) => element(
      "figure", {}, element("figcaption", { class: name === "unlinked" ? "tail" : null }, group(name)), reliability(rows),
    )),
  );
}

function notes() {
  const fields = report.withheld.length ? `${text("withheld", { fields: report.withheld.join(", ") })} ` : "";
  const by = report.popularity && report.popularity !== "by popularity"
    ? `${text("popularityBy", { popularity: report.popularity.replaceAll("_", " ") })} ` : "";
  return element("p", { class: "note" }, fields, by, text("resamples", { n: number(report.resamples), what: what() }));
}
