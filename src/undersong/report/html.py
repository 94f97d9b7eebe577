"""The report as one HTML file that opens anywhere: figures, tables and the model card.

No script, font, picture or style is fetched; the page says so to the browser, too.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from undersong.errors import ArtifactError
from undersong.evaluation.results import RANKED, Evaluation, Protocol
from undersong.io.files import replacing
from undersong.progress import Progress, silent
from undersong.report import formats, layout, plots
from undersong.report.contents import ANSWERS, LIST_LENGTH, Contents, collect
from undersong.report.layout import digits, in_words, is_degree, is_popularity
from undersong.report.plots import percent
from undersong.runs import Run

# What XML forbids in text, and browsers drop or misread.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
WITH_EDGES = f"{RANKED}, with edges"
LONG_TAIL = (RANKED, f"{RANKED}, long tail 0.5", f"{RANKED}, long tail 1")
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
    """Write the page of an evaluated run, whole or not at all; return its size in bytes.

    Raises
    ------
    ArtifactError
        If the run has no report of this training, or ``catalogue_folder`` holds another catalogue.
    """
    report_path = formats.path_of(run)
    if report_path is None:
        raise ArtifactError(
            f"{run.folder} has no {formats.REPORT} of generation {run.generation}; make it "
            f"with: undersong evaluate {run.folder}"
        )
    report = formats.read(report_path)
    contents = collect(run, catalogue_folder=catalogue_folder, seed=seed, progress=progress)
    with replacing(path) as temporary:
        temporary.write_text(page(run, report, contents=contents), encoding="utf-8")
    return path.stat().st_size


def page(run: Run, report: Evaluation, *, contents: Contents) -> str:
    """Return the whole page."""
    template = _environment().get_template("report.html")
    text = template.render(
        run=run,
        name=run.folder.resolve().name,
        report=report,
        contents=contents,
        k=LIST_LENGTH,
        answers=ANSWERS,
        default_method=layout.default_method(report),
        summary=layout.summary(report),
        tiles=list(_tiles(report)),
        long_tail=plots.long_tail(contents.relations),
        coverage=plots.bars(_coverage(run, contents)),
        by_relations=[_by_relations(x, report) for x in _judged(report)],
        unjudged=layout.unjudged(report),
        trade_off=_trade_off(report, contents),
        appearances=list(_appearances(contents)),
        reliability=list(_reliability(run)),
        confidence=layout.CONFIDENCE,
        item_map=contents.map and plots.item_map(contents.map),
        methods=[(x.name, layout.tables(x, report, slices=False)) for x in report.protocols],
        meanings=list(layout.METRICS.items()),
        notes=layout.notes(report),
        training=list(_training(run)),
        settings=list(_flat(run.manifest["settings"])),
    )
    return UNPRINTABLE.sub("\ufffd", text) + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("undersong.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "thousands": "{:,.0f}".format}
    environment.filters |= {"in_words": in_words, "test": layout.protocol_in_words}
    return environment


def _tiles(report: Evaluation) -> Iterator[tuple[str, str, str]]:
    """Yield the leading metrics of the default answers: name, value, value of random answers."""
    metrics = layout.lead(report.protocols[0], report), f"hit@{report.k}", EXPOSURE
    numbers = report.protocols[0].slices[0].numbers
    values = numbers.get(layout.default_method(report), {})
    chance = numbers.get("random", {})
    for name in (*metrics, "nobody's neighbour"):
        if name in values:
            random = digits(chance[name].mean.value) if name in chance else "unknown"
            yield name, digits(values[name].mean.value), random


def _coverage(run: Run, contents: Contents) -> list[tuple[str, float, float | None]]:
    """Return each source with its share of all items and, if described, of the long tail."""
    for description in contents.described:
        if description.kind == contents.kind:
            return [
                (
                    f"{x.source} of tracks" if x.note.endswith("of a track") else x.source,
                    x.share,
                    x.long_tail_share,
                )
                for x in description.coverage
            ]
    return [(name, float(share), None) for name, share in run.manifest["sources"].items()]


def _judged(report: Evaluation) -> list[Protocol]:
    """Return the protocols with an answerable query in a slice by relations."""
    return [
        x
        for x in report.protocols
        if any(part.answerable for part in x.slices[2:]) and _compared(x, report)
    ]


def _by_relations(protocol: Protocol, report: Evaluation) -> dict[str, Any]:
    metric = layout.lead(protocol, report)
    methods = list(zip(_compared(protocol, report), MARKS, strict=False))
    return {
        "name": protocol.name,
        "meaning": f"{protocol.meaning} {layout.count_line(protocol, report)}",
        "metric": metric,
        "marks": [(name, plots.mark(kind, 6, 6)) for name, kind in methods],
        "pictures": list(_pictures(protocol, metric, methods)),
        "tables": layout.by_slice(protocol, report, metric, layout.bounds),
    }


def _pictures(
    protocol: Protocol, metric: str, methods: list[tuple[str, str]]
) -> Iterator[tuple[Markup, str]]:
    """Draw the lead metric by links and, in ``found``, by popularity; with what it is by."""
    every = [x for x in protocol.slices[2:] if x.answerable]
    degrees, fifths = ([x for x in every if of(x)] for of in (is_degree, is_popularity))
    visible = any(x.name.startswith("visible") for x in degrees)
    label = "links that are visible" if visible else "links, all hidden"
    if degrees:
        yield plots.by_slice(degrees, metric, methods, x_label=label), "number of links"
    if fifths:
        label = "popularity of the query (%)"
        yield plots.by_slice(fifths, metric, methods, x_label=label), "popularity of the query"


def _compared(protocol: Protocol, report: Evaluation) -> list[str]:
    """Return at most four methods to draw: ours, the paper's, the best other, and chance."""
    metric, numbers = layout.lead(protocol, report), protocol.slices[0].numbers
    scores = {
        name: numbers[name][metric].mean.value
        for name, _ in report.methods
        if metric in numbers.get(name, {})
    }
    ours = WITH_EDGES if WITH_EDGES in scores else RANKED
    others = scores.keys() - {*LONG_TAIL, WITH_EDGES, report.reference, "random"}
    best = max((x for x in scores if x in others), key=scores.__getitem__, default="random")
    return [x for x in dict.fromkeys((ours, report.reference, best, "random")) if x in scores]


