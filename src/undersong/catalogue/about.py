"""What an item is, in a few words: genre and region of an artist, artist of a track."""

import polars as pl

from undersong.catalogue.tables import Catalogue, Kind, Role


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
