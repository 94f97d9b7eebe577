"""Commands that hand a run to other programs: export and its targets."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from undersong.cli.group import FILE, FOLDER, TRACKS, Group, echo, kind_in

if TYPE_CHECKING:
    from undersong.export.rows import Embedding, Rows
    from undersong.export.vector_databases import Form as PostgresForm
    from undersong.export.vector_files import Form as FaissForm
    from undersong.progress import Progress

EMBEDDING = click.option(
    "--embedding",
    default="general",
    show_default=True,
    type=click.Choice(["general", "content", "interaction", "graph"]),
    help="E_G, E_C (audio alone), E_U (plays alone) or X_G (graph network).",
)
FORCE = click.option("--force", is_flag=True, help="Replace a file that is not an export.")


def of_vectors(write: Callable[..., str | None]) -> Callable[..., None]:
    """Make what writes rows to OUT a command, with the options that every export has.

    It opens the vectors of RUN, passes on the command's own options, and says what was written,
    with the line that the export returns, if any.
    """

    @wraps(write)
    def command(
        run: Path, out: Path, tracks: bool, embedding: "Embedding", **options: object
    ) -> None:
        from undersong import runs
        from undersong.cli.group import ProgressDisplay
        from undersong.export.rows import open_rows

        opened = runs.read(run)
        rows = open_rows(opened, kind_in(opened, tracks), embedding=embedding)
        with ProgressDisplay() as progress:
            last = write(rows, out, progress=progress, **options)
        origin = rows.origin
        echo(
            f"{out}: {rows.count} {origin['kind']}s x {rows.width}, {origin['embedding']} "
            f"embedding of generation {origin['generation']}"
        )
        if last:
            echo(last)

    arguments = click.argument("out", type=FILE), click.argument("run", type=FOLDER)
    for decorate in (FORCE, EMBEDDING, TRACKS, *arguments):
        command = decorate(command)
    return command


@click.group(cls=Group)
def export() -> None:
    """Write vectors and answers for other programs. OUT.json next to each export has the generation
    and the sha256 of each file.
    """


@export.command()
@of_vectors
def parquet(rows: "Rows", out: Path, *, force: bool, progress: "Progress") -> None:
    """Write one Parquet table: id, name, what is known, vector as a fixed-size list of float32.

    \b
    Example:
        undersong export parquet my/run artists.parquet
    """
    from undersong.export.vector_files import write_parquet

    write_parquet(rows, out, force=force)


@export.command()
@of_vectors
def numpy(rows: "Rows", out: Path, *, force: bool, progress: "Progress") -> None:
    """Write the vectors as a .npy array, and OUT.items.jsonl with what each row is.

    \b
    Example:
        undersong export numpy my/run artists.npy
    """
    from undersong.export.vector_files import write_numpy

    write_numpy(rows, out, force=force, progress=progress)


@export.command()
@of_vectors
def csv(rows: "Rows", out: Path, *, force: bool, progress: "Progress") -> None:
    """Write a CSV table: what is known about each item, and its vector in columns v0, v1, ...

    Text that a spreadsheet would run as a formula is preceded by '. For neighbours as CSV see
    `undersong export lists`.

    \b
    Example:
        undersong export csv my/run artists.csv
    """
    from undersong.export.vector_files import write_vectors

    write_vectors(rows, out, force=force)


@export.command()
@of_vectors
@click.option(
    "--index",
    "form",
    default="flat",
    show_default=True,
    type=click.Choice(["flat", "ivf"]),
    help="Exact, or approximate for a million items.",
)
def faiss(rows: "Rows", out: Path, *, form: "FaissForm", force: bool, progress: "Progress") -> None:
    """Write a faiss index by inner product, and OUT.items.jsonl with the item of each number.

    \b
    Example:
        undersong export faiss my/run artists.faiss
    """
    from undersong.export.vector_files import write_faiss

    write_faiss(rows, out, form=form, force=force, progress=progress)


@export.command()
@of_vectors
@click.option(
    "--index",
    "form",
    default="hnsw",
    show_default=True,
    type=click.Choice(["hnsw", "ivfflat", "exact", "plain"]),
    help="Index of pgvector; plain works without pgvector.",
)
@click.option("--table", help="Name of the table; else undersong_artists or undersong_tracks.")
def pgvector(
    rows: "Rows",
    out: Path,
    *,
    form: "PostgresForm",
    table: str | None,
    force: bool,
    progress: "Progress",
) -> None:
    """Write a script for psql: a table of items with their vectors, an index, an example query.

    \b
    Example:
        undersong export pgvector my/run artists.sql
    """
    from undersong.export.vector_databases import write_sql

    write_sql(rows, out, form=form, table=table, force=force, progress=progress)


@export.command()
@of_vectors
@click.option("--url", help="Also send the points to this server, such as http://localhost:6333.")
@click.option("--alias", help="Alias for readers; else undersong_artists or undersong_tracks.")
def qdrant(
    rows: "Rows",
    out: Path,
    *,
    url: str | None,
    alias: str | None,
    force: bool,
    progress: "Progress",
) -> str | None:
    """Write Qdrant points with their payload, one "upsert" request per line; send them with --url.

    Points go to a new collection, and the alias switches to it when all have arrived. The
    environment variable QDRANT_API_KEY may hold a key.

    \b
    Example:
        undersong export qdrant my/run artists.jsonl --url http://localhost:6333
    """
    from undersong.export.vector_databases import send, write_requests

    write_requests(rows, out, force=force, progress=progress)
    if not url:
        return None
    name = alias or f"undersong_{rows.origin['kind']}s"
    return f"{name} at {url} is {send(out, url, alias=name, progress=progress)} now"


@export.command()
@click.argument("run", type=FOLDER)
@click.argument("neighbours", type=FILE)
@click.argument("out", type=FILE)
@TRACKS
@FORCE
def lists(run: Path, neighbours: Path, out: Path, tracks: bool, force: bool) -> None:
    """Add names to the table NEIGHBOURS of `undersong neighbours`.

    OUT ends in .csv, .parquet or .jsonl.

    \b
    Example:
        undersong export lists my/run neighbours.parquet neighbours.csv
    """
    from undersong import runs
    from undersong.export.vector_files import write_lists

    opened = runs.read(run)
    count = write_lists(opened, neighbours, out, kind=kind_in(opened, tracks), force=force)
    echo(f"{out}: {count} rows, named by generation {opened.generation}")
