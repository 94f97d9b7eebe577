"""Make a folder of a merged catalogue, look up who an item is in each source, and correct it.

Of listens that several sources of one merge have, a user, an item and a second count once.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from undersong.catalogue import (
    KINDS,
    Kind,
    fold,
    importing,
    name_key,
    read_catalogue,
    recorded_source,
    write_catalogue,
)
from undersong.errors import DataError, UnknownItem
from undersong.importers.music.credits import NO_ALIASES, PROPOSED, Aliases, proposed
from undersong.io.display import text_of
from undersong.io.files import locked, replacing
from undersong.io.table_files import write_csv
from undersong.linkage.items import Key
from undersong.linkage.merge import Merged, merge
from undersong.linkage.records import (
    FORMER,
    MARK,
    Correction,
    add_correction,
    carry,
    follow,
    item_of,
    items_alone,
    read_ambiguous,
    read_corrections,
    read_identities,
    read_services,
    redirects_of,
    word,
    writing_records,
)
from undersong.progress import Progress, silent

ORDER = ["kind", "user", "item"]  # of plays
KEY = ["user", "artist", "track", "listened_at"]


def once(merged: Merged, folders: Mapping[str, Path]) -> Merged:
    """Take away the plays of listens that an earlier source has, too, of the same user.

    Sources without listens, which are totals, stay as they are: nobody knows when those were.

    Parameters
    ----------
    merged : of sources in which a user's id means the same person
    folders : of the catalogues, by the names of the sources
    """
    with_listens = {x: y / "listens" for x, y in folders.items() if (y / "listens").is_dir()}
    if len(with_listens) < 2:
        return merged
    rows = pl.concat(_listens(merged, name, folder) for name, folder in with_listens.items())
    # How many times each listen counts too often: once a source beyond the first.
    again = (
        rows.group_by(KEY)
        .agg(pl.col("source").n_unique() - 1)
        .filter(pl.col("source") > 0)
        .collect(engine="streaming")
    )
    if again.is_empty():
        return merged
    twice = pl.concat(
        again.drop_nulls(kind)
        .group_by("user", item=kind)
        .agg(pl.col("source").sum().cast(pl.Float64).alias("twice"))
        .with_columns(kind=pl.lit(kind))
        for kind in KINDS
    )
    plays = (
        merged.catalogue.plays.join(twice.lazy(), on=ORDER, how="left", maintain_order="left")
        .with_columns(pl.col("plays") - pl.col("twice").fill_null(0.0))
        .drop("twice")
    )
    return replace(merged, catalogue=replace(merged.catalogue, plays=plays))


def _listens(merged: Merged, source: str, folder: Path) -> pl.LazyFrame:
    """Read the listens of a source that are plays and have a time, with the ids of the merge."""
    own = items_alone(merged.identities).filter(pl.col("source") == source)
    items = pl.scan_parquet(folder / "items.parquet").select("item", "artist_id", "track_id")
    for kind in KINDS:
        ids = own.filter(pl.col("kind") == kind).select(kind="id", own="source_id")
        ids = ids.rename({"kind": kind})
        items = items.join(ids.lazy(), left_on=f"{kind}_id", right_on="own", how="left")
    listens = pl.scan_parquet(folder / "part-*.parquet").filter(
        pl.col("listened_at").is_not_null() & ~pl.col("skipped").fill_null(value=False)
    )
    return listens.join(items, on="item").select(*KEY, source=pl.lit(source))


SERVERS = ("subsonic", "jellyfin")  # imports whose ids players ask by
REASONS = {
    "contradiction": "one name, but what is known of them contradicts",
    "ids": "one name, two MusicBrainz ids",
    "accent": "names that differ by an accent",
    "several": "one name, and more than one that it could be",
    "together": "may be a collaboration with",
}


@dataclass(frozen=True)
class Identity:
    """One item of a merged catalogue.

    Parameters
    ----------
    items : what it is in the sources, as source:id
    services : ids of services, as source/service:id
    former : ids that it had earlier
    ambiguous : reason and two items of sources that stay apart
    """

    id: str
    name: str
    items: tuple[str, ...]
    services: tuple[str, ...]
    former: tuple[str, ...]
    ambiguous: tuple[tuple[str, str, str], ...]


def merge_folders(
    folders: Sequence[Path],
    out: Path,
    *,
    conflicts: int = 2,
    same_users: bool = False,
    aliases: Aliases = NO_ALIASES,
    replace: bool = False,
    progress: Progress = silent,
) -> Merged:
    """Merge catalogues into a folder; each source has the name of its folder.

    Merged into it again, every item keeps its id and ``corrections.csv`` holds. Who is who is
    written first, so ids stay also where the rest is interrupted. Ids of services that importers
    noted beside the catalogues are noted of the merged items. Another writer of ``out`` is waited
    for. The plays of the catalogue that is returned are to be read from ``out``.

    Parameters
    ----------
    aliases : of artists
    replace : also a catalogue that was not merged (``catalogue.importing``)

    Raises
    ------
    DataError
        If two folders have one name, ``out`` is one of them or holds a catalogue that was not
        merged, or as ``merging.merge``.
    """
    named: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in named:
            raise DataError(
                f"{named[name]} and {folder} are both called {name!r}, which is what their items "
                "are known by; rename one of the folders"
            )
        named[name] = folder
    if out.resolve() in [x.resolve() for x in folders]:
        raise DataError(f"{out} is a source and the result; write the result elsewhere")
    with importing(out, "merge", replace=replace), _scratch(out) as scratch:
        services = {name: read_services(folder) for name, folder in named.items()}
        merged = merge(
            {name: read_catalogue(folder) for name, folder in named.items()},
            before=None if replace else read_identities(out),
            corrections=read_corrections(out),
            conflicts=conflicts,
            same_users=same_users,
            redirects=redirects_of(services.values()),
            aliases=aliases,
            servers={x for x, folder in named.items() if recorded_source(folder) in SERVERS},
            scratch=scratch,
            progress=progress,
        )
        if same_users:
            merged = once(merged, named)
        with writing_records(out, carry(merged.identities, services), merged.ambiguous):
            write_catalogue(merged.catalogue, out, source="merge")
    return merged


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Yield a folder for the time of a merge; what one left that was killed goes first."""
    folder = out / ".merging"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def summary(merged: Merged) -> str:
    """Describe for the terminal what became of the sources."""
    lines = []
    for kind in KINDS:
        of_kind = items_alone(merged.identities).filter(pl.col("kind") == kind)
        if len(of_kind):
            lines.append(
                f"{len(of_kind):,} {kind}s of {of_kind['source'].n_unique()} sources are "
                f"{of_kind['id'].n_unique():,}"
            )
    if merged.between_same:
        lines.append(f"{merged.between_same:,} relations left out: both items are the same")
    if len(merged.ambiguous):
        lines.append(
            f"{len(merged.ambiguous):,} doubtful pairs stay apart: see `undersong identify`"
        )
    return text_of(lines)


