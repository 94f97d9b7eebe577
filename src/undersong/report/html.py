"""The report as one HTML file that opens anywhere: figures, tables and the model card.

No script, font, picture or style is fetched; the page says so to the browser, too.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from undersong.errors import ArtifactError
from undersong.evaluation.results import RANKED, Protocol, Report
from undersong.io.files import replacing
from undersong.progress import Progress, silent
from undersong.report import card, layout, markup, plots, saved
from undersong.report.axes import percent
from undersong.report.findings import ANSWERS, LIST, Findings, Sample, find
from undersong.report.layout import Table, digits
from undersong.report.markup import Markup, name_of, tag
from undersong.report.style import CSS
from undersong.runs import Run

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
DIAL = (RANKED, f"{RANKED}, long tail 0.5", f"{RANKED}, long tail 1")
MARKS = ("strong", "hollow", "square", "cross")
EXPOSURE = "long-tail share"


def write(
    run: Run,
    path: Path,
    *,
    catalogue_folder: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> int:
    """Write the page of a run that was evaluated, whole or not at all; gives its size in bytes.

    Raises
    ------
    ArtifactError
        If the run has no report of this training, or the catalogue given is another one.
    """
    place = saved.place(run)
    if place is None:
        raise ArtifactError(
            f"{run.folder} has no {saved.REPORT} of generation {run.generation}; make it with: "
            f"undersong evaluate {run.folder}"
        )
    report = saved.read(place)
    found = find(run, catalogue_folder=catalogue_folder, seed=seed, progress=progress)
    text = page(run, report, found=found)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path.stat().st_size


def page(run: Run, report: Report, *, found: Findings) -> str:
    """Put the whole page together."""
    name = run.folder.resolve().name
    sections = [
        _data(run, found),
        _accuracy(report),
        _exposure(report, found),
        _confidence(run),
        _samples(found),
        _map(found),
        _methods(report),
        card.card(run, found),
    ]
    shown = [x for x in sections if x]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"undersong report: {name}"),
        tag("style", Markup(CSS)),
    )
    body = tag("body", tag("header", *_header(run, report, name)), tag("main", shown))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _header(run: Run, report: Report, name: str) -> Iterator[Markup]:
    trained = run.trained
    yield tag("h1", "How good the answers are")
    yield tag(
        "p",
        "Run ",
        name_of(name),
        f". {report.part.capitalize()} {report.kind}s ask. Trained {trained['made'][:10]}, "
        f"generation {trained['generation']}, content {trained['content'][:12]}. In every figure ",
        tag("mark", "this colour"),
        " is the long tail: items of which nobody has stated a relation.",
        class_="lead",
    )
    protocol = report.protocols[0]
    metric = layout.lead(protocol, report)
    best = _leader(report)
    numbers = protocol.slices[0].numbers.get(best, {})
    tiles = [
        (f"{x} of {best}", numbers[x].mean, f"random {_of(protocol, 'random', x)}")
        for x in (metric, f"hit@{report.k}", EXPOSURE, "nobody's neighbour")
        if x in numbers
    ]
    yield tag(
        "dl",
        (
            tag("div", tag("dt", title), tag("dd", digits(x.value), tag("small", note)))
            for title, x, note in tiles
        ),
        class_="tiles",
    )
    links = [
        ("data", "Data"),
        ("accuracy", "Accuracy"),
        ("exposure", "Who is shown"),
        ("samples", "Samples"),
        ("methods", "All methods"),
        ("card", "Model card"),
    ]
    yield tag(
        "nav",
        tag("ul", (tag("li", tag("a", text, href=f"#{at}")) for at, text in links)),
        aria_label="Sections",
    )


def _data(run: Run, found: Findings) -> Markup:
    of_kind = next((x for x in found.described if x.kind == found.kind), None)
    if of_kind:
        rows = [
            (f"{x.source} of tracks" if x.note.endswith("of a track") else x.source, *shares)
            for x in of_kind.coverage
            for shares in [(x.share, x.long_tail_share)]
        ]
        caption = (
            "What is known: share of all items (grey) and of the long tail that each source covers."
        )
    else:
        rows = [(name, float(x), None) for name, x in run.manifest["sources"].items()]
        caption = "What is known: share of all items that each source covers."
    words = "; ".join(f"{name} {percent(share)}" for name, share, _ in rows)
    return tag(
        "section",
        tag("h2", "Data"),
        tag(
            "div",
            _figure(
                plots.long_tail(found.relations),
                f"Known relations of each of {len(found.relations):,} {found.kind}s, the best "
                "linked first (figure 1 of the paper). Where the curve ends the long tail begins.",
            ),
            _figure(plots.bars(rows, alt=f"Coverage: {words}."), caption),
            class_="pair",
        ),
        id="data",
    )


def _accuracy(report: Report) -> Markup:
    drawn = []
    for protocol in report.protocols:
        metric = layout.lead(protocol, report)
        chosen = _compared(protocol, metric, report)
        if not any(x.answerable for x in protocol.slices[2:]) or not chosen:
            continue
        marks = list(zip(chosen, MARKS, strict=False))
        drawn.append(
            tag(
                "div",
                tag("h3", f"Protocol {protocol.name}"),
                tag("p", protocol.meaning, " ", layout.count_line(protocol, report)),
                _key(marks),
                _figure(
                    plots.by_slice(protocol, metric, marks),
                    f"{metric} by number of relations; lines are 95 % intervals.",
                ),
                _numbers(layout.by_slice(protocol, report, metric, layout.bounds)),
            )
        )
    told = drawn or tag("p", layout.unjudged(report))
    return tag("section", tag("h2", "Accuracy, from few relations to many"), told, id="accuracy")


def _exposure(report: Report, found: Findings) -> Markup:
    protocol = report.protocols[0]
    metric = layout.lead(protocol, report)
    numbers = protocol.slices[0].numbers
    rows = [
        (name, numbers[name][EXPOSURE].mean.value, numbers[name][metric].mean.value)
        for name, _ in report.methods
        if {EXPOSURE, metric} <= set(numbers.get(name, {}))
    ]
    parts: list[Markup] = []
    if rows:
        share = float((found.relations == 0).mean())
        joined = [x for x in DIAL if x in numbers]
        told = "The line is the dial of the default answers, --long-tail 0, 0.5 and 1. "
        caption = (
            f"Accuracy against exposure, protocol {protocol.name}. {told if joined[1:] else ''}"
            "Answers by chance show the long tail as often as it stands in the data."
        )
        parts.append(_figure(plots.dial(rows, joined=joined, share=share, metric=metric), caption))
    pictures = []
    for way, counts in found.shown.items():
        lost = counts == 0
        tail = float(lost[found.shown_tail].mean()) if found.shown_tail.any() else None
        caption = f"{way[0].upper()}{way[1:]}: {percent(float(lost.mean()))} stand in nobody's list"
        caption += f", of the long tail {percent(tail)}." if tail is not None else "."
        caption += f" The most shown item stands in {int(counts.max()):,} lists."
        picture = plots.shown(counts, found.shown_tail, title=way)
        pictures.append(_figure(picture, caption))
    parts.append(tag("h3", "How often each item is shown"))
    parts.append(
        tag(
            "p",
            f"Each of {found.asked:,} {found.kind}s asks for its {LIST} nearest; counted is in how "
            f"many of these lists an item stands. On average it is {LIST}; few lists for many "
            "items, and very many for some, is called hubness. All relations may be read here, as "
            "in use.",
        )
    )
    parts.append(tag("div", pictures, class_="pair"))
    return tag("section", tag("h2", "Who is shown"), parts, id="exposure")


def _confidence(run: Run) -> Markup | None:
    rows = (run.manifest["ranking"] or {}).get("reliability")
    if not rows:
        return None
    table = markup.table(
        "Answers to validation items by confidence",
        ("mean confidence", "known relations among them", "answers"),
        ((percent(sure), percent(right), f"{int(n):,}") for sure, right, n in rows),
        class_="numbers",
    )
    return tag(
        "section",
        tag("h2", "How far to trust the confidence"),
        _figure(
            plots.reliability(rows),
            "On the dashed line the confidence is exactly right. A disc is as large as the number "
            "of answers behind it.",
        ),
        table,
        id="confidence",
    )


def _samples(found: Findings) -> Markup | None:
    groups = zip(("Well-known", "Long tail"), found.samples, strict=True)
    drawn = [
        markup.join([tag("h3", title), tag("div", map(_sample, samples), class_="cards")])
        for title, samples in groups
        if samples
    ]
    text = (
        f"Drawn at random, not chosen. The {ANSWERS} nearest; the percentage is the confidence, "
        "and a known relation stands first."
    )
    return tag("section", tag("h2", "Samples"), tag("p", text), drawn, id="samples")


def _sample(sample: Sample) -> Markup:
    known = f"{sample.relations:,} known relations" if sample.relations else "no known relation"
    note = tag("small", "; ".join(x for x in (sample.about, known) if x))
    rows: list[tuple[str, str, str]] = []
    for name, about, sure, tail in sample.answers:
        shown = tag("mark", name_of(name)) if tail else name_of(name)
        certain = "" if sure is None else "known" if sure == 1 else f"{sure:.0%}"
        rows.append((shown, certain, name_of(about)))
    if not rows:
        rows = [("no answer", "", "")]
    return markup.table((name_of(sample.name), note), ("similar", "sure", "what it is"), rows)


def _map(found: Findings) -> Markup | None:
    if found.map is None:
        return None
    caption = (
        "Every dot is one item, near those it is similar to (t-SNE of E_G). Distances between far "
        "places mean nothing."
    )
    return tag("section", tag("h2", "The map"), _figure(plots.places(found.map), caption), id="map")


def _methods(report: Report) -> Markup:
    drawn: list[Markup] = []
    for protocol in report.protocols:
        tables = []
        if names := layout.metric_names(protocol.slices[0], layout.ACCURACY):
            tables = [
                layout.accuracy(protocol, report, names, layout.bounds),
                layout.differences(protocol, report, names),
            ]
        tables += [
            layout.consistency(protocol, report, layout.bounds),
            layout.beyond_accuracy(protocol, report, layout.bounds),
        ]
        drawn.append(tag("h3", f"Protocol {protocol.name}"))
        drawn += [_numbers(x) for x in tables if len(x.header) > 1 and x.rows]
    about = [(name, note or "") for name, note in report.methods]
    return tag(
        "section",
        tag("h2", "All methods"),
        markup.table("What each method is", ("method", "what it is"), about),
        drawn,
        tag("ul", (tag("li", markup.coded(x)) for x in layout.notes(report)), class_="note"),
        id="methods",
    )


def _numbers(table: Table) -> Markup:
    """Write a table of numbers, the bounds of each in smaller print."""

    def cell(text: str) -> Markup:
        value, opening, rest = text.partition(" [")
        return markup.join([value, tag("small", f" [{rest}") if opening else None])

    rows = ((first, *map(cell, rest)) for first, *rest in table.rows)
    header = ("method", *table.header[1:])
    return markup.table(table.title, header, rows, class_="numbers")


def _compared(protocol: Protocol, metric: str, report: Report) -> list[str]:
    """At most four methods to draw: ours, the paper's, the best other, and chance."""
    numbers = protocol.slices[0].numbers
    there = [x for x, _ in report.methods if metric in numbers.get(x, {})]
    with_edges = f"{RANKED}, with edges"
    ours = with_edges if with_edges in there else RANKED
    first = [x for x in (ours, report.reference) if x in there]
    ours_all = {*DIAL, with_edges, report.reference, "random"}
    others = [x for x in there if x not in ours_all]
    best = sorted(others, key=lambda x: -numbers[x][metric].mean.value)[:1]
    return [*first, *best, *(x for x in there if x == "random")]


def _leader(report: Report) -> str:
    """What answers by default: the learned order, or else the reference."""
    return RANKED if any(x == RANKED for x, _ in report.methods) else report.reference


def _of(protocol: Protocol, method: str, metric: str) -> str:
    number = protocol.slices[0].numbers.get(method, {}).get(metric)
    return digits(number.mean.value) if number else "unknown"


def _key(marks: Sequence[tuple[str, str]]) -> Markup:
    def one(name: str, kind: str) -> Markup:
        drawn = tag("svg", plots.mark(kind, 6, 6), viewBox="0 0 12 12", aria_hidden="true")
        return tag("span", drawn, name)

    return tag("div", (one(name, kind) for name, kind in marks), class_="key")


def _figure(picture: Markup, caption: str) -> Markup:
    return tag("figure", picture, tag("figcaption", caption))
