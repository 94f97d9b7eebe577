"""Export to Qdrant: requests that add the points, one a line."""

from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import polars as pl

from undersong.catalogue.tables import Kind
from undersong.exports.place import placing
from undersong.exports.rows import Rows
from undersong.progress import Progress, silent

POINTS = 256  # of one request: 128 numbers each are half a megabyte; a server takes 32 MB


def write_requests(
    rows: Rows, out: Path, *, force: bool = False, progress: Progress = silent
) -> None:
    """Write a JSON Lines file of which each line is the body of one "upsert points" request.

    A point has the UUID of ``point``, the vector, and as payload the item's id and what is known
    of it. The note beside it says under ``collection`` which body makes the collection.

    Raises
    ------
    DataError
        If something foreign stands at ``out`` and not ``force``.

    Source: Qdrant REST API, PUT /collections/{name}/points.
    """
    about = rows.origin | {
        "target": "qdrant",
        "collection": {"vectors": {"size": rows.width, "distance": "Cosine"}},
    }
    kind, done = rows.origin["kind"], 0
    with placing(out, about, force=force) as (temporary,), temporary.open("wb") as file:
        for block in rows.blocks():
            for body in _bodies(block, kind):
                file.write(body.encode() + b"\n")
            done += len(block)
            progress("qdrant", done, rows.count)


def point(kind: Kind, item: str) -> str:
    """Id of an item's point, the same in every generation; Qdrant takes numbers and UUIDs only."""
    return str(uuid5(NAMESPACE_URL, f"undersong:{kind}:{item}"))


def _bodies(block: pl.DataFrame, kind: Kind) -> Iterator[str]:
    points = block.select(
        pl.Series("id", [point(kind, item) for item in block["id"]], dtype=pl.String),
        "vector",
        pl.struct(pl.exclude("vector")).alias("payload"),
    )
    for part in points.iter_slices(POINTS):
        lines = part.write_ndjson().rstrip("\n").split("\n")
        yield f'{{"points":[{",".join(lines)}]}}'
