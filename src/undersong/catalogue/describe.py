"""What a catalogue knows and does not know: figure 1 of the paper, for the user's own data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue.schema import KINDS, Kind, Role
from undersong.catalogue.tables import AT_ONCE, Catalogue, rows_of
from undersong.errors import DataError
from undersong.io.display import new_figure, text_of
from undersong.io.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Intervals of the number of relations, first and last; the first one is the long tail.
INTERVALS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20), (21, None))
# Of artists and of tracks: the long tail, and the others.
COLOURS = (("#1f5a8c", "#8fadc6"), ("#c8641e", "#e4b28f"))


@dataclass(frozen=True)
class Coverage:
    """Share of the items that one source says something of.

    Parameters
    ----------
    source : name of the field or features, "plays", "audio files" or "tracks"
    note : type, role, and whether the field is withheld from the models
    items : how many items it covers
    share : of all items, in [0, 1]
    long_tail_share : of the items without a relation, in [0, 1]; None where there are none
    """

    source: str
    note: str
    items: int
    share: float
    long_tail_share: float | None


@dataclass(frozen=True)
class KindDescription:
    """What is known of the artists, or of the tracks.

    Parameters
    ----------
    kind : "artist" or "track"
    items : how many there are
    long_tail : how many have no relation
    pairs : related pairs, each counted once however many sources name it
    pairs_by_source : (source, pairs), most first
    relations : related items of each item, most first, (items,)
    intervals : (interval, items) for each of ``INTERVALS``
    coverage : each source
    without_source : items of which no source that a model may read says anything
    users, plays : of items of this kind; plays is the sum
    """

    kind: Kind
    items: int
    long_tail: int
    pairs: int
    pairs_by_source: tuple[tuple[str, int], ...]
    relations: tuple[int, ...]
    intervals: tuple[tuple[str, int], ...]
    coverage: tuple[Coverage, ...]
    without_source: int
    users: int
    plays: float


@dataclass(frozen=True)
class Description:
    """One part per kind of item that the catalogue has."""

    kinds: tuple[KindDescription, ...]


@dataclass(frozen=True)
class _Source:
    """One source and which items it says something of, (n,)."""

    name: str
    note: str
    there: NDArray[np.bool_]
    withheld: bool = False


def describe_catalogue(catalogue: Catalogue) -> Description:
    """Count what a catalogue holds, for all items and for the long tail."""
    return Description(
        tuple(_describe_kind(catalogue, x) for x in KINDS if len(catalogue.items(x)))
    )


def related_pairs(catalogue: Catalogue, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of related items, each pair once: as numbers they are a tenth of the ids."""
    ids, own = catalogue.items(kind)["id"], catalogue.relations.lazy().filter(kind=kind)
    a, b = (rows_of(own.select(end).collect()[end], ids) for end in ("a", "b"))
    known = (a >= 0) & (b >= 0)
    first, second = np.divmod(np.unique((a * len(ids) + b)[known]), len(ids))
    return first, second


def _describe_kind(catalogue: Catalogue, kind: Kind) -> KindDescription:
    a, b = related_pairs(catalogue, kind)
    counts = np.bincount(np.append(a, b), minlength=len(catalogue.items(kind)))
    tail = counts == 0
    users, plays, played = _played(catalogue, kind)
    own = catalogue.relations.lazy().filter(kind=kind).group_by("source").len()
    by_source = own.sort(["len", "source"], descending=[True, False]).collect()
    sources = list(_sources(catalogue, kind, played))
    readable = [x.there for x in sources if not x.withheld]
    return KindDescription(
        kind=kind,
        items=len(counts),
        long_tail=int(tail.sum()),
        pairs=len(a),
        pairs_by_source=tuple((str(name), int(n)) for name, n in by_source.iter_rows()),
        relations=tuple(int(x) for x in np.sort(counts)[::-1]),
        intervals=tuple(
            (_interval_name(low, high), int(_inside(counts, low, high).sum()))
            for low, high in INTERVALS
        ),
        coverage=tuple(
            Coverage(
                source=x.name,
                note=x.note,
                items=int(x.there.sum()),
                share=float(x.there.mean()),
                long_tail_share=float(x.there[tail].mean()) if tail.any() else None,
            )
            for x in sources
        ),
        without_source=int((~np.any(readable, axis=0)).sum()) if readable else len(counts),
        users=users,
        plays=plays,
    )


