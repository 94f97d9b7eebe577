"""Who played what how often, counted block by block.

Users and things are numbered as they come, and a pair of both is one number of 64 bits: that is
sorted and summed several times as fast as names, in a quarter of the memory.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Kind, name_key
from undersong.importers.aliases import NONE, Aliases, real
from undersong.importers.music.credits import artist_ids, credits_of
from undersong.importers.music.tags import UUID, Tags

PAIR = 1 << 32  # user * PAIR + thing
BLOCK = 500_000  # pairs that are named at a time, about


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
    step = max(1, len(users) * BLOCK // max(1, len(counts)))
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


def resolve(items: pl.DataFrame, plays: pl.DataFrame, *, aliases: Aliases = NONE) -> pl.DataFrame:
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
