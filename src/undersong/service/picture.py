"""The map of one kind of item as one reply, made once for each generation."""

import gzip

import orjson
import polars as pl

from undersong.catalogue.tables import Kind
from undersong.errors import UnknownItem
from undersong.service.answers import Answers, Items

DIGITS = 4  # of a place in [-1, 1]: finer than a pixel of any screen


def picture(answers: Answers, kind: Kind) -> tuple[bytes, bytes]:
    """Give the map as JSON, plain and compressed by gzip.

    Raises
    ------
    UnknownItem
        If no map was drawn.
    """
    if kind not in answers.pictures:
        hears = answers.hindrance is None
        content = {"generation": answers.generation, **_content(answers.of(kind)), "hears": hears}
        plain = orjson.dumps(content)
        answers.pictures[kind] = plain, gzip.compress(plain, 6, mtime=0)
    return answers.pictures[kind]


def _content(items: Items) -> dict[str, object]:
    if items.places is None or items.labels is None:
        raise UnknownItem("no map was drawn of this run; serve a shelf made by `undersong publish`")
    main: list[str | None] = [None] * len(items.table)
    if items.facts is not None:
        first = items.facts.table["genres"].list.first().to_list()
        for place, genre in zip(items.place_of_row.tolist(), first, strict=True):
            main[place] = genre
    table = items.table.with_columns(genre=pl.Series(main, dtype=pl.String))
    shown = items.places.join(table, on="id", how="inner", maintain_order="left")
    genres = sorted(shown["genre"].drop_nulls().unique())
    number = {genre: at for at, genre in enumerate(genres)}
    labels = items.labels.select(
        pl.col("genre").alias("text"), pl.col("x").round(DIGITS), pl.col("y").round(DIGITS)
    )
    return {
        "count": len(shown),
        "ids": shown["id"].to_list(),
        "names": shown["name"].to_list(),
        "x": shown["x"].cast(pl.Float64).round(DIGITS).to_list(),
        "y": shown["y"].cast(pl.Float64).round(DIGITS).to_list(),
        "long_tail": (shown["relations"] == 0).cast(pl.Int8).to_list(),
        "genre": [number.get(x, -1) for x in shown["genre"]],
        "genres": genres,
        "labels": labels.with_columns(pl.col("x", "y").cast(pl.Float64).round(DIGITS)).to_dicts(),
    }
