"""Listens that several sources of one merge have: a user, an item and a second count once."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from undersong.catalogue import KINDS
from undersong.linkage.merge import Merged
from undersong.linkage.records import items_alone

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
        merged.catalogue.plays.join(twice.lazy(), on=["kind", "user", "item"], how="left")
        .with_columns(pl.col("plays") - pl.col("twice").fill_null(0.0))
        .drop("twice")
        .sort("kind", "user", "item")
        .collect()
    )
    return replace(merged, catalogue=replace(merged.catalogue, plays=plays.lazy()))


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
