"""Deezer's "cold start similar artists" (24,270 artists, directed) -> artists, relations, features.

deezer_graph.csv (no header: artist, artist, similarity) says to which 20 others each artist
points; deezer_features.csv gives 32 numbers on its genre, 20 marks for its country and 4 numbers
on its mood. Names were removed. The first 80 % of the ids are for training, in the order of their
popularity; then come 10 % for the test and 10 % for validation. Loops are left out.

A catalogue's relations have no direction; ``directed.parquet`` beside it keeps a, b and similarity
as they were. The data have no licence: fetch them yourself, and do not pass them on.
"""

import math
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import ITEMS, Catalogue, Field, Origin
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.importers.archives import TABLE_REMEDY, Member, members, separated
from undersong.importers.result import IDENTITIES, Failures, Imported

ORIGIN = Origin("Deezer, similar artists ranking (RecSys 2021)", "no licence stated", "all")
WANTED = r"(^|/)deezer_(graph|features)\.csv$"
COUNTRY = slice(33, 53)  # of the values of a line; the genre is before them, the mood after
TRAINED = 0.8  # of the artists; half of the others are for the test
DIRECTED = {"a": pl.String(), "b": pl.String(), "similarity": pl.Float64()}
FIELDS = (
    Field("country", "artist", "category", "region"),
    Field("popularity", "artist", "number", "popularity"),
)


def read(path: Path, failures: Failures) -> Imported:
    """Read the two files."""
    numbers: dict[str, list[list[float]]] = {}
    for member in members(path, WANTED, alone=False):
        graph = "graph" in member.name
        numbers["graph" if graph else "features"] = _numbers(member, failures, 3 if graph else 57)
    lacking = sorted({"graph", "features"} - {name for name, rows in numbers.items() if rows})
    if lacking:
        raise DataError(f"{path} has no deezer_{lacking[0]}.csv with numbers in it")
    described = np.array(numbers["features"])
    described = described[np.unique(described[:, 0], return_index=True)[1]]
    ids = [str(int(x)) for x in described[:, 0]]
    edges = np.array(numbers["graph"])
    ends = {name: [str(int(x)) for x in edges[:, place]] for place, name in enumerate("ab")}
    directed = pl.DataFrame(ends | {"similarity": edges[:, 2]}, schema=DIRECTED)
    directed = directed.filter(pl.col("a") != pl.col("b"), pl.col("a", "b").is_in(ids))
    sound = np.delete(described, np.r_[0, COUNTRY], axis=1).astype(np.float32)  # (n, 36)
    catalogue = Catalogue(
        artists=_artists(ids, described),
        relations=directed.select(
            pl.lit("artist").alias("kind"),
            pl.min_horizontal("a", "b").alias("a"),
            pl.max_horizontal("a", "b").alias("b"),
            pl.lit("deezer").alias("source"),
        ).unique(maintain_order=True),
        fields=FIELDS,
        features={("descriptors", "artist"): Embeddings(tuple(ids), sound)},
        origins=(ORIGIN,),
    )
    known = [("artist", x, "deezer-anonymous", x) for x in ids]
    identities = pl.DataFrame(known, schema=IDENTITIES, orient="row")
    return Imported(catalogue, identities, others={"directed": directed})


def _numbers(member: Member, failures: Failures, width: int) -> list[list[float]]:
    rows = []
    for number, values in separated(member, failures, mark=",", width=width):
        try:
            row = [float(x) for x in values]
        except ValueError as error:
            failures.add(member.name, number, str(error), remedy=TABLE_REMEDY)
            continue
        if all(map(math.isfinite, row)):
            rows.append(row)
        else:
            failures.add(member.name, number, "has a value that is no number", remedy=TABLE_REMEDY)
    return rows


def _artists(ids: list[str], described: NDArray[np.float64]) -> pl.DataFrame:
    """Make the table; popularity falls from 1 to 0 over the artists whose rank is known."""
    trained = math.floor(TRAINED * len(ids))
    tested = (len(ids) - trained) // 2
    splits = ["train"] * trained + ["test"] * tested
    marks = described[:, COUNTRY]
    countries = [f"country {x.argmax() + 1}" if x.any() else None for x in marks]
    columns = {
        "id": ids,
        "name": [None] * len(ids),
        "split": splits + ["validation"] * (len(ids) - len(splits)),
        "country": countries,
        "popularity": [1 - x / trained if x < trained else None for x in range(len(ids))],
    }
    return pl.DataFrame(
        columns, schema=ITEMS["artist"] | {"country": pl.String(), "popularity": pl.Float64()}
    )
