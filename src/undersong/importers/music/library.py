"""Files with their tags -> artists and tracks, each once: the tables of a music folder.

An id is MusicBrainz's where a file has it. Else it is made of the normalised name, and so the
same on every machine and after every import.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from undersong.catalogue import (
    FIELD_TYPES,
    ITEMS,
    KINDS,
    Catalogue,
    Field,
    Kind,
    complete,
    fold,
    name_key,
)
from undersong.embeddings import Embeddings
from undersong.importers.music.credits import artist_ids, path_names

FILES: dict[str, pl.DataType] = {
    "path": pl.String(),
    "size": pl.Int64(),
    "modified": pl.Int64(),
    "inode": pl.UInt64(),
    "folder": pl.UInt64(),
    "mount": pl.String(),
    "artists": pl.List(pl.String()),
    "artist_ids": pl.List(pl.String()),
    "title": pl.String(),
    "album": pl.String(),
    "recording": pl.String(),
    "genres": pl.List(pl.String()),
    "year": pl.Int64(),
    "country": pl.String(),
    "release_country": pl.String(),
    "compilation": pl.Boolean(),
    "seconds": pl.Float64(),
    "guessed": pl.Boolean(),
    "cue": pl.Boolean(),
}
FIELDS = (
    Field("genre", "artist", "tags", "genre"),
    Field("country", "artist", "category", "region"),
    Field("release_country", "artist", "category"),
    Field("decade", "artist", "category"),
    Field("year", "artist", "number", "year"),
    Field("credited", "artist", "tags"),
    # Models would learn to answer with the same album; filters and caps ask for it.
    Field("album", "track", "category", "album", withheld=True),
    Field("genre", "track", "tags", "genre"),
    Field("country", "track", "category", "region"),
    Field("release_country", "track", "category"),
    Field("decade", "track", "category"),
    Field("year", "track", "number", "year"),
    Field("credited", "track", "tags"),
)
COPY = re.compile(r"(?:\(\d{1,2}\)|[-_ ]copy)$", re.I)  # behind the name of a second copy
SAME_SECONDS = 2.0  # two files of one title that differ by no more are one recording


def library(files: pl.DataFrame) -> Catalogue:
    """Make the catalogue of a music folder; a field of which no file says anything is left out.

    Parameters
    ----------
    files : one row a file, columns ``FILES``; ``artists`` and ``artist_ids`` go together, the
        main one first, with an empty id where none is known

    Returns
    -------
    Artists in the order of their ids, tracks in that of their paths. Files of one recording are
    one track. ``artists`` has those who are the main one of a track; guests without a track of
    their own are words of the field ``credited``.
    """
    credits = _credits(files)
    tracks = _tracks(_rows(files, credits))
    artists = _artists(tracks, credits)
    items: dict[Kind, pl.DataFrame] = {"artist": artists, "track": tracks}
    fields = tuple(x for x in FIELDS if items[x.kind][x.name].drop_nulls().len())
    return Catalogue(
        artists=complete(artists, _columns("artist", fields)),
        tracks=complete(tracks, _columns("track", fields) | {"seconds": pl.Float64()}),
        fields=fields,
    )


def _rows(files: pl.DataFrame, credits: pl.DataFrame) -> pl.DataFrame:
    """Files with the id of their main artist and the values of fields."""
    main = credits.group_by("path", maintain_order=True).agg(
        pl.col("id").first().alias("artist"), pl.col("name").alias("credited")
    )
    main = main.with_columns(pl.when(pl.col("credited").list.len() > 1).then(pl.col("credited")))
    rows = files.join(main, on="path", how="left", maintain_order="left").with_columns(
        pl.format("{}0s", pl.col("year") // 10).alias("decade"), pl.col("genres").alias("genre")
    )
    return rows.with_columns(title=pl.coalesce(_names(rows), "title"))


def _names(rows: pl.DataFrame) -> pl.Series:
    """Return titles of songs that their tags do not tell apart; null for all others.

    Some programs tag all songs of an album "song". Where files of one folder have one title that
    no name of a file holds, and names that differ, these are the titles.
    """
    folder = pl.col("path").str.replace(r"[^/]*$", "")
    of = ["artist", "folder", "title"]
    shared = rows.with_columns(folder=folder).filter(
        pl.col("recording").is_null() & (pl.len().over(of) > 1)
    )
    titles: dict[str, str] = {}
    for *_, title, paths in shared.group_by(of).agg("path").rows():
        names = {x: COPY.sub("", path_names(x).title).rstrip() for x in paths}
        words = {fold(x) for x in names.values()}
        telling = all(sum(map(str.isalpha, x)) > 1 and fold(title) not in x for x in words)
        if telling and len(words) > 1:
            titles |= names
    return pl.Series([titles.get(x) for x in rows["path"]], dtype=pl.String)


def slug(name: str) -> str:
    """Make an id of a name: its key with dashes."""
    return name_key(name).replace(" ", "-")


def _credits(files: pl.DataFrame) -> pl.DataFrame:
    """Everybody who is credited, the main one first: path, name, id (``credits.artist_ids``)."""
    each = files.select("path", name="artists", mbid="artist_ids").explode("name", "mbid")
    pairs = each.select("name", "mbid").unique(maintain_order=True)
    ids = artist_ids(list(map(name_key, pairs["name"])), pairs["mbid"].to_list())
    pairs = pairs.with_columns(pl.Series("id", ids, dtype=pl.String))
    return each.join(pairs, on=["name", "mbid"], how="left", maintain_order="left").drop("mbid")


def _tracks(rows: pl.DataFrame) -> pl.DataFrame:
    """Take one file of each recording, the best tagged, with its id."""
    rows = _best_first(rows)
    take = rows.with_columns(of=_originals(rows)).filter(pl.col("of") == pl.col("path"))
    take = take.drop("of").sort("path")
    slugs = pl.Series("slug", [x.replace(" ", "-") for x in take["key"]], dtype=pl.String)
    plain = pl.format("{}/{}", "artist", slugs)
    again = ~pl.struct("artist", "key").is_first_distinct()
    seconds = pl.col("seconds").fill_null(0)
    longer = pl.format("{}/{}", plain, seconds.round().cast(pl.Int64))
    return take.with_columns(
        id=pl.coalesce("recording", pl.when(again).then(longer).otherwise(plain))
    )


def _best_first(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort files so that of several copies the best comes first, with the folded title as ``key``.

    A file with a recording id is better than one without, one with a length and of full size than
    one that may be damaged, one of an album than one of a compilation.
    """
    keys = pl.Series("key", [name_key(x) for x in rows["title"]], dtype=pl.String)
    ending = pl.col("path").str.extract(r"\.([^./]*)$")
    largest = pl.col("size").max().over("artist", "key", ending)
    return rows.with_columns(keys).sort(
        pl.col("recording").is_null(),
        pl.col("seconds").is_null(),
        (pl.col("size") < largest / 2).fill_null(value=False),
        "compilation",
        "path",
        maintain_order=True,
    )


