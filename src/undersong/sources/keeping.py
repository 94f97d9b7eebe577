"""What a catalogue keeps when its folder is imported again: all that other imports brought."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from undersong.catalogue.tables import KINDS, Catalogue, Kind
from undersong.embeddings import Embeddings
from undersong.names import fold
from undersong.sources.library import FIELDS

MADE = frozenset((x.kind, x.name) for x in FIELDS)


def keep(new: Catalogue, old: Catalogue) -> Catalogue:
    """Give the catalogue of a folder all that the one before it knew beyond the folder.

    Plays, relations, features, splits and other fields stay. An item whose id has changed, such
    as an artist who got a MusicBrainz id, takes them along: tracks are known by their path,
    artists by their name. Items with plays, relations or features stay even without a file.
    """
    ids: dict[Kind, Mapping[str, str]] = {kind: dict(_changed(new, old, kind)) for kind in KINDS}
    plays = _follow(old.plays.collect(), ids, "item")
    relations = _follow(old.relations, ids, "a", "b").with_columns(
        pl.min_horizontal("a", "b").alias("a"), pl.max_horizontal("a", "b").alias("b")
    )
    kept = replace(
        old,  # and with it whatever else a catalogue says
        plays=plays.group_by("kind", "user", "item", maintain_order=True)
        .agg(pl.sum("plays"))
        .lazy(),
        relations=relations.filter(pl.col("a") != pl.col("b")).unique(maintain_order=True),
        features={key: _features(x, ids[key[1]]) for key, x in old.features.items()},
        fields=(*new.fields, *(x for x in old.fields if (x.kind, x.name) not in MADE)),
        audio_root=new.audio_root,
    )
    tracks = _join(new.tracks, _named(kept, "track"), old, "track", ids)
    artists = pl.concat([_named(kept, "artist"), tracks["artist"]])
    return replace(kept, tracks=tracks, artists=_join(new.artists, artists, old, "artist", ids))


def _changed(new: Catalogue, old: Catalogue, kind: Kind) -> Iterator[tuple[str, str]]:
    """Pair old ids that are gone with the ids that the same items have now."""
    if kind == "track":
        place = dict(new.tracks.select("path", "id").drop_nulls().iter_rows())
        before = old.tracks.select("id", "path").iter_rows()
    else:
        names: dict[str, list[str]] = {}
        for item, name in zip(new.ids(kind), new.names(kind), strict=True):
            names.setdefault(fold(name), []).append(item)
        place = {name: items[0] for name, items in names.items() if len(items) == 1}
        before = zip(old.ids(kind), map(fold, old.names(kind)), strict=True)
    known = set(new.ids(kind))
    for item, mark in before:
        if item not in known and mark in place:
            yield item, place[mark]


def _follow(
    rows: pl.DataFrame, ids: Mapping[Kind, Mapping[str, str]], *columns: str
) -> pl.DataFrame:
    """Put new ids in the place of old ones."""
    for kind, changed in ids.items():
        concerned = pl.when(pl.col("kind") == kind)
        rows = rows.with_columns(
            concerned.then(pl.col(x).replace(changed)).otherwise(x).alias(x) for x in columns
        )
    return rows


def _features(given: Embeddings, changed: Mapping[str, str]) -> Embeddings:
    """Put new ids in the place of old ones; of two rows for one item the first stays."""
    ids = [changed.get(x, x) for x in given.ids]
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Embeddings(tuple(ids[x] for x in first), given.vectors[first])


def _named(catalogue: Catalogue, kind: Kind) -> pl.Series:
    """List the ids that plays, relations and features name."""
    pairs = catalogue.pairs(kind)
    played = catalogue.played(kind).select(pl.col("item").unique()).collect()
    named = [pairs["a"], pairs["b"], played["item"]]
    named += [
        pl.Series(x.ids, dtype=pl.String) for (_, of), x in catalogue.features.items() if of == kind
    ]
    return pl.concat(named).unique()


def _join(
    new: pl.DataFrame,
    named: pl.Series,
    old: Catalogue,
    kind: Kind,
    ids: Mapping[Kind, Mapping[str, str]],
) -> pl.DataFrame:
    """Join what old items had of their own to the new ones, and the old ones that are named."""
    before = (
        old.items(kind).with_columns(pl.col("id").replace(ids[kind])).unique("id", keep="first")
    )
    if kind == "track":
        before = before.with_columns(
            pl.col("artist").replace(ids["artist"]), path=pl.lit(None, dtype=pl.String)
        )
    own = ["split", *(x.name for x in old.fields_of(kind) if (kind, x.name) not in MADE)]
    joined = new.drop("split").join(
        before.select("id", *own), on="id", how="left", maintain_order="left"
    )
    joined = joined.select(*new.columns, *own[1:])
    gone = before.filter(
        pl.col("id").is_in(named.implode()) & ~pl.col("id").is_in(new["id"].implode())
    )
    return pl.concat(
        [joined, gone.select(x for x in joined.columns if x in gone.columns).sort("id")],
        how="diagonal",
    )