def _trade_off(report: Evaluation, contents: Contents) -> dict[str, Any] | None:
    """Accuracy against exposure, with the methods that differ in ``--long-tail`` joined."""
    protocol = report.protocols[0]
    metric, numbers = layout.lead(protocol, report), protocol.slices[0].numbers
    rows = [
        (name, numbers[name][EXPOSURE].mean.value, numbers[name][metric].mean.value)
        for name, _ in report.methods
        if {EXPOSURE, metric} <= numbers.get(name, {}).keys()
    ]
    if not rows:
        return None
    joined = [x for x in LONG_TAIL if x in numbers]
    share = float((contents.relations == 0).mean())
    picture = plots.trade_off(rows, joined=joined, share=share, metric=metric)
    return {"picture": picture, "joined": len(joined) > 1}


def _appearances(contents: Contents) -> Iterator[dict[str, Any]]:
    tail = contents.long_tail
    for method, counts in contents.appearances.items():
        yield {
            "method": f"{method[0].upper()}{method[1:]}",
            "picture": plots.appearances(counts, tail, title=method),
            "missing": float((counts == 0).mean()),
            "missing_tail": float((counts[tail] == 0).mean()) if tail.any() else None,
            "most": int(counts.max()),
        }


def _reliability(run: Run) -> Iterator[dict[str, Any]]:
    for kind, rows in layout.reliability(run.manifest["ranking"]).items():
        cells = [(percent(sure), percent(right), f"{int(n):,}") for sure, right, n in rows]
        yield {"kind": kind, "picture": plots.reliability(rows), "rows": cells}


def _training(run: Run) -> Iterator[tuple[str, str]]:
    manifest, trained = run.manifest, run.trained
    yield "trained", trained["made"]
    yield "generation", f"{trained['generation']}, content {trained['content'][:12]}"
    yield "catalogue", f"fingerprint {manifest['catalogue'][:12]}"
    yield "seed", str(manifest["settings"]["run"]["seed"])
    yield "seconds", ", ".join(f"{name} {x:,.0f}" for name, x in manifest["seconds"].items())
    for name, stage in manifest["training"].items():
        if stage is not None:
            yield f"best step of {name}", f"{stage['best_step']} of {stage['steps']}"
    yield "versions", ", ".join(f"{name} {x}" for name, x in trained["versions"].items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting by its dotted name."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
