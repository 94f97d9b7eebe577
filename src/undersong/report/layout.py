"""Which number stands in which table, whatever the tables are written in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from undersong.evaluation.results import (
    RANKED,
    SAME_ARTIST,
    Evaluation,
    Interval,
    Number,
    Protocol,
    Slice,
)

ACCURACY = ("hit", "recall", "precision", "map", "ndcg", "combined")
CONSISTENCY = ("consistent", "strict_consistent", "withheld_consistent")
BEYOND = (
    "nobody finds",
    "coverage",
    "gini",
    "long-tail share",
    "popularity",
    "hubness",
    "nobody's neighbour",
)
METRICS = {  # in words, and what a number of it means; "@10" is the length of the list
    "hit": ("lists with a link", "share of lists that hold at least one hidden link"),
    "recall": ("links found", "share of the hidden links that the list holds"),
    "precision": ("right answers", "share of the list that is right"),
    "map": ("exactness", "how exact the list is down to each hidden link in it, on average"),
    "ndcg": ("links near the top", "how high the hidden links are; 1: all of them come first"),
    "combined": ("found and near the top", "harmonic mean of ndcg here and in cold"),
    "consistent": ("metadata in common", "share of fields equal to the query's; models read these"),
    "strict_consistent": ("all metadata in common", "share of answers equal in all these fields"),
    "withheld_consistent": ("withheld metadata in common", "the same for fields no model reads"),
    "nobody finds": ("found by nobody", "share of hidden items that no query finds that should"),
    "coverage": ("items shown", "share of all items that are in anybody's list"),
    "gini": ("inequality", "0: every item is shown equally often; 1: one item fills all lists"),
    "long-tail share": ("long tail in the lists", "share of the answers without a known link"),
    "popularity": ("popularity of the answers", "mean percentile among all items"),
    "hubness": ("hubness", "how strongly a few items crowd all lists; 0: not at all"),
    "nobody's neighbour": ("in nobody's list", "share of all items that no list holds"),
}
TESTS = {  # protocols in words
    "cold": "What unlinked items find",
    "found": "Who finds unlinked items",
    "paper": "The test of the paper",
    "linked": "Some links known",
    "directed": "The test of Deezer's similar artists",
    "ask": "What unlinked items find, by links learned later",
    "more": "More answers for linked items",
    SAME_ARTIST: "Songs of artists that were held out",
    "labelled": "linked candidates only",
    "other artists": "other artists only",
}
CALIBRATED = {"linked": "reliability", "unlinked": "reliability of unlinked"}
CONFIDENCE = (
    "Confidence is the chance that somebody who looked at both would list the pair. It is "
    "calibrated on the hidden links of validation items, separately for candidates with known "
    "links and for those without."
)
FEW = 30  # queries, below which a difference of methods is luck
FAR = 0.8  # of the agreement of the cosine; below it listeners will notice
LEAD = {
    "cold": "ndcg@200",
    "found": "recall@",
    "paper": "recall@",
    "linked": "ndcg@200",
    "directed": "ndcg@200",
    "ask": "ndcg@200",
    "more": "recall@",
    SAME_ARTIST: "map",
}


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the method."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def digits(value: float) -> str:
    """Return three decimals without the leading zero, as tables of metrics print them."""
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def plus_minus(interval: Interval) -> str:
    """Return a value and half of its 95 % interval."""
    if interval.low is None or interval.high is None:
        return digits(interval.value)
    return f"{digits(interval.value)} ±{digits((interval.high - interval.low) / 2)}"


def bounds(interval: Interval) -> str:
    """Return a value and the bounds of its 95 % interval."""
    if interval.low is None or interval.high is None:
        return digits(interval.value)
    return f"{digits(interval.value)} [{digits(interval.low)}, {digits(interval.high)}]"


def lead(protocol: Protocol, report: Evaluation) -> str:
    """Return the name of the metric that leads the results of a protocol."""
    name = LEAD[protocol.name.split(",")[0]]
    return f"{name}{report.k}" if name.endswith("@") else name


def in_words(column: str) -> str:
    """Return the metric of a column in words, such as of "ndcg@200"; "" where it names none."""
    base, _, rest = column.partition("@")
    words = METRICS.get(base, METRICS.get(f"{base}_consistent", ("",)))[0]
    part = rest.partition(" ")[2]
    return f"{words}, {part}" if words and part else words


def protocol_in_words(protocol: str) -> str:
    """Return the name of a protocol in words."""
    return ", ".join(TESTS.get(x, x) for x in protocol.split(", "))


def slice_in_words(name: str) -> str:
    """Return the name of a slice in words: "1-2 visible links" of "visible degree 1-2"."""
    degree = name.removeprefix("visible degree ")
    return f"{degree} visible links" if degree != name else name.replace("relations", "links")


def count_line(protocol: Protocol, report: Evaluation) -> str:
    """Return the sentence that counts queries and candidates."""
    whole = protocol.slices[0]
    if protocol.name == SAME_ARTIST:
        few = f" {whole.queries:,} are too few to judge: below {FEW}, differences are luck."
        line = f"{whole.queries:,} tracks are queries, {protocol.candidates:,} candidates."
        return line + (few if whole.queries < FEW else "")
    return (
        f"{whole.queries:,} {report.kind}s are queries, {protocol.candidates:,} candidates; "
        f"accuracy counts the {whole.answerable:,} queries with a link to a candidate."
    )


def unjudged(report: Evaluation) -> str:
    """Return why there is no accuracy, if no query of any protocol has a relevant candidate."""
    if any(x.slices[0].answerable for x in report.protocols if x.name != SAME_ARTIST):
        return ""
    return (
        f"No link of any {report.part} {report.kind} is known, so accuracy cannot be measured: "
        "only what metadata answers have in common, and who is shown."
    )


def summary(report: Evaluation) -> tuple[str, ...]:
    """Return plain sentences on who is found, who is not, and whether there are enough to judge."""
    if reason := unjudged(report):
        return (reason, *_same_artist(report))
    cold, found = (_protocol(report, x) for x in ("cold", "found"))
    lines = []
    if cold and (share := _share(cold, report, f"hit@{report.k}")):
        asking = cold.slices[0].answerable
        ours, chance = (f"{round(x * asking):,}" for x in share)
        lines.append(
            f"All links of {asking:,} {report.part} {report.kind}s were hidden from the model. "
            f"For {ours} of them the first {report.k} answers contain one of these links; by "
            f"chance, for {chance}."
        )
        if asking < FEW:
            lines.append(
                f"{asking:,} queries are too few to judge: below {FEW}, differences are luck."
            )
    if found and (share := _share(found, report, f"recall@{report.k}")):
        lines.append(
            f"In the other direction, the first {report.k} answers of {report.kind}s with known "
            f"links hold {share[0]:.0%} of the hidden {report.kind}s linked to them; by chance, "
            f"{share[1]:.0%}."
        )
    name = next((x for x in metric_names(found.slices[0], ("nobody finds",))), "") if found else ""
    if found and name and (share := _share(found, report, name)):
        depth = name.partition("@")[2]
        lines.append(
            f"{share[0]:.0%} of the hidden {report.kind}s are found by no {report.kind} linked to "
            f"them, even among {depth} answers."
            if share[0]
            else f"Each hidden {report.kind} is among the first {depth} answers of at least one "
            f"{report.kind} linked to it."
        )
    return tuple(lines)


def _same_artist(report: Evaluation) -> Iterator[str]:
    """Yield a sentence on songs that find others of their artist, if that was asked."""
    for protocol in report.protocols:
        if protocol.name == SAME_ARTIST:
            whole = protocol.slices[0]
            rows = {x: y[f"hit@{report.k}"].mean.value for x, y in whole.numbers.items()}
            count = {x: f"{round(y * whole.queries):,}" for x, y in rows.items()}
            heard = f", by MFCCs {count['MFCC']}" if "MFCC" in count else ""
            yield (
                f"Of {whole.queries:,} songs of artists that nothing was learned from, "
                f"{count.get('learned', count['start'])} find another of their artist among "
                f"{report.k} answers{heard}, by chance {count['random']}."
            )


def default_method(report: Evaluation) -> str:
    """Return what answers by default: the learned order, or else the reference."""
    return RANKED if any(name == RANKED for name, _ in report.methods) else report.reference


def _protocol(report: Evaluation, name: str) -> Protocol | None:
    return next((x for x in report.protocols if x.name.split(",")[0] == name), None)


def _share(protocol: Protocol, report: Evaluation, name: str) -> tuple[float, float] | None:
    """Return a metric of the default answers and of random ones, if both have it."""
    numbers = protocol.slices[0].numbers
    ours, chance = (numbers.get(x, {}).get(name) for x in (default_method(report), "random"))
    return (ours.mean.value, chance.mean.value) if ours and chance else None


def tables(protocol: Protocol, report: Evaluation, *, slices: bool = True) -> list[Table]:
    """Return every table of a protocol that has numbers; ``slices``: also by relations."""
    every = []
    if names := metric_names(protocol.slices[0], ACCURACY):
        every = [accuracy(protocol, report, names, bounds), differences(protocol, report, names)]
    if names and slices:
        every += by_slice(protocol, report, lead(protocol, report), bounds)
    every += [consistency(protocol, report, bounds), beyond_accuracy(protocol, report, bounds)]
    return [table for table in every if len(table.header) > 1 and table.rows]


def accuracy(
    protocol: Protocol, report: Evaluation, names: Sequence[str], show: Callable[[Interval], str]
) -> Table:
    """Return metrics against known relations, over all queries."""
    columns = [(name, protocol.slices[0], name) for name in names]
    return _table("Accuracy", report, columns, show)


def differences(protocol: Protocol, report: Evaluation, names: Sequence[str]) -> Table:
    """Return how far each method is above the reference, paired."""
    numbers = protocol.slices[0].numbers
    rows = tuple(
        (method, *(_difference(numbers[method].get(name)) for name in names))
        for method, _ in report.methods
        if method in numbers and method != report.reference
        if any(x.difference for x in numbers[method].values())
    )
    return Table(f"Difference to {report.reference}", ("", *names), rows)


def consistency(protocol: Protocol, report: Evaluation, show: Callable[[Interval], str]) -> Table:
    """Return agreement of metadata, over all queries and over those of the long tail."""
    whole, tail = protocol.slices[:2]
    columns = [
        (f"{name.replace('_consistent', '')} {part.name}", part, name)
        for name in metric_names(whole, CONSISTENCY)
        for part in (whole, tail)
    ]
    title = (
        f"Metadata in common in {protocol.name} (all {whole.queries:,}, long tail {tail.queries:,})"
    )
    return _table(title, report, columns, show)


def beyond_accuracy(
    protocol: Protocol, report: Evaluation, show: Callable[[Interval], str]
) -> Table:
    """Return who is shown, over all queries."""
    whole = protocol.slices[0]
    columns = [(name, whole, name) for name in metric_names(whole, BEYOND)]
    return _table(f"Who is shown in {protocol.name}", report, columns, show)


def by_slice(
    protocol: Protocol, report: Evaluation, name: str, show: Callable[[Interval], str]
) -> list[Table]:
    """Return one metric for each slice with an answerable query; popularity has its own table."""
    every = [x for x in protocol.slices[2:] if x.answerable]
    fifths = [x for x in every if is_popularity(x)]
    groups = {"number of links": [x for x in every if x not in fifths], "popularity": fifths}
    return [
        _table(
            f"{in_words(name)} ({name}) in {protocol.name}, by {title} of the query",
            report,
            [(f"{slice_in_words(x.name)} ({x.answerable:,})", x, name) for x in slices],
            show,
        )
        for title, slices in groups.items()
        if slices
    ]


def is_popularity(part: Slice) -> bool:
    """Whether a slice is a fifth of popularity (``evaluation.protocols.by_popularity``)."""
    return part.name.startswith("popularity")


def is_degree(part: Slice) -> bool:
    """Whether a slice is made by number of relations (``evaluation.protocols.by_degree``)."""
    return part.name.endswith("relations") or part.name.startswith("visible degree")


def metric_names(part: Slice, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics of a slice by kind, those of the whole ranking before the short list."""
    first = next(iter(part.numbers.values()), {})
    names = [x for x in first if x.split("@")[0] in kinds]
    return tuple(sorted(names, key=lambda x: (kinds.index(x.split("@")[0]), len(x), x)))


