"""A run folder: what one training left, whole, dated and hashed; readers see one generation.

RUN/current.json                      which generation readers use: the one pointer
RUN/generations/N/manifest.json       settings, seed, versions, sha256 of every file; written last
RUN/generations/N/items.parquet       kind, id, name, part, relations, popularity
RUN/generations/N/embeddings/KIND.NAME.parquet
RUN/generations/N/weights/NAME.safetensors, encoders.json
RUN/generations/N/evidence.safetensors  sources and relations that order answers
RUN/work/                             checkpoints of a training that has not ended
"""

import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from undersong import embeddings
from undersong.catalogue.tables import Kind
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.files import flush, read_json, sha256, write_json

FORMAT = 1
REMEDY = "train again with `undersong train`"
KEPT_GENERATIONS = 2
PACKAGES = (
    "undersong",
    "numpy",
    "scipy",
    "polars",
    "safetensors",
    "torch",
    "implicit",
    "soundfile",
)


@dataclass(frozen=True)
class Run:
    """One published generation, opened for reading."""

    folder: Path
    generation: str
    manifest: dict[str, Any]

    @property
    def home(self) -> Path:
        """Folder of the generation."""
        return self.folder / "generations" / self.generation

    def embeddings(self, kind: Kind, name: str) -> Embeddings:
        """Read one embedding: "general" (E_G), "judged" (E_G that saw training relations alone),
        "content" (E_C) or "interaction" (E_U).

        Raises
        ------
        ArtifactError
            If this run has none of that name, or the file is not the one that was published.
        """
        return embeddings.read(self.file(f"embeddings/{kind}.{name}.parquet"))

    def has_embeddings(self, kind: Kind, name: str) -> bool:
        """Say whether the run holds an embedding."""
        return self.has(f"embeddings/{kind}.{name}.parquet")

    def has(self, name: str) -> bool:
        """Say whether the run holds a file."""
        return name in self.manifest["files"]

    def items(self, kind: Kind) -> pl.DataFrame:
        """Items of one kind: id, name, part, relations, popularity."""
        table = pl.read_parquet(self.file("items.parquet"))
        return table.filter(pl.col("kind") == kind).drop("kind")

    def file(self, name: str) -> Path:
        """Path of a published file, after checking that it is the one in the manifest."""
        if name not in self.manifest["files"]:
            raise ArtifactError(
                f"{self.home} holds no {name}; it holds {', '.join(sorted(self.manifest['files']))}"
            )
        path = self.home / name
        try:
            found = sha256(path)
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read ({error}); {REMEDY}") from error
        if found != self.manifest["files"][name]:
            raise ArtifactError(
                f"{path} was changed since it was published: sha256 {found[:12]}..., manifest says "
                f"{self.manifest['files'][name][:12]}...; {REMEDY}"
            )
        return path


def read(folder: Path) -> Run:
    """Open the current generation of a run.

    Raises
    ------
    ArtifactError
        If the folder is no run, was never published, or has another format.
    """
    pointer = read_json(folder / "current.json", form=FORMAT, remedy=REMEDY)
    generation = str(pointer["generation"])
    manifest = folder / "generations" / generation / "manifest.json"
    return Run(folder, generation, read_json(manifest, form=FORMAT, remedy=REMEDY))


@contextmanager
def publishing(folder: Path, about: dict[str, Any]) -> Iterator[Path]:
    """Give a folder to write a new generation into; at the end of the block readers see it.

    ``about`` joins the manifest. When the block raises, the old generation stays.
    """
    generations = folder / "generations"
    generations.mkdir(parents=True, exist_ok=True)
    _remove(generations, lambda name: name.endswith(".partial"))
    numbers = sorted(int(x.name) for x in generations.iterdir() if x.name.isdigit())
    number = (numbers[-1] if numbers else 0) + 1
    partial = generations / f"{number}.partial"
    partial.mkdir()
    yield partial
    written = sorted(x for x in partial.rglob("*") if x.is_file())
    manifest = about | {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "files": {x.relative_to(partial).as_posix(): sha256(x) for x in written},
    }
    write_json(partial / "manifest.json", manifest)
    partial.rename(generations / str(number))
    flush(generations)
    write_json(folder / "current.json", {"format": FORMAT, "generation": str(number)})
    kept = {str(x) for x in [*numbers, number][-KEPT_GENERATIONS:]}
    _remove(generations, lambda name: name not in kept)


def _remove(generations: Path, unwanted: Callable[[str], bool]) -> None:
    for other in generations.iterdir():
        if unwanted(other.name):
            shutil.rmtree(other)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
