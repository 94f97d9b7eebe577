"""Listens of any service -> a catalogue with plays, and the listens themselves beside it.

A source gives blocks of listens. Memory holds what is distinct (artists, titles, who played
what how often), never the listens; those go to the catalogue's folder as they come:

    listens/part-N.parquet   user, item, listened_at, seconds, skipped, plays: every listen
    listens/items.parquet    item -> track, artist (ids of the catalogue), and what the source said

``listened_at`` is in seconds since 1970 (UTC), ``seconds`` how long it was heard, ``skipped``
whether the listener went on early; null where the source does not say. A skipped listen is no
play, but stays in ``listens``, so that sessions can be made of them.

Users and things are numbered as they come, and a pair of both is one number of 64 bits: that is
sorted and summed several times as fast as names, in a quarter of the memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import ITEMS, Catalogue, Kind, Origin, complete, name_key
from undersong.importers.music.credits import (
    NO_ALIASES,
    NOBODY_IDS,
    Aliases,
    artist_ids,
    credits_of,
    nobodies,
    real,
)
from undersong.importers.music.tags import UUID, Tags
from undersong.importers.result import IDENTITIES, Imported, Listens, NothingRead

PAIR = 1 << 32  # user * PAIR + thing
NAMES_AT_A_TIME = 500_000  # pairs that are named at a time, about


class Numbered:
    """Rows that differ in one column, numbered in the order in which they first come.

    Parameters
    ----------
    key : the column
    """

    def __init__(self, key: str):
        self._key = key
        self._numbers: dict[object, int] = {}
        self._rows: list[pl.DataFrame] = []

    def numbers(self, table: pl.DataFrame, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Number some rows of a table, each row as often as it is named; the others are ignored.

        Parameters
        ----------
        places : which rows, shape (n,)
        """
        used = np.flatnonzero(np.bincount(places, minlength=len(table)))
        rows, known, before = table[used], self._numbers, len(self._numbers)
        drawn = np.array([known.setdefault(x, len(known)) for x in rows[self._key]], np.uint64)
        new = rows.filter(drawn >= before).unique(self._key, keep="first", maintain_order=True)
        # Written anew: a row that is picked out keeps the names of its whole block in memory.
        self._rows.append(pl.DataFrame(new.rows(), schema=new.schema, orient="row"))
        numbers = np.zeros(len(table), np.uint64)
        numbers[used] = drawn
        return numbers[places]

    def rows(self) -> pl.DataFrame:
        """Return all rows in the order of their numbers."""
        return pl.concat(self._rows)