def reliability(ranking: Mapping[str, Any] | None) -> dict[str, Sequence[Sequence[float]]]:
    """Return rows of (mean confidence, share that was right, answers) by kind of candidate.

    ``ranking`` is that of a run's manifest; a run of an earlier version has one table for all.
    """
    rows = {kind: (ranking or {}).get(name) or () for kind, name in CALIBRATED.items()}
    return {kind: x for kind, x in rows.items() if x}


def reliability_tables(ranking: Mapping[str, Any] | None) -> tuple[Table, ...]:
    """Return how often answers of a confidence were right, for each kind of candidate."""
    return tuple(
        Table(
            f"Confidence of {kind} answers to validation items",
            ("mean confidence", "right", "answers"),
            tuple((f"{sure:.1%}", f"{right:.1%}", f"{int(n):,}") for sure, right, n in rows),
        )
        for kind, rows in reliability(ranking).items()
    )


def notes(report: Evaluation) -> tuple[str, ...]:
    """Return what a reader must know to read the tables."""
    hubs = {x.hub_queries for x in report.protocols if x.hub_queries < x.candidates}
    lines = [
        f"95 % confidence intervals from {report.resamples:,} bootstrap samples of the queries, "
        f"seed {report.seed}, paired between methods; for coverage, Gini and hubness by jackknife.",
        _fields_line(report),
        f"Popularity of the answers: mean percentile{_measure(report.popularity)}.",
    ]
    if hubs:
        lines.append(f"Hubness is measured on {min(hubs):,} random queries.")
    return (*lines, *filter(None, [agreement_warning(report)]))


