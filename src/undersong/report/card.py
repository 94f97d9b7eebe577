"""The model card of a run: data, licences, training, limits, and what it is for.

After Mitchell et al., "Model Cards for Model Reporting" (2019). Everything stated as a number or a
name is read from the run or its catalogue; what is not known is said to be so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from undersong.catalogue import KindDescription
from undersong.report import markup
from undersong.report.axes import percent
from undersong.report.findings import Findings
from undersong.report.markup import Markup, tag
from undersong.runs import Run

INTENDED = (
    "Finding artists and tracks that are similar to a given one, the unlinked ones too: for "
    "radio, discovery, browsing a collection, and research on music similarity.",
    "Showing why two items are thought similar, and how sure that is.",
)
OUT_OF_SCOPE = (
    "Judging the quality, worth or originality of music, or deciding about royalties, contracts "
    "or copyright: similar embeddings prove nothing about origin.",
    "Conclusions about people: genre, country and listening here describe catalogue entries.",
    "Items of a world that the training data do not cover, such as other cultures' genres or "
    "kinds of audio: there the confidence is not calibrated.",
)
LIMITS = (
    "A relation that nobody wrote down may still be true. Accuracy counts it as wrong, so "
    "listeners may find more of the answers right than the figures say.",
    "Relations, plays and tags lean to the well-known, and so do the answers: the share of the "
    "long tail among them is shown above, and the dial `--long-tail` moves it.",
    "The confidence is calibrated on validation items of this catalogue, and says how often "
    "somebody wrote such a relation down.",
)


def card(run: Run, found: Findings) -> Markup:
    """Write the model card."""
    return tag(
        "section",
        tag("h2", "Model card"),
        tag("h3", "Intended use"),
        _list(INTENDED),
        tag("h3", "Out of scope"),
        _list(OUT_OF_SCOPE),
        tag("h3", "Limits"),
        _list(LIMITS + tuple(_own_limits(run, found))),
        tag("h3", "Data"),
        *_data(found),
        tag("h3", "Where the data come from"),
        _origins(found),
        tag("h3", "Training"),
        _training(run),
        _settings(run.manifest["settings"]),
        id="card",
    )


def _list(sentences: Sequence[str]) -> Markup:
    return tag("ul", (tag("li", markup.coded(x)) for x in sentences))


def _own_limits(run: Run, found: Findings) -> Iterator[str]:
    """Limits that this run has, as far as they can be counted."""
    for x in found.described:
        if x.kind == found.kind and x.without_source:
            yield (
                f"{x.without_source:,} of {x.items:,} {x.kind}s have no source that the models "
                "read; only their relations can answer for them."
            )
    if run.manifest["failed_files"]:
        yield f"{run.manifest['failed_files']:,} audio files could not be read."
    if run.manifest["ranking"] is None:
        yield "Answers are ordered by cosine, for no learned order was better: no confidence."


def _data(found: Findings) -> Iterator[Markup]:
    if not found.described:
        yield tag(
            "p",
            "The catalogue is not at hand or has changed since training, so it is not described.",
            class_="note",
        )
    for x in found.described:
        yield markup.table(f"{x.kind.capitalize()}s", ("", "count"), _counts(x), class_="numbers")


def _counts(x: KindDescription) -> Iterator[tuple[str, str]]:
    yield f"{x.kind}s", f"{x.items:,}"
    yield "without a relation (long tail)", f"{x.long_tail:,} ({percent(x.long_tail / x.items)})"
    yield "related pairs", f"{x.pairs:,}"
    for source, pairs in x.pairs_by_source:
        yield f"… from {source}", f"{pairs:,}"
    if x.users:
        yield "users", f"{x.users:,}"
        yield "plays", f"{x.plays:,.0f}"


def _origins(found: Findings) -> Markup:
    if found.catalogue is None or not found.catalogue.origins:
        return tag(
            "p",
            "Not stated. Name sources and licences as ",
            tag("code", "[[origins]]"),
            " in the mapping file, and import again; nothing is trained anew for that.",
            class_="note",
        )
    return markup.table(
        "As stated in the mapping file",
        ("source", "licence", "gives"),
        ((x.name, x.licence, x.gives) for x in found.catalogue.origins),
    )


def _training(run: Run) -> Markup:
    manifest, trained = run.manifest, run.trained
    stages = ((x, y) for x, y in manifest["training"].items() if y is not None)
    rows = [
        ("trained", trained["made"]),
        ("generation", f"{trained['generation']}, content {trained['content'][:12]}"),
        ("catalogue", f"fingerprint {manifest['catalogue'][:12]}"),
        ("seed", str(manifest["settings"]["run"]["seed"])),
        ("seconds", ", ".join(f"{name} {x:,.0f}" for name, x in manifest["seconds"].items())),
        *((f"best step of {name}", f"{x['best_step']} of {x['steps']}") for name, x in stages),
        ("versions", ", ".join(f"{name} {x}" for name, x in trained["versions"].items())),
    ]
    return markup.table("How it was trained", ("", ""), rows)


def _settings(settings: Mapping[str, Any]) -> Markup:
    rows = ((tag("code", name), tag("code", value)) for name, value in _flat(settings, ""))
    return tag(
        "details",
        tag("summary", "All training settings"),
        markup.table("Settings; docs/choices.md says what each does", ("setting", "value"), rows),
    )


def _flat(settings: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value)