def correct(folder: Path, kind: Kind, *, verdict: str, a: str, b: str) -> Correction:
    """Write down that two items are the same or different; the next merge heeds it.

    Raises
    ------
    UnknownItem
        If one of them is in no source.
    DataError
        If both are the same item of the same source.
    """
    identities = _of_kind(folder, kind)
    one, other = item_of(a, identities), item_of(b, identities)
    if one == other:
        raise DataError(
            f"{a!r} and {b!r} both mean {word(one)}; name two items as source:id, which "
            "`undersong identify` lists"
        )
    correction = Correction(kind, verdict, one, other)
    with locked(folder):
        add_correction(folder, correction)
    return correction


def identify(folder: Path, kind: Kind, query: str) -> list[Identity]:
    """Find who is meant by an id, a former id, "source:id", "service:id" or a name; all of one.

    Raises
    ------
    UnknownItem
        If there is no such item.
    """
    identities, catalogue = _of_kind(folder, kind), read_catalogue(folder)
    names = dict(zip(catalogue.ids(kind), catalogue.names(kind), strict=True))
    source, _, item = query.partition(":")
    named = (pl.col("source") == source) | pl.col("source").str.ends_with(MARK + source)
    rows = identities.filter(named, pl.col("source_id") == item)
    own = items_alone(rows) if len(items_alone(rows)) else rows
    matches = own["id"].unique().sort().to_list()
    matches = matches or [x for x in [follow(query, identities)] if x in names]
    for key in (name_key, fold):
        matches = matches or [x for x, name in names.items() if key(name) == key(query)]
    if not matches:
        raise UnknownItem(f"{query!r} is no id, source:id or name of an {kind} in {folder}")
    ambiguous = read_ambiguous(folder).filter(pl.col("kind") == kind)
    return [_identity(x, names[x], identities, ambiguous) for x in matches]


