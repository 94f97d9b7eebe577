"""Listens as every service tells them -> a catalogue with plays, and the listens kept beside it.

A source gives blocks of ``LISTENS``. Memory holds what is distinct (artists, titles, who played
what how often), never the listens; those go to the catalogue's folder as they come:

    listens/part-N.parquet   user, item, listened_at, seconds, skipped, plays: every listen
    listens/items.parquet    item -> track, artist (ids of the catalogue), and what the source said

``listened_at`` is in seconds since 1970 (UTC), ``seconds`` how long it was heard, ``skipped``
whether the listener went on early; null where the source does not say. A skipped listen is no
play, but stays in ``listens``, so that sessions can be made of them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from undersong.catalogue.tables import ITEMS, PLAYS, Catalogue
from undersong.errors import DataError
from undersong.names import fold
from undersong.sources.credits import credits_of
from undersong.sources.tags import UUID, Tags

LISTENS: dict[str, pl.DataType] = {
    "user": pl.String(),
    "artist": pl.String(),  # the credit, as written
    "artist_ids": pl.String(),  # MusicBrainz ids with spaces between them, the main artist first
    "title": pl.String(),
    "recording": pl.String(),  # MusicBrainz id
    "source_id": pl.String(),  # of the track, where the service has ids of its own
    "listened_at": pl.Int64(),
    "seconds": pl.Float64(),
    "skipped": pl.Boolean(),
    "plays": pl.Float64(),  # null is one; of totals, which have no time, how many
}
ITEM = ("artist", "artist_ids", "title", "recording", "source_id")
KEPT = ("user", "item", "listened_at", "seconds", "skipped", "plays")
LONGEST = 1_000  # characters of a name
BLOCK = 100_000  # listens; a block of a source should have about so many
IDENTITIES = dict.fromkeys(("kind", "id", "source", "source_id"), pl.String())


@dataclass(frozen=True)
class Gathered:
    """What listens come to.

    Parameters
    ----------
    catalogue : artists, tracks, and plays of both
    items : item (as in the kept listens), track, artist, and the columns ``ITEM``
    identities : kind, id, source, source_id: which ids of other services mean an item
    listens, skipped, nameless : how many; skipped and nameless ones are no plays
    """

    catalogue: Catalogue
    items: pl.DataFrame
    identities: pl.DataFrame
    listens: int
    skipped: int
    nameless: int


def blocks(rows: Iterable[tuple[object, ...]]) -> Iterator[pl.DataFrame]:
    """Make blocks of rows with the columns ``LISTENS``."""
    source = iter(rows)
    while some := list(islice(source, BLOCK)):
        yield pl.DataFrame(some, schema=LISTENS, orient="row")


def gather(blocks: Iterable[pl.DataFrame], *, parts: Path, source: str) -> Gathered:
    """Count who played what, and keep every listen.

    Parameters
    ----------
    blocks : frames with the columns ``LISTENS``
    parts : folder that the listens are written to
    source : the service that ``source_id`` is of

    Raises
    ------
    DataError
        If there is no listen that names an artist.
    """
    parts.mkdir(parents=True)
    items = _Growing(lambda rows: rows.unique("item", keep="any"))
    plays = _Growing(lambda rows: rows.group_by("user", "item").agg(pl.sum("plays")))
    count = skipped = nameless = 0
    for number, block in enumerate(blocks):
        named = _named(block)
        count += len(named)
        nameless += len(block) - len(named)
        named.select(KEPT).write_parquet(parts / f"part-{number:06}.parquet")
        played = named.filter(~pl.col("skipped").fill_null(value=False))
        skipped += len(named) - len(played)
        items.add(named.select("item", *ITEM))
        plays.add(played.select("user", "item", pl.col("plays").fill_null(1.0)))
    if not count:
        raise DataError("there is no listen that names an artist; is this the right file?")
    resolved = resolve(items.rows(), plays.rows().group_by("item").agg(pl.sum("plays")))
    resolved.write_parquet(parts / "items.parquet")
    return Gathered(
        catalogue=_catalogue(resolved, plays.rows()),
        items=resolved,
        identities=_identities(resolved, source),
        listens=count,
        skipped=skipped,
        nameless=nameless,
    )


class _Growing:
    """Rows that are grouped, joined block by block; at most twice as many as there are groups."""

    def __init__(self, group: Callable[[pl.DataFrame], pl.DataFrame]):
        self._group = group
        self._joined: list[pl.DataFrame] = []

    def add(self, block: pl.DataFrame) -> None:
        """Take more rows; frames are joined as soon as the next is nearly as large."""
        rows = self._group(block)
        while self._joined and len(self._joined[-1]) < 2 * len(rows):
            rows = self._group(pl.concat([self._joined.pop(), rows]))
        self._joined.append(rows)

    def rows(self) -> pl.DataFrame:
        """Give one row a group."""
        self._joined = [self._group(pl.concat(self._joined))]
        return self._joined[0]


def _named(block: pl.DataFrame) -> pl.DataFrame:
    """Leave out listens that name nobody, and give each thing heard a number."""
    clean = (pl.col(x).str.strip_chars().str.head(LONGEST) for x in ("user", "artist", "title"))
    block = block.with_columns(clean).with_columns(
        pl.when(pl.col(x) != "").then(x).alias(x) for x in ITEM
    )
    given = pl.col("artist").is_not_null() & (pl.col("user").fill_null("") != "")
    named = block.filter(given & (pl.col("plays").fill_null(1.0) > 0))
    return named.with_columns(item=pl.struct(ITEM).hash())


def resolve(items: pl.DataFrame, plays: pl.DataFrame) -> pl.DataFrame:
    """Say which artist and track of a catalogue each thing heard is.

    The artist is the main one of the credit. Its id is MusicBrainz's; a name without one has that
    of the only artist of this name, else the name is the id. A title without a recording is the
    most played recording of this artist and title; else the id is made of both.

    Parameters
    ----------
    items : item, and the columns ``ITEM``
    plays : item, plays

    Returns
    -------
    item, ``ITEM``, artist_id, artist_name, track_id (null without a title), plays
    """
    rows = items.join(plays, on="item", how="left").with_columns(pl.col("plays").fill_null(0.0))
    rows = rows.with_columns(pl.col("recording").str.to_lowercase()).with_columns(
        pl.when(pl.col("recording").str.contains(f"^(?:{UUID.pattern})$")).then("recording")
    )
    rows = rows.join(_main_artists(rows), on=["artist", "artist_ids"], nulls_equal=True)
    titles = rows.select(pl.col("title").drop_nulls().unique())
    keys = folded(titles["title"]).str.replace_all(" ", "-", literal=True).alias("key")
    rows = rows.join(titles.with_columns(keys), on="title", how="left")
    recordings = rows.drop_nulls("recording").group_by("artist_id", "key", "recording")
    likely = recordings.agg(pl.sum("plays")).sort("plays", "recording", descending=[True, False])
    likely = likely.unique(["artist_id", "key"], keep="first", maintain_order=True)
    likely = likely.select("artist_id", "key", likely="recording")
    rows = rows.join(likely, on=["artist_id", "key"], how="left")
    plain = pl.format("{}/{}", "artist_id", "key")
    rows = rows.with_columns(track_id=pl.coalesce("recording", "likely", plain))
    return rows.drop("key", "likely").sort("artist_id", "track_id", "item")


def _main_artists(rows: pl.DataFrame) -> pl.DataFrame:
    """Name the main artist of each credit: artist, artist_ids, artist_id, artist_name."""
    pairs = rows.select("artist", "artist_ids").unique(maintain_order=True)
    main = [_main(*x) for x in pairs.iter_rows()]
    names = pl.Series("artist_name", [name for name, _ in main], dtype=pl.String)
    keys = folded(names).to_list()
    known: dict[str, set[str]] = {}
    for (_, mbid), key in zip(main, keys, strict=True):
        if mbid:
            known.setdefault(key, set()).add(mbid)
    ids = []
    for (_, mbid), key in zip(main, keys, strict=True):
        same = known.get(key, set())
        ids.append(mbid or (min(same) if len(same) == 1 else key.replace(" ", "-")))
    return pairs.with_columns(pl.Series("artist_id", ids, dtype=pl.String), names)


def folded(names: pl.Series) -> pl.Series:
    """Fold names as ``names.fold`` does; those of plain ASCII all at once."""
    plain = names.str.to_lowercase().str.replace_all("[^a-z0-9]+", " ").str.strip_chars(" ")
    other = ~names.str.contains(r"^[\x00-\x7f]*$") | (plain == "")
    slow = pl.Series([fold(x) for x in names.filter(other)], dtype=pl.String)
    return plain.scatter(other.arg_true(), slow)


def _main(artist: str, artist_ids: str | None) -> tuple[str, str]:
    ids = tuple(UUID.findall((artist_ids or "").lower()))
    credits = credits_of(Tags(artist=(artist,), artist_ids=ids))
    return (credits[0].name, credits[0].id) if credits else (artist, "")


def _catalogue(items: pl.DataFrame, plays: pl.DataFrame) -> Catalogue:
    """Make the tables; of several ways to write a name the most played counts."""
    often = items.sort("plays", descending=True, maintain_order=True)
    artists = often.unique("artist_id", keep="first", maintain_order=True).sort("artist_id")
    tracks = often.drop_nulls("track_id").unique("track_id", keep="first", maintain_order=True)
    tracks = tracks.sort("track_id").select(id="track_id", artist="artist_id", title="title")
    counts = [
        plays.join(items.select("item", id=column), on="item")
        .drop_nulls("id")
        .group_by("user", item="id")
        .agg(pl.sum("plays"))
        .sort("user", "item")
        .select(pl.lit(kind).alias("kind"), "user", "item", "plays")
        for kind, column in (("artist", "artist_id"), ("track", "track_id"))
    ]
    # Where a source has ids alone, they stand in for names; a name that is an id is none.
    names = artists.select(id="artist_id", name=_unlike("artist_name", "artist_id"))
    tracks = tracks.with_columns(title=_unlike("title", "id"))
    return Catalogue(
        artists=_whole(names, ITEMS["artist"]),
        tracks=_whole(tracks, ITEMS["track"]),
        plays=_whole(pl.concat(counts), PLAYS),
    )


def _unlike(name: str, item: str) -> pl.Expr:
    return pl.when(pl.col(name) != pl.col(item)).then(name)


def _whole(rows: pl.DataFrame, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Give a table all of its columns; what is not known is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in types.items()
    )


def _identities(items: pl.DataFrame, source: str) -> pl.DataFrame:
    """List the ids of other services that stand for each item."""
    recordings = items.drop_nulls("recording").select(
        kind=pl.lit("track"), id="track_id", source=pl.lit("musicbrainz"), source_id="recording"
    )
    theirs = items.drop_nulls(["source_id", "track_id"]).select(
        kind=pl.lit("track"), id="track_id", source=pl.lit(source), source_id="source_id"
    )
    artists = items.filter(pl.col("artist_id").str.contains(f"^(?:{UUID.pattern})$")).select(
        kind=pl.lit("artist"), id="artist_id", source=pl.lit("musicbrainz"), source_id="artist_id"
    )
    return pl.concat([artists, recordings, theirs]).unique().sort(list(IDENTITIES))