def _measure(popularity: str) -> str:
    """Return by what popularity is measured, unless that is only the word again."""
    return "" if popularity == "by popularity" else f" {popularity}"


def _fields_line(report: Evaluation) -> str:
    chance = " The row random shows what chance gives."
    withheld = f"Withheld from all models: {', '.join(report.withheld)}."
    if not report.fields:
        return (withheld if report.withheld else "No field of metadata is known.") + chance
    return (
        f"Metadata in common is counted over {', '.join(report.fields)}, which models read. "
        + (withheld if report.withheld else "No field is withheld from the models.")
        + chance
    )


def agreement_warning(report: Evaluation) -> str:
    """Return a warning if the default answers surely agree much less than E_G's cosine.

    Where few items have known relations, predicting which ones have any already raises accuracy.
    The learned order then serves the metric and not the listener; fields that no model reads
    show it.
    """
    name, protocol = f"withheld_consistent@{report.k}", report.protocols[0]
    numbers = protocol.slices[0].numbers
    ours, plain = (numbers.get(x, {}).get(name) for x in (RANKED, report.reference))
    if not (ours and plain and ours.difference and ours.difference.high is not None):
        return ""
    if ours.difference.high >= 0 or ours.mean.value >= FAR * plain.mean.value:
        return ""
    return (
        f"WARNING: in {protocol.name} the default answers agree with the query in "
        f"{', '.join(report.withheld)} at {digits(ours.mean.value)}, those of {report.reference} "
        f"at {digits(plain.mean.value)}. Few items have known links, and the learned order "
        "has learned which ones: that counts as right here, but the answers need not sound alike. "
        "The option --paper orders by the cosine instead."
    )


def _table(
    title: str,
    report: Evaluation,
    columns: Sequence[tuple[str, Slice, str]],
    show: Callable[[Interval], str],
) -> Table:
    """Return a row per method that takes part; columns are header, slice and metric."""
    rows = tuple(
        (
            method,
            *(_cell(part.numbers.get(method, {}).get(name), show) for _, part, name in columns),
        )
        for method, _ in report.methods
        if any(method in part.numbers for _, part, _ in columns)
    )
    return Table(title, ("", *(header for header, _, _ in columns)), rows)


def _cell(number: Number | None, show: Callable[[Interval], str]) -> str:
    return show(number.mean) if number else "-"


def _difference(number: Number | None) -> str:
    return bounds(number.difference) if number and number.difference else "-"
