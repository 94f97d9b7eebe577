"""What leaves: the items of a run that have a vector, and what is known of them, in blocks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl

from undersong import __version__
from undersong.catalogue import ATTRIBUTES_FILE, Kind, read_attributes
from undersong.errors import ArtifactError, DataError
from undersong.io.files import read_json, replacing, sha256, write_json
from undersong.progress import Progress, silent
from undersong.runs import Run

BLOCK = 4096

Embedding = Literal["general", "content", "interaction", "graph"]


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

    def blocks(self, target: str = "", progress: Progress = silent) -> Iterator[pl.DataFrame]:
        """Read ``BLOCK`` items at a time, so that memory is bounded.

        It holds what is known of all items (a few hundred bytes each) and a few row groups of
        vectors, however many there are. ``progress`` hears of every block that was used.
        """
        done = 0
        for block in self.frame.collect_batches(chunk_size=BLOCK):
            yield block
            done += len(block)
            progress(target, done, self.count)

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
    """Return which run an export is of: its generation, the hash of its content, its date."""
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
    if not run.has(ATTRIBUTES_FILE):
        return items
    more = read_attributes(run.file(ATTRIBUTES_FILE), kind).table.drop("popularity").lazy()
    return items.join(more, on="id", how="left", maintain_order="left")


FORMAT = 1


@contextmanager
def placing(
    out: Path, about: Mapping[str, Any], *, beside: Sequence[str] = (), force: bool
) -> Iterator[tuple[Path, ...]]:
    """Yield temporary paths of ``out`` and of the files beside it, which the end puts in place.

    When the block raises, everything stays as it was. ``about`` is what the note says.

    Raises
    ------
    DataError
        If something stands there that was not exported, or was changed since; see
        ``refuse_foreign``.
    """
    refuse_foreign(out, beside=beside, force=force)
    paths = [out, *(_beside(out, suffix) for suffix in beside)]
    with ExitStack() as stack:
        temporaries = tuple(stack.enter_context(replacing(path)) for path in paths)
        yield temporaries
        pairs = zip(paths, temporaries, strict=True)
        hashes = {path.name: _hashes(path, temporary) for path, temporary in pairs}
        # First, and with what was there: killed in between, the same command may go on.
        write_json(note(out), {**about, "format": FORMAT, "files": hashes}, summed=True)


def _hashes(path: Path, new: Path) -> dict[str, str]:
    before = {"before": sha256(path)} if path.exists() else {}
    return {"sha256": sha256(new)} | before


def note(out: Path) -> Path:
    """Where the note about an export lies."""
    return _beside(out, "json")


def refuse_foreign(out: Path, *, beside: Sequence[str] = (), force: bool) -> None:
    """Let nothing be overwritten that `undersong export` did not write, unless ``force``.

    Raises
    ------
    DataError
        If ``out`` is a folder, or one of the files exists and no note lists it with its sha256.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder; name the file to write, such as {out / 'export'}")
    if force:
        return
    listed = _listed(note(out))
    for path in (out, *(_beside(out, suffix) for suffix in beside)):
        if path.exists() and sha256(path) not in listed.get(path.name, {}).values():
            raise DataError(
                f"{path} exists and is not what `undersong export` left there; choose another "
                "name, or replace it with --force"
            )


def _listed(path: Path) -> dict[str, Any]:
    """Files that a note lists; none where there is no note.

    A file of that name which is no note is foreign, too.
    """
    if not path.exists():
        return {}
    try:
        return dict(read_json(path, version=FORMAT, hint="")["files"])
    except (ArtifactError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} exists and is no note of `undersong export`; choose another name, or replace "
            "it with --force"
        ) from error


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.{suffix}")
