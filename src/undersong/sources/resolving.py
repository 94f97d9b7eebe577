"""Things heard -> which artist and track of a catalogue each of them is."""

import polars as pl

from undersong.names import fold
from undersong.sources.credits import credits_of
from undersong.sources.tags import UUID, Tags


def resolve(items: pl.DataFrame, plays: pl.DataFrame) -> pl.DataFrame:
    """Say which artist and track of a catalogue each thing heard is.

    The artist is the main one of the credit. Its id is MusicBrainz's; a name without one has that
    of the only artist of this name, else the name is the id. A title without a recording is the
    most played recording of this artist and title; else the id is made of both.

    Parameters
    ----------
    items : item, artist, artist_ids, title, recording; other columns stay
    plays : item, plays

    Returns
    -------
    the columns of ``items``, artist_id, artist_name, track_id (null without a title), plays
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
