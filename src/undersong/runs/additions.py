"""What was added to one generation of a run after its training: one file, and its lock.

RUN/added/N.parquet     one row an item added to generation N; written whole or not at all
RUN/added/.lock         there while it is changed, so that two commands at once lose nothing
"""

from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl

from undersong.errors import ArtifactError
from undersong.io.files import locked
from undersong.io.table_files import content_sum, read_metadata, read_table, write_table

METADATA = {"undersong.added": "1"}
SUM = "undersong.sum"  # sha256 of what the table holds; an earlier version wrote none

# ``fields`` is JSON, name -> word, words or number. ``given`` is a feature vector that a user gave,
# ``content`` E_C and ``general`` E_G. ``nearest`` is the highest cosine of E_C to what CbRM learned
# from; of ``said`` words and numbers the run knows all but ``unseen``.
COLUMNS: dict[str, pl.DataType] = {
    "kind": pl.String(),
    "id": pl.String(),
    "name": pl.String(),
    "about": pl.String(),
    "artist": pl.String(),
    "path": pl.String(),
    "digest": pl.String(),
    "fields": pl.String(),
    "given": pl.List(pl.Float32()),
    "content": pl.List(pl.Float32()),
    "general": pl.List(pl.Float32()),
    "nearest": pl.Float64(),
    "said": pl.Int64(),
    "unseen": pl.Int64(),
    "added": pl.String(),
}


def place(folder: Path, generation: str) -> Path:
    """Path of the items that were added to a generation of the run in ``folder``."""
    return folder / "added" / f"{generation}.parquet"


def generations(folder: Path) -> tuple[str, ...]:
    """Generations of a run to which something was added, oldest first."""
    numbers = (x.stem for x in (folder / "added").glob("*.parquet") if x.stem.isdigit())
    return tuple(sorted(numbers, key=int))


def read(folder: Path, generation: str) -> pl.DataFrame:
    """Read what was added to a generation, in the order it came; no row if nothing was.

    Raises
    ------
    ArtifactError
        If the file is damaged or has another format.
    """
    path = place(folder, generation)
    if not path.exists():
        return pl.DataFrame(schema=COLUMNS)
    hint = f"delete it and add the items again to {folder}"
    table = read_table(path, hint=hint, metadata=METADATA)
    if dict(table.schema) != COLUMNS:
        raise ArtifactError(f"{path} holds other columns than {', '.join(COLUMNS)}; {hint}")
    if read_metadata(path, hint=hint).get(SUM, content_sum(table)) != content_sum(table):
        raise ArtifactError(f"{path} was changed since it was written; {hint}")
    return table


def write(folder: Path, generation: str, table: pl.DataFrame) -> None:
    """Write what was added to a generation; a reader sees the old rows or the new ones."""
    metadata = METADATA | {SUM: content_sum(table)}
    write_table(place(folder, generation), table, metadata=metadata)


def changing(folder: Path) -> AbstractContextManager[None]:
    """Lock what was added; other writers wait (``undersong.io.files``)."""
    return locked(folder / "added")