def _originals(rows: pl.DataFrame) -> pl.Series:
    """Return for each file the path of the one it is a copy of, its own where it is none.

    Files of one recording id are one, and never of two. A file without an id is the copy of one
    with its artist, title and length; what differs from that by no more counts, no chain of files.
    """
    recordings: dict[str, str] = {}
    kept: dict[tuple[str, str], list[tuple[float | None, str]]] = {}
    originals = []
    columns = rows.select("path", "artist", "key", "recording", "seconds")
    for path, artist, key, recording, seconds in columns.iter_rows():
        same = kept.setdefault((artist, key), [])
        if recording is not None:
            original = recordings.setdefault(recording, path)
        else:
            original = next((x for length, x in same if _same_length(length, seconds)), path)
        if original == path:
            same.append((seconds, path))
        originals.append(original)
    return pl.Series("of", originals, dtype=pl.String)


def _same_length(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= SAME_SECONDS


def copies(files: pl.DataFrame) -> list[tuple[str, str]]:
    """Pair each file that is no track of its own with the one it is a copy of, by their paths."""
    rows = _best_first(_rows(files, _credits(files)))
    rows = rows.with_columns(_originals(rows)).filter(pl.col("of") != pl.col("path"))
    return rows.select("path", "of").sort("path").rows()


def _artists(tracks: pl.DataFrame, credits: pl.DataFrame) -> pl.DataFrame:
    """Make one row of each main artist from all of its tracks.

    The name is the most frequent one. Genres are in the order of how many tracks have them; of
    country and decade the most frequent counts, of the years the median.
    """
    own = pl.DataFrame({"id": tracks["artist"].unique().sort()})
    artists = own.join(_most(credits, "name"), on="id", how="left")
    for word in ("country", "release_country", "decade"):
        frequent = _most(tracks.select(word, id="artist"), word)
        artists = artists.join(frequent, on="id", how="left")
    years = tracks.group_by(id="artist").agg(pl.col("year").cast(pl.Float64).median())
    genres = (
        tracks.select("genre", id="artist")
        .explode("genre")
        .drop_nulls()
        .group_by("id", "genre")
        .len()
        .sort("id", "len", "genre", descending=[False, True, False])
        .group_by("id", maintain_order=True)
        .agg("genre")
    )
    together = credits.join(credits, on="path", suffix="_other").filter(
        (pl.col("name").n_unique() > 1).over("path")
    )
    credited = together.group_by("id").agg(pl.col("name_other").unique().sort().alias("credited"))
    for table in (years, genres, credited):
        artists = artists.join(table, on="id", how="left")
    return artists.sort("id")


def _most(rows: pl.DataFrame, word: str) -> pl.DataFrame:
    """Return the most frequent value of a column for each id; of two the first in the alphabet."""
    counts = rows.drop_nulls().group_by("id", word).len()
    order = counts.sort("len", word, descending=[True, False])
    return order.unique("id", keep="first", maintain_order=True).drop("len")


def _columns(kind: Kind, fields: tuple[Field, ...]) -> dict[str, pl.DataType]:
    return ITEMS[kind] | {x.name: FIELD_TYPES[x.type] for x in fields if x.kind == kind}


MADE = frozenset((x.kind, x.name) for x in FIELDS)


def keep(new: Catalogue, old: Catalogue) -> Catalogue:
    """Add to the catalogue of a folder all that the one before it knew beyond the folder.

    Plays, relations, features, splits and other fields stay. An item whose id has changed, such
    as an artist who got a MusicBrainz id, takes them along: tracks are known by their path,
    artists by their name. Items with plays, relations or features stay even without a file.
    """
    ids: dict[Kind, Mapping[str, str]] = {kind: dict(_changed(new, old, kind)) for kind in KINDS}
    plays = _follow(old.plays.collect(), ids, "item")
    relations = _follow(old.relations, ids, "a", "b").with_columns(
        pl.min_horizontal("a", "b").alias("a"), pl.max_horizontal("a", "b").alias("b")
    )
    merged = replace(
        old,  # and with it whatever else a catalogue says
        plays=plays.group_by("kind", "user", "item", maintain_order=True)
        .agg(pl.sum("plays"))
        .lazy(),
        relations=relations.filter(pl.col("a") != pl.col("b")).unique(maintain_order=True),
        features={key: _features(x, ids[key[1]]) for key, x in old.features.items()},
        fields=(*new.fields, *(x for x in old.fields if (x.kind, x.name) not in MADE)),
        audio_root=new.audio_root,
    )
    tracks = _join(new.tracks, _named(merged, "track"), old, "track", ids)
    artists = pl.concat([_named(merged, "artist"), tracks["artist"]])
    return replace(merged, tracks=tracks, artists=_join(new.artists, artists, old, "artist", ids))


def _changed(new: Catalogue, old: Catalogue, kind: Kind) -> Iterator[tuple[str, str]]:
    """Pair old ids that are gone with the ids that the same items have now."""
    if kind == "track":
        place = dict(new.tracks.select("path", "id").drop_nulls().iter_rows())
        before = old.tracks.select("id", "path").iter_rows()
    else:
        names: dict[str, list[str]] = {}
        for item, name in zip(new.ids(kind), new.names(kind), strict=True):
            names.setdefault(name_key(name), []).append(item)
        place = {name: items[0] for name, items in names.items() if len(items) == 1}
        before = zip(old.ids(kind), map(name_key, old.names(kind)), strict=True)
    known = set(new.ids(kind))
    for item, mark in before:
        if item not in known and mark in place:
            yield item, place[mark]


def _follow(
    rows: pl.DataFrame, ids: Mapping[Kind, Mapping[str, str]], *columns: str
) -> pl.DataFrame:
    for kind, changed in ids.items():
        concerned = pl.when(pl.col("kind") == kind)
        rows = rows.with_columns(
            concerned.then(pl.col(x).replace(changed)).otherwise(x).alias(x) for x in columns
        )
    return rows


def _features(features: Embeddings, changed: Mapping[str, str]) -> Embeddings:
    """Put new ids in the place of old ones; of two rows for one item the first stays."""
    ids = [changed.get(x, x) for x in features.ids]
    first = np.sort(np.unique(ids, return_index=True)[1])
    return Embeddings(tuple(ids[x] for x in first), features.vectors[first])


def _named(catalogue: Catalogue, kind: Kind) -> pl.Series:
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
    renamed = old.items(kind).with_columns(pl.col("id").replace(ids[kind]))
    before = renamed.unique("id", keep="first")
    if kind == "track":
        before = before.with_columns(
            pl.col("artist").replace(ids["artist"]), path=pl.lit(None, dtype=pl.String)
        )
    own = ["split", *(x.name for x in old.fields_of(kind) if (kind, x.name) not in MADE)]
    joined = new.drop("split").join(
        before.select("id", *own), on="id", how="left", maintain_order="left"
    )
    joined = joined.select(*new.columns, *own[1:])
    item = pl.col("id")
    gone = before.filter(item.is_in(named.implode()) & ~item.is_in(new["id"].implode())).sort("id")
    columns = [x for x in joined.columns if x in gone.columns]
    return pl.concat([joined, gone.select(columns)], how="diagonal")