class Counts:
    """Plays of each pair of a user and a thing; at most twice as many rows as there are pairs."""

    def __init__(self) -> None:
        self._joined: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Take pair and plays; frames are joined as soon as the next is nearly as large."""
        rows = summed(rows)
        while self._joined and len(self._joined[-1]) < 2 * len(rows):
            rows = summed(pl.concat([self._joined.pop(), rows]))
        self._joined.append(rows)

    def rows(self) -> pl.DataFrame:
        """Return pair and plays, one row a pair."""
        self._joined = [summed(pl.concat(self._joined))]
        return self._joined[0]


def summed(rows: pl.DataFrame) -> pl.DataFrame:
    """Add up the plays of equal pairs: pair, plays, sorted by the first."""
    if rows.is_empty():
        return rows
    # Sorting takes half the time that grouping does.
    ordered = rows.sort("pair")
    pair = ordered["pair"].to_numpy()
    begins = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
    plays = np.add.reduceat(ordered["plays"].to_numpy(), begins)
    return pl.DataFrame({"pair": pair[begins], "plays": plays})


def table(counts: pl.DataFrame, *, kind: Kind, users: pl.Series, items: pl.Series) -> pl.DataFrame:
    """Write counts with names: kind, user, item, plays, sorted by user and item.

    Parameters
    ----------
    counts : pair, plays
    users : name of each user, by number
    items : id of each thing, by number; several may have one id, and those without are left out
    """
    # Ranks instead of names: pairs of them sort as the names do.
    names, ids = users.sort(), items.drop_nulls().unique().sort()
    rank = pl.lit((users.rank("ordinal") - 1).cast(pl.UInt64))
    row = pl.lit((items.rank("dense") - 1).cast(pl.UInt64))
    user, thing = pl.col("pair") // PAIR, pl.col("pair") % PAIR
    ranked = (rank.gather(user) * PAIR + row.gather(thing)).alias("pair")
    step = max(1, len(users) * NAMES_AT_A_TIME // max(1, len(counts)))
    parts = []
    for start in range(0, max(1, len(users)), step):
        own = counts.filter(rank.gather(user).is_between(start, start + step - 1))
        parts.append(
            summed(own.select(ranked, "plays").drop_nulls("pair")).select(
                pl.lit(kind).alias("kind"),
                pl.lit(names).gather(user).alias("user"),
                pl.lit(ids).gather(thing).alias("item"),
                "plays",
            )
        )
    return pl.concat(parts)


def resolve(
    items: pl.DataFrame, plays: pl.DataFrame, *, aliases: Aliases = NO_ALIASES
) -> pl.DataFrame:
    """Find which artist and track of a catalogue each thing heard is.

    The artist is the main one of the credit (``credits.artist_ids``). A title without a recording
    is the most played recording of this artist and title; else the id is made of both.

    Parameters
    ----------
    items : item, artist, artist_ids, title, recording; other columns stay
    plays : item, plays
    aliases : of artists

    Returns
    -------
    the columns of ``items``, artist_id, artist_name, track_id (null without a title), plays
    """
    rows = items.join(plays, on="item", how="left").with_columns(pl.col("plays").fill_null(0.0))
    rows = rows.with_columns(pl.col("recording").str.to_lowercase()).with_columns(
        pl.when(pl.col("recording").str.contains(f"^(?:{UUID.pattern})$")).then("recording")
    )
    rows = rows.join(_main_artists(rows, aliases), on=["artist", "artist_ids"], nulls_equal=True)
    titles = rows.select(pl.col("title").drop_nulls().unique())
    slugs = keys(titles["title"]).str.replace_all(" ", "-", literal=True).alias("key")
    rows = rows.join(titles.with_columns(slugs), on="title", how="left")
    recordings = rows.drop_nulls("recording").group_by("artist_id", "key", "recording")
    likely = recordings.agg(pl.sum("plays")).sort("plays", "recording", descending=[True, False])
    likely = likely.unique(["artist_id", "key"], keep="first", maintain_order=True)
    likely = likely.select("artist_id", "key", likely="recording")
    rows = rows.join(likely, on=["artist_id", "key"], how="left")
    plain = pl.format("{}/{}", "artist_id", "key")
    rows = rows.with_columns(track_id=pl.coalesce("recording", "likely", plain))
    return rows.drop("key", "likely").sort("artist_id", "track_id", "item")


def _main_artists(rows: pl.DataFrame, aliases: Aliases) -> pl.DataFrame:
    """Name the main artist of each credit: artist, artist_ids, artist_id, artist_name."""
    pairs = rows.select("artist", "artist_ids").unique(maintain_order=True)
    main = [real(*_main(*x), aliases) for x in pairs.iter_rows()]
    names = pl.Series("artist_name", [name for name, _ in main], dtype=pl.String)
    ids = artist_ids(keys(names).to_list(), [mbid for _, mbid in main])
    return pairs.with_columns(pl.Series("artist_id", ids, dtype=pl.String), names)


def keys(names: pl.Series) -> pl.Series:
    """Return the key of each name (``catalogue.name_key``); those of plain words all at once."""
    plain = names.str.to_lowercase()
    other = ~names.str.contains(r"^[A-Za-z0-9.'&()!?+]+( [A-Za-z0-9.'&()!?+]+)*$")
    slow = pl.Series([name_key(x) for x in names.filter(other)], dtype=pl.String)
    return plain.scatter(other.arg_true(), slow)


def _main(artist: str, artist_ids: str | None) -> tuple[str, str]:
    ids = tuple(UUID.findall((artist_ids or "").lower()))
    credits = credits_of(Tags(artist=(artist,), artist_ids=ids))
    return (credits[0].name, credits[0].id) if credits else (artist, "")


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
PARTS: dict[str, pl.DataType] = {x: LISTENS.get(x, pl.UInt64()) for x in KEPT}
REPEATED = ("user", "item", "skipped", "plays")
AT_ONCE = 1 << 27  # hashes of listens, 8 bytes each
LONGEST = 1_000  # characters of a name
BLOCK = 100_000  # listens; a block of a source should have about so many


@dataclass(frozen=True)
class Block:
    """Some listens; names that many of them share may be stored once.

    Parameters
    ----------
    listens : user and item (rows of ``users`` and ``items``), listened_at, seconds, skipped, plays
    users : user
    items : the columns ``ITEM``
    """

    listens: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


def listen(**columns: object) -> tuple[object, ...]:
    """Return a row with the columns ``LISTENS``; what is not named is null."""
    return tuple(columns.get(x) for x in LISTENS)


def block(rows: pl.DataFrame) -> Block:
    """Make a block of rows with the columns ``LISTENS``."""
    own = pl.int_range(pl.len())
    listens = rows.select(own.alias("user"), own.alias("item"), *KEPT[2:])
    return Block(listens, rows.select("user"), rows.select(ITEM))


def blocks(rows: Iterable[tuple[object, ...]]) -> Iterator[Block]:
    """Make blocks of rows with the columns ``LISTENS``."""
    source = iter(rows)
    while some := list(islice(source, BLOCK)):
        yield block(pl.DataFrame(some, schema=LISTENS, orient="row"))


def listens_of(
    rows: Iterable[tuple[object, ...]], *, origin: Origin, aliases: Aliases = NO_ALIASES
) -> Listens:
    """Return what writes listens, rows with the columns ``LISTENS``, and makes a catalogue."""
    return partial(gather, blocks(rows), origin=origin, aliases=aliases)


def gather(
    blocks: Iterable[Block], parts: Path, *, origin: Origin, aliases: Aliases = NO_ALIASES
) -> Imported:
    """Count who played what, and write every listen.

    Memory is bounded by a block, by the things heard and by the pairs of a user and a thing.

    Parameters
    ----------
    parts : folder that the listens are written to
    origin : the service that ``source_id`` is of
    aliases : of artists

    Raises
    ------
    NothingRead
        If there is no listen that names an artist.
    """
    parts.mkdir(parents=True)
    users, things, plays = Numbered("user"), Numbered("item"), Counts()
    count = skipped = nameless = of_nobody = 0
    for number, block_read in enumerate(blocks):
        some = _named(block_read)
        heard = some.listens
        # A listen that names many artists or an unknown one is heard, but nobody's.
        by_nobody = int(some.items["nobody"].gather(heard["item"]).sum())
        heard = heard.filter(~some.items["nobody"].gather(heard["item"]))
        nameless += len(block_read.listens) - len(some.listens)
        of_nobody += by_nobody
        count += len(heard)
        # Not held by a name: it would stay in memory beside the next block.
        heard.with_columns(
            some.users["user"].gather(heard["user"]), some.items["item"].gather(heard["item"])
        ).select(KEPT).write_parquet(parts / f"part-{number:06}.parquet")
        who = users.numbers(some.users, heard["user"].to_numpy())
        what = things.numbers(some.items, heard["item"].to_numpy())
        played = heard.select(
            pl.Series("pair", who * np.uint64(PAIR) + what), pl.col("plays").fill_null(1.0)
        ).filter(~heard["skipped"].fill_null(value=False))
        skipped += len(heard) - len(played)
        plays.add(played)
    if not count:
        nobodies_there = f" ({of_nobody:,} are of nobody)" if of_nobody else ""
        raise NothingRead(
            f"there is no listen that names an artist{nobodies_there}; is this the right file?"
        )
    counts = plays.rows()
    resolved = _resolved(things.rows(), counts, aliases)
    repeats = _without_repeats(parts, resolved, at_once=AT_ONCE)
    if len(repeats):
        plays.add(_numbered(repeats, users.rows(), things.rows()))
        counts = plays.rows().filter(pl.col("plays") > 0)
        count -= len(repeats)
        skipped -= int(repeats["skipped"].fill_null(value=False).sum())
    resolved.drop("number").write_parquet(parts / "items.parquet")
    notes = [f"{count:,} listens"]
    if skipped:
        notes.append(f"{skipped:,} of them skipped, which are no plays")
    if len(repeats):
        notes.append(f"{len(repeats):,} others stood there twice, and count once")
    if nameless:
        notes.append(f"{nameless:,} others name no artist or no user")
    if of_nobody:
        notes.append(f"{of_nobody:,} others are of nobody, such as Various Artists or [unknown]")
    catalogue = _catalogue(resolved, counts, users.rows()["user"], origin)
    return Imported(catalogue, _identities(resolved, origin.name.lower()), tuple(notes))


def _named(block: Block) -> Block:
    """Leave out listens that name nobody, and add an id of each thing heard, ``item``."""
    users = block.users.select(_clean("user"))
    items = block.items.with_columns(map(_clean, ("artist", "title"))).with_columns(
        pl.when(pl.col(x) != "").then(x).alias(x) for x in ITEM
    )
    user, artist = users["user"].fill_null("") != "", items["artist"].is_not_null()
    listens = block.listens.filter(
        user.gather(block.listens["user"])
        & artist.gather(block.listens["item"])
        & (block.listens["plays"].fill_null(1.0) > 0)
    )
    ids = pl.col("artist_ids").str.to_lowercase().str.strip_chars()
    nobody = nobodies("artist") | ids.is_in(sorted(NOBODY_IDS)).fill_null(value=False)
    columns = (
        pl.struct(ITEM).hash().alias("item"),
        *ITEM,
        nobody.fill_null(value=False).alias("nobody"),
    )
    return Block(listens, users, items.select(columns))


def _without_repeats(parts: Path, items: pl.DataFrame, *, at_once: int) -> pl.DataFrame:
    """Leave out of the parts every listen of a user, a track and a second that came before.

    Parameters
    ----------
    items : item, artist_id, track_id
    at_once : listens whose hashes are in memory; of more, some are compared at a time

    Returns
    -------
    user, item, plays, skipped of those that were left out
    """
    which = items.select("item", what=pl.struct("artist_id", "track_id").hash())
    files = sorted(parts.glob("part-*.parquet"))
    total = pl.scan_parquet(files).select(pl.len()).collect().item()
    shares = total // at_once + 1
    again: dict[int, list[int]] = {}
    for share in range(shares):
        marks, places, number_of = [], [], []
        for number, file in enumerate(files):
            rows = pl.read_parquet(file, columns=["user", "item", "listened_at"])
            rows = rows.join(which, on="item", how="left", maintain_order="left")
            mark = rows.select(pl.struct("user", "what", "listened_at").hash()).to_series()
            mine = ((mark % shares == share) & rows["listened_at"].is_not_null()).arg_true()
            marks.append(mark.gather(mine).to_numpy())
            places.append(mine.to_numpy().astype(np.int64))
            number_of.append(np.full(len(mine), number))
        every = np.concatenate(marks)
        first = np.zeros(len(every), dtype=bool)
        first[np.unique(every, return_index=True)[1]] = True
        later = np.flatnonzero(~first)
        where, row = np.concatenate(number_of)[later], np.concatenate(places)[later]
        for number, place in zip(where.tolist(), row.tolist(), strict=True):
            again.setdefault(number, []).append(place)
    left_out = [pl.DataFrame(schema={x: y for x, y in PARTS.items() if x in REPEATED})]
    for number, rows_again in again.items():
        table_read = pl.read_parquet(files[number])
        twice = pl.int_range(pl.len()).is_in(rows_again)
        left_out.append(table_read.filter(twice).select(REPEATED))
        table_read.filter(~twice).write_parquet(files[number])
    return pl.concat(left_out)


def _numbered(repeats: pl.DataFrame, users: pl.DataFrame, things: pl.DataFrame) -> pl.DataFrame:
    """Return pair and plays to take away again of listens that stood there twice."""
    who = users.select("user").with_row_index("user_number")
    what = things.select("item").with_row_index("item_number")
    played = repeats.filter(~pl.col("skipped").fill_null(value=False))
    rows = played.join(who, on="user").join(what, on="item")
    pair = pl.col("user_number").cast(pl.UInt64) * PAIR + pl.col("item_number").cast(pl.UInt64)
    return rows.select(pair.alias("pair"), -pl.col("plays").fill_null(1.0))


def _clean(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().str.head(LONGEST)


def _resolved(things: pl.DataFrame, counts: pl.DataFrame, aliases: Aliases) -> pl.DataFrame:
    """Find which artist and track each thing is; ``number`` is its place in ``things``."""
    numbered = things.with_row_index("number").with_columns(pl.col("number").cast(pl.UInt64))
    plays = counts.group_by(number=pl.col("pair") % PAIR).agg(pl.sum("plays"))
    named = plays.join(numbered.select("number", "item"), on="number")
    return resolve(numbered, named.select("item", "plays"), aliases=aliases)


def _catalogue(
    items: pl.DataFrame, counts: pl.DataFrame, users: pl.Series, origin: Origin
) -> Catalogue:
    """Make the tables; of several ways to write a name the most played counts."""
    often = items.sort("plays", descending=True, maintain_order=True)
    artists = often.unique("artist_id", keep="first", maintain_order=True).sort("artist_id")
    tracks = often.drop_nulls("track_id").unique("track_id", keep="first", maintain_order=True)
    tracks = tracks.sort("track_id").select(id="track_id", artist="artist_id", title="title")
    numbered = items.sort("number")
    plays = (
        table(counts, kind="artist", users=users, items=numbered["artist_id"]),
        table(counts, kind="track", users=users, items=numbered["track_id"]),
    )
    # Where a source has ids alone, they stand in for names; a name that is an id is none.
    names = artists.select(id="artist_id", name=_unlike("artist_name", "artist_id"))
    tracks = tracks.with_columns(title=_unlike("title", "id"))
    return Catalogue(
        artists=complete(names, ITEMS["artist"]),
        tracks=complete(tracks, ITEMS["track"]),
        plays=pl.concat(plays).lazy(),
        origins=(origin,),
        fields=(),
    )


def _unlike(name: str, item: str) -> pl.Expr:
    return pl.when(pl.col(name) != pl.col(item)).then(name)


def _identities(items: pl.DataFrame, source: str) -> pl.DataFrame:
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