def _played(catalogue: Catalogue, kind: Kind) -> tuple[int, float, pl.Series]:
    """Return how many users play one kind of item, their plays, and the items that have any.

    ``AT_ONCE`` rows are read at a time.
    """
    users = items = pl.Series(dtype=pl.String)
    plays = 0.0
    for start in range(0, catalogue.count_plays(), AT_ONCE):
        block = catalogue.plays.slice(start, AT_ONCE).filter(pl.col("kind") == kind).collect()
        users = users.append(block["user"]).unique()
        items = items.append(block.filter(pl.col("plays") > 0)["item"]).unique()
        plays += float(block["plays"].sum())
    return len(users), plays, items


def _sources(catalogue: Catalogue, kind: Kind, played: pl.Series) -> Iterator[_Source]:
    """Return every source of one kind of item and the items that it covers."""
    items = catalogue.items(kind)
    for field in catalogue.fields_of(kind):
        notes = [field.type, field.role, "withheld" if field.withheld else ""]
        there = items[field.name].is_not_null().to_numpy()
        yield _Source(field.name, ", ".join(x for x in notes if x), there, field.withheld)
    if kind == "track" and items["popularity"].count():
        yield _Source("popularity", "number", items["popularity"].is_not_null().to_numpy())
    for (name, of), features in catalogue.vectors().items():
        ids = pl.Series(features.ids, dtype=pl.String)
        width = f"{features.vectors.shape[1]} values"
        if of == kind:
            yield _Source(name, width, _among(items["id"], ids))
        elif kind == "artist":
            yield _Source(name, f"{width}, of a track", _with_track(catalogue, ids))
    if len(played):
        yield _Source("plays", "", _among(items["id"], played))
    heard = catalogue.tracks.filter(pl.col("path").is_not_null())["id"]
    if len(heard):
        own = kind == "track"
        there = _among(items["id"], heard) if own else _with_track(catalogue, heard)
        yield _Source("audio files", "" if own else "of a track", there)


def _with_track(catalogue: Catalogue, tracks: pl.Series) -> NDArray[np.bool_]:
    """Return whether any of these tracks is by each artist."""
    theirs = catalogue.tracks.filter(pl.col("id").is_in(tracks.unique().implode()))["artist"]
    return _among(catalogue.artists["id"], theirs)


def _among(items: pl.Series, ids: pl.Series) -> NDArray[np.bool_]:
    return items.is_in(ids.unique().implode()).to_numpy()


def _interval_name(low: int, high: int | None) -> str:
    if high is None:
        return f"{low}+"
    return f"{low}" if low == high else f"{low}-{high}"


def _inside(counts: NDArray[np.int64], low: int, high: int | None) -> NDArray[np.bool_]:
    return (counts >= low) & (counts <= (np.inf if high is None else high))


def description_text(description: Description) -> str:
    """Lay a description out for a terminal, at most 80 columns wide."""
    return "\n\n".join(text_of(_lines(x)) for x in description.kinds)


def _lines(x: KindDescription) -> Iterator[str]:
    without = x.without_source
    yield _count(f"{x.kind.capitalize()}s", x.items)
    yield _count("  long tail: no known link", x.long_tail, x.long_tail / x.items)
    yield _count("  no source that models may read", without, without / x.items)
    yield _count("  related pairs", x.pairs)
    for source, pairs in x.pairs_by_source:
        yield _count(f"    {source}", pairs)
    if x.users:
        yield _count("  users", x.users)
        yield _count("  plays", round(x.plays))
    if x.pairs:
        yield ""
        yield f"  How many {x.kind}s have so many relations"
    for interval, items in x.intervals if x.pairs else ():
        yield _count(f"    {interval:>5}", items, items / x.items, bar=26)
    if x.coverage:
        yield ""
        yield f"  {'What the sources cover':<47}all   long tail"
    for y in x.coverage:
        name = f"    {y.source}" + (f" ({y.note})" if y.note else "")
        tail = "-" if y.long_tail_share is None else _percent(y.long_tail_share)
        yield f"{_cut(name, 43)} {_percent(y.share)}{tail:>11}  {_bar(y.share, 16)}"


def _count(name: str, count: int, share: float | None = None, *, bar: int = 0) -> str:
    line = f"{_cut(name, 34)}{count:>13,}"
    if share is None:
        return line
    return f"{line}  {_percent(share)}  {_bar(share, bar)}".rstrip()


