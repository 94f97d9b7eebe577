"""What leaves: the items of a run that have a vector, and what is known of them, in blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import polars as pl

from undersong import __version__
from undersong.catalogue.tables import Kind
from undersong.retrieval import facts
from undersong.runs import Run

BLOCK = 4096

Embedding = Literal["general", "content", "interaction"]


@dataclass(frozen=True)
class Rows:
    """Items with a vector, in the order of the published embedding.

    Parameters
    ----------
    frame : lazy table, not yet read
        id, name, about, part, relations, popularity, long_tail (no relation is known), whatever
        columns the run's ``facts.parquet`` adds, and vector, an array of d float32 numbers.
    count : number of items, 0 or more
    width : d
    origin : where they come from
        kind, embedding, generation, hash of its content, when it was made, versions, n and d
    """

    frame: pl.LazyFrame
    count: int
    width: int
    origin: dict[str, Any]

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Read ``BLOCK`` items at a time, so that memory is bounded.

        It holds what is known of all items (a few hundred bytes each) and a few row groups of
        vectors, however many there are.
        """
        return iter(self.frame.collect_batches(chunk_size=BLOCK))

    def known(self) -> dict[str, pl.DataType]:
        """Columns of what is known of an item, with their types: all but id and vector."""
        schema = self.frame.collect_schema()
        return {name: schema[name] for name in schema.names() if name not in ("id", "vector")}


def open_rows(run: Run, kind: Kind, *, embedding: Embedding = "general") -> Rows:
    """Open what a run can hand out. An item without this vector is absent.

    Raises
    ------
    ArtifactError
        If the run holds no such embedding, or a file is not the one that was published.
    """
    vectors = pl.scan_parquet(run.file(f"embeddings/{kind}.{embedding}.parquet"))
    frame = vectors.join(_known(run, kind), on="id", how="left", maintain_order="left")
    frame = frame.select(pl.exclude("vector"), "vector")
    width = cast(pl.Array, vectors.collect_schema()["vector"]).size
    count = int(vectors.select(pl.len()).collect().item())
    about = {"kind": kind, "embedding": embedding, "items": count, "width": width}
    return Rows(frame, count, width, provenance(run) | about)


def provenance(run: Run) -> dict[str, Any]:
    """Say which run an export is of: its generation, the hash of its content, when it was made."""
    return {
        "generation": run.generation,
        "content": run.content,
        "made": run.manifest["made"],
        "undersong": __version__,
    }


def _known(run: Run, kind: Kind) -> pl.LazyFrame:
    items = pl.scan_parquet(run.file("items.parquet")).filter(pl.col("kind") == kind).drop("kind")
    items = items.with_columns(
        pl.col("popularity").fill_nan(None), long_tail=pl.col("relations") == 0
    )
    if not run.has(facts.FILE):
        return items
    more = facts.read(run.file(facts.FILE), kind).table.drop("popularity").lazy()
    return items.join(more, on="id", how="left", maintain_order="left")