def text(identity: Identity) -> str:
    """Show for the terminal who one item is."""
    lines = [
        f"{identity.name} ({identity.id})",
        *(f"  {x}" for x in (*identity.items, *identity.services)),
    ]
    lines += [f"  formerly {x}" for x in identity.former]
    lines += [f"  apart: {a} and {b}: {REASONS[why]}" for why, a, b in identity.ambiguous]
    return text_of(lines)


def ambiguous_text(folder: Path, kind: Kind, *, most: int = 20) -> str:
    """List pairs that stay apart and may be looked at."""
    ambiguous = read_ambiguous(folder).filter(pl.col("kind") == kind)
    lines = [
        f"{row['name']} ({row['a']}), {row['other']} ({row['b']}): {REASONS[row['reason']]}"
        for row in ambiguous.head(most).iter_rows(named=True)
    ]
    more = (
        [f"and {len(ambiguous) - most:,} more in doubts.parquet"] if len(ambiguous) > most else []
    )
    return text_of([*lines, *more]) or f"no {kind} is in doubt"


def write_proposals(folder: Path, path: Path) -> int:
    """Write which names of a catalogue may be one artist's, to be edited; return how many.

    Columns alias, name, why, as ``aliases.read_aliases`` reads them. In a merged catalogue names
    that differ by an accent alone are among them.
    """
    rows = set(proposed(read_catalogue(folder).names("artist")))
    if (folder / "doubts.parquet").exists():
        pairs = read_ambiguous(folder).filter(pl.col("reason") == "accent", kind="artist")
        for one, other in pairs.select("name", "other").iter_rows():
            plain, accented = sorted((one, other))  # plain letters come first
            rows.add((plain, accented, "an accent"))
    with replacing(path) as temporary:
        write_csv(pl.LazyFrame(sorted(rows), schema=PROPOSED, orient="row"), temporary)
    return len(rows)


def _identity(item: str, name: str, identities: pl.DataFrame, ambiguous: pl.DataFrame) -> Identity:
    rows = identities.filter(pl.col("id") == item).sort("source", "source_id")
    keys: list[Key] = items_alone(rows).select("source", "source_id").rows()
    own = [word(x) for x in keys]
    noted = rows.filter(pl.col("source").str.contains(MARK, literal=True))
    concerned = ambiguous.filter(pl.col("a").is_in(own) | pl.col("b").is_in(own))
    return Identity(
        id=item,
        name=name,
        items=tuple(own),
        services=tuple(word(x) for x in noted.select("source", "source_id").rows()),
        former=tuple(rows.filter(pl.col("source") == FORMER)["source_id"]),
        ambiguous=tuple(concerned.select("reason", "a", "b").rows()),
    )


def _of_kind(folder: Path, kind: Kind) -> pl.DataFrame:
    if not (folder / "doubts.parquet").exists():
        raise DataError(f"{folder} is no merged catalogue; make one with `undersong merge`")
    return read_identities(folder).filter(pl.col("kind") == kind)