def _cut(name: str, width: int) -> str:
    return f"{name:<{width}}" if len(name) <= width else f"{name[: width - 2]}… "


def _percent(share: float) -> str:
    return f"{100 * share:5.1f} %"


def _bar(share: float, width: int) -> str:
    """Draw a share of ``width`` characters, to an eighth of one."""
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def plot_relations(description: Description, path: Path) -> None:
    """Draw figure 1: (a) relations of each item, ranked; (b) share of items per interval.

    Kinds of item without any relation are left out, as there is nothing to rank.

    Parameters
    ----------
    path : of a .png, .svg or .pdf file

    Raises
    ------
    DataError
        If there is no relation at all, or ``path`` ends otherwise.
    UndersongError
        If matplotlib is not installed.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise DataError(f"{path}: a picture ends with .png, .svg or .pdf, not {path.suffix!r}")
    kinds = [x for x in description.kinds if x.pairs]
    if not kinds:
        raise DataError("no relation is known, so there is nothing to draw; import relations")
    with new_figure(7.4, 3.0) as figure:
        ranked, shares = figure.subplots(1, 2)
        _plot_ranked(ranked, kinds)
        _plot_intervals(shares, kinds)
        for axes in (ranked, shares):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=200)


def _plot_ranked(axes: "Axes", kinds: list[KindDescription]) -> None:
    for number, (x, (colour, _)) in enumerate(zip(kinds, COLOURS, strict=False)):
        rank = 100 * (np.arange(x.items) + 1) / x.items
        linked = x.items - x.long_tail
        axes.plot(rank[:linked], x.relations[:linked], color=colour, linewidth=1.8)
        start = 100 * linked / x.items
        axes.plot(
            [start, 100], [-0.15 * number] * 2, color=colour, linewidth=4, solid_capstyle="butt"
        )
        axes.annotate(
            f"{x.kind}s: long tail {100 - start:.1f} %",
            xy=(100, 0),
            xytext=(0, 5 + 11 * number),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontsize=8,
        )
    highest = max(x.relations[0] for x in kinds)
    axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    ticks = [0, *(y for y in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if y <= 2 * highest)]
    axes.set_yticks(ticks, [f"{y:,}" for y in ticks])
    axes.minorticks_off()
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.15 * len(kinds), 1.6 * highest)
    names = " / ".join(f"{x.kind}s" for x in kinds)
    axes.set_xlabel(f"{names}, ranked (%)")
    axes.set_ylabel("relations")
    axes.set_title("(a) relations, from most to fewest", fontsize=10)


def _plot_intervals(axes: "Axes", kinds: list[KindDescription]) -> None:
    width = 0.8 / len(kinds)
    for number, (x, (colour, pale)) in enumerate(zip(kinds, COLOURS, strict=False)):
        place = np.arange(len(x.intervals)) + (number - (len(kinds) - 1) / 2) * width
        heights = [100 * items / x.items for _, items in x.intervals]
        bars = axes.bar(place, heights, 0.92 * width, color=colour, label=f"{x.kind}s")
        for bar in bars[1:]:
            bar.set_facecolor(pale)
        axes.bar_label(bars, fmt="%.1f", fontsize=7 if len(kinds) > 1 else 8, padding=1)
    axes.set_xticks(np.arange(len(INTERVALS)), [name for name, _ in kinds[0].intervals])
    axes.margins(y=0.12)
    axes.set_xlabel("relations")
    axes.set_ylabel("share (%)")
    axes.set_title("(b) share by number of relations", fontsize=10)
    if len(kinds) > 1:
        axes.legend(frameon=False, fontsize=8)


def words_about(catalogue: Catalogue, kind: Kind) -> pl.Series:
    """Main genre and region of each artist, artist of each track; "" where neither is known."""
    if kind == "track":
        names = dict(zip(catalogue.ids("artist"), catalogue.names("artist"), strict=True))
        return pl.Series([names.get(x, "") for x in catalogue.tracks["artist"]], dtype=pl.String)
    table = catalogue.artists
    roles: tuple[Role, ...] = ("genre", "region")
    known = [field for role in roles if (field := catalogue.role(kind, role))]
    words = [
        pl.col(x.name).list.first() if x.type == "tags" else pl.col(x.name).cast(pl.String)
        for x in known
    ]
    return table.select(
        pl.concat_str(pl.repeat("", pl.len()), *words, separator=", ", ignore_nulls=True)
    )["literal"].str.strip_chars(", ")
