"""Run folders: what one training left, whole, dated and hashed, and how readers open it.

RUN/current.json                      which generation readers use: the one pointer
RUN/generations/N/manifest.json       settings, seed, versions, sha256 of every file; written last
RUN/generations/N/items.parquet       kind, id, name, part, relations, popularity
RUN/generations/N/facts.parquet       what filters ask for: genres, region, decade, album, ...
RUN/generations/N/embeddings/KIND.NAME.parquet, on a shelf also .npy
RUN/generations/N/weights/NAME.safetensors, encoders.json
RUN/generations/N/evidence.safetensors  sources and relations that order answers
RUN/generations/N/reasons/            what explains answers: shared things, E_G without each source
RUN/generations/N/known.parquet       metadata of the artists, for items that are added later
RUN/added/N.parquet                   one row an item added to generation N (`undersong add`)
RUN/added/.lock                       while that is changed, so that two commands lose nothing
RUN/work/                             checkpoints of a training that has not ended

A shelf is a folder that ``undersong publish`` writes to; a run folder serves as well.
"""

import hashlib
import json
import platform
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import polars as pl

from undersong import embeddings
from undersong.catalogue import Kind
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, UndersongError, nearest_known
from undersong.io.files import (
    Stamp,
    flush,
    locked,
    read_json,
    reading,
    sha256,
    stamp,
    write_json,
    writing,
)
from undersong.io.table_files import content_sum, read_metadata, read_table, write_table

ADDED_METADATA = {"undersong.added": "1"}
ADDED_SUM = "undersong.sum"  # sha256 of what the table holds; an earlier version wrote none

# ``fields`` is JSON, name -> word, words or number. ``given`` is a feature vector that a user gave,
# ``content`` E_C and ``general`` E_G. ``nearest`` is the highest cosine of E_C to what CbRM learned
# from; of ``said`` words and numbers the run knows all but ``unseen``.
ADDED_COLUMNS: dict[str, pl.DataType] = {
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


def added_path(folder: Path, generation: str) -> Path:
    """Path of the items that were added to a generation of the run in ``folder``."""
    return folder / "added" / f"{generation}.parquet"


def added_generations(folder: Path) -> tuple[str, ...]:
    """Generations of a run to which something was added, oldest first."""
    numbers = (x.stem for x in (folder / "added").glob("*.parquet") if x.stem.isdigit())
    return tuple(sorted(numbers, key=int))


def read_added(folder: Path, generation: str) -> pl.DataFrame:
    """Read what was added to a generation, in the order it came; no row if nothing was.

    Raises
    ------
    ArtifactError
        If the file is damaged or has another format.
    """
    path = added_path(folder, generation)
    if not path.exists():
        return pl.DataFrame(schema=ADDED_COLUMNS)
    hint = f"delete it and add the items again to {folder}"
    table = read_table(path, hint=hint, metadata=ADDED_METADATA)
    if dict(table.schema) != ADDED_COLUMNS:
        raise ArtifactError(f"{path} holds other columns than {', '.join(ADDED_COLUMNS)}; {hint}")
    if read_metadata(path, hint=hint).get(ADDED_SUM, content_sum(table)) != content_sum(table):
        raise ArtifactError(f"{path} was changed since it was written; {hint}")
    return table


def write_added(folder: Path, generation: str, table: pl.DataFrame) -> None:
    """Write what was added to a generation; a reader sees the old rows or the new ones."""
    metadata = ADDED_METADATA | {ADDED_SUM: content_sum(table)}
    write_table(added_path(folder, generation), table, metadata=metadata)


def changing_added(folder: Path) -> AbstractContextManager[None]:
    """Lock what was added; other writers wait (``undersong.io.files``)."""
    return locked(folder / "added")


FORMAT = 1
THREADS = 4  # files that are checked at a time
REMEDY = "train again with `undersong train`"
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
    _checked: dict[str, Stamp] = field(default_factory=dict, repr=False, compare=False)
    _checking: dict[str, Future[None]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def home(self) -> Path:
        """Folder of the generation."""
        return self.folder / "generations" / self.generation

    @property
    def content(self) -> str:
        """Hash of all files together, 64 hexadecimal digits: equal content, equal hash."""
        listed = json.dumps(self.manifest["files"], sort_keys=True)
        return hashlib.sha256(listed.encode()).hexdigest()

    @property
    def trained(self) -> dict[str, Any]:
        """When, from which generation and with which versions it was trained: ``made``,
        ``versions``, ``generation``, ``content``, here or where it was published from."""
        own = {"generation": self.generation, "content": self.content}
        own |= {name: self.manifest[name] for name in ("made", "versions")}
        return dict(self.manifest.get("trained", own))

    def embeddings(self, kind: Kind, name: str) -> Embeddings:
        """Read one embedding: "general" (E_G), "judged" (E_G that saw training relations alone),
        "content" (E_C) or "interaction" (E_U).

        Raises
        ------
        ArtifactError
            If this run has none of that name, or the file is not the one that was published.
        """
        mapped = f"embeddings/{kind}.{name}.npy"
        return embeddings.read(
            self.file(f"embeddings/{kind}.{name}.parquet"),
            mapped=self.file(mapped) if self.has(mapped) else None,
        )

    def embedded(self, kind: Kind, name: str) -> tuple[str, ...]:
        """Read the ids of one embedding, in its order; errors as ``embeddings``."""
        return embeddings.read_ids(self.file(f"embeddings/{kind}.{name}.parquet"))

    def has_embeddings(self, kind: Kind, name: str) -> bool:
        """Whether the run holds an embedding."""
        return self.has(f"embeddings/{kind}.{name}.parquet")

    def has(self, name: str) -> bool:
        """Whether the run holds a file."""
        return name in self.manifest["files"]

    def items(self, kind: Kind) -> pl.DataFrame:
        """Items of one kind: id, name, about, part, relations, popularity.

        First those that were trained, then those added since, of which the part is null.
        """
        added = self.added(kind).select("id", "name", "about", relations=pl.lit(0, pl.Int64()))
        return pl.concat([self.trained_items(kind), added], how="diagonal")

    def added(self, kind: Kind) -> pl.DataFrame:
        """Items of one kind that were added to this generation (``undersong.runs``)."""
        return read_added(self.folder, self.generation).filter(pl.col("kind") == kind)

    def trained_items(self, kind: Kind) -> pl.DataFrame:
        """Items of one kind that were in the catalogue, with the columns of ``items``."""
        table = read_table(self.file("items.parquet"), hint=REMEDY)
        return table.filter(pl.col("kind") == kind).drop("kind")

    def file(self, name: str) -> Path:
        """Path of a published file, after checking that it is the one in the manifest.

        It is read whole for that once, and again only where it was replaced since.
        """
        if name not in self.manifest["files"]:
            raise ArtifactError(
                f"{self.home} holds no {name}; it holds {', '.join(sorted(self.manifest['files']))}"
            )
        if waited := self._checking.pop(name, None):
            waited.result()
        self._check(name)
        return self.home / name

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Check every published file, several at a time, while the block runs.

        ``file`` waits for those that the block asks for. At its end all have been checked.

        Raises
        ------
        ArtifactError
            If one cannot be read or was changed.
        """
        with ThreadPoolExecutor(THREADS) as threads:
            checks = {x: threads.submit(self._check, x) for x in self.manifest["files"]}
            self._checking.update(checks)
            yield
            for check in checks.values():
                check.result()

    def _check(self, name: str) -> None:
        path = self.home / name
        current = stamp(path)
        if current is None or self._checked.get(name) != current:
            check(path, self.manifest["files"][name])
            if current is not None:
                self._checked[name] = current


def check(path: Path, expected: str) -> None:
    """See that a file is the one with this sha256.

    Raises
    ------
    ArtifactError
        If it cannot be read or was changed.
    """
    with reading(path, hint=REMEDY):
        digest = sha256(path)
    if digest != expected:
        raise ArtifactError(
            f"{path} was changed since it was published: sha256 {digest[:12]}..., manifest says "
            f"{expected[:12]}...; {REMEDY}"
        )


def read(folder: str | Path) -> Run:
    """Open the current generation of a run, or of a shelf that runs were published to.

    Raises
    ------
    ArtifactError
        If the folder is no run, was never published, has another format, or its pointer or
        manifest is not one that was written here.
    """
    folder = Path(folder)
    path = folder / "current.json"
    if not path.exists():
        raise ArtifactError(f"{path} is missing: {_why_none(folder)}")
    generation = str(read_json(path, version=FORMAT, hint=REMEDY).get("generation"))
    if not generation.isdecimal():
        raise ArtifactError(f"{path} names the generation {generation!r}, no number; {REMEDY}")
    return read_generation(folder, generation)


def _why_none(folder: Path) -> str:
    """Return why a folder has no generation that readers could use, and what to do."""
    if not folder.is_dir():
        beside = sorted(x.name for x in folder.parent.glob("*") if (x / "current.json").exists())
        return f"there is no folder {folder}; {nearest_known(folder.name, beside)}"
    if (folder / "catalogue.json").exists():
        return f"this is a catalogue; learn from it with `undersong train {folder} RUN`"
    if (folder / "work").exists():
        return f"training has not ended; `undersong train CATALOGUE {folder}` goes on with it"
    return (
        f"nothing has been published to {folder}; for a shelf do so with "
        f"`undersong publish RUN {folder}`, for a run with `undersong train CATALOGUE {folder}`"
    )


def read_generation(folder: Path, generation: str) -> Run:
    """Open one generation, current or not.

    Raises
    ------
    ArtifactError
        If it is absent or has another format, or its manifest names files outside of it.
    """
    path = folder / "generations" / generation / "manifest.json"
    manifest = read_json(path, version=FORMAT, hint=REMEDY)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(x, str) for x in files.values()):
        raise ArtifactError(f"{path} lists no files with their sha256; {REMEDY}")
    for name in files:
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ArtifactError(f"{path} names {name!r}, a file outside of its folder; {REMEDY}")
    return Run(folder, generation, manifest)


@contextmanager
def publishing(folder: Path, about: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder to write a new generation into; at the end of the block readers see it.

    ``about`` joins the manifest. When the block raises, the old generation stays. Kept are the
    new generation and the one that readers had before. Other writers of the folder wait.
    """
    generations = folder / "generations"
    with locked(folder):
        with writing(generations):
            generations.mkdir(exist_ok=True)
            _clean(folder)
        number = max((int(x) for x in numbers(folder)), default=0) + 1
        before = _pointed(folder)
        partial = generations / f"{number}.partial"
        try:
            with writing(partial):
                partial.mkdir()
            yield partial
            written = sorted(x for x in partial.rglob("*") if x.is_file())
            manifest = about | {
                "format": FORMAT,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": _versions(),
                "files": {x.relative_to(partial).as_posix(): sha256(x) for x in written},
            }
            write_json(partial / "manifest.json", manifest, summed=True)
            partial.rename(generations / str(number))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            with suppress(OSError):  # one that was empty
                generations.rmdir()
            raise
        flush(generations)
        point(folder, str(number), before=before)
        for other in numbers(folder):
            if other not in (str(number), before):
                shutil.rmtree(generations / other)


def point(folder: Path, generation: str, *, before: str | None) -> None:
    """Make readers see a generation: the one pointer, replaced at once.

    Raises
    ------
    ArtifactError
        If readers do not see ``before`` any more: where nothing can be locked, two may write.
    """
    if (now := _pointed(folder)) != before:
        raise ArtifactError(
            f"{folder} shows generation {now}, no longer {before}: another command wrote there; "
            "give this one again when that has ended"
        )
    write_json(folder / "current.json", {"format": FORMAT, "generation": generation}, summed=True)


def numbers(folder: Path) -> tuple[str, ...]:
    """Generations of a run that are whole, oldest first; other names in the folder are left out."""
    folders = (folder / "generations").glob("*")
    return tuple(sorted((x.name for x in folders if x.name.isdecimal()), key=int))


def _pointed(folder: Path) -> str | None:
    """Generation that readers have; None where nothing readable was published."""
    try:
        return read(folder).generation
    except ArtifactError:
        return None


def _clean(folder: Path) -> None:
    """Remove what a publication left that was killed."""
    for remnant in (folder / "generations").glob("*.partial"):
        if remnant.stem.isdecimal():
            shutil.rmtree(remnant)
    for remnant in folder.glob(".current.json.*.partial"):
        remnant.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


T = TypeVar("T")
Files = dict[Path, Stamp | None]
# What reading may raise of a file that has the right hash but was written by something else.
FOREIGN = (UndersongError, OSError, ValueError, LookupError, TypeError, pl.exceptions.PolarsError)


class RunReader(Generic[T]):
    """The current generation of a shelf, opened whole; ``refresh`` moves to the next.

    Parameters
    ----------
    folder : Path
    opening : from a generation to what the reader needs of it
        Files are checked beside it, each before it is read and all before the reader has it.
    readying : takes into memory what ``opening`` left for later, before a next generation is used
        The first one is used as soon as it is open; whoever opens a shelf then sees to the rest.
        All must be in memory in time: the files go once two newer generations are published.

    Attributes
    ----------
    current : what ``opening`` gave of the generation in use
        Read it once for each request, so that one request sees one generation.

    Raises
    ------
    ArtifactError
        If there is no generation yet, or it is refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        opening: Callable[[Run], T],
        readying: Callable[[T], None] = lambda opened: None,
    ) -> None:
        self.folder = folder
        self._opening, self._readying = opening, readying
        self._turn = threading.Lock()
        self._seen = self._stamp()
        self._refused: Files | None = None  # of a refused generation, as it was then
        self._last: Files = {}  # and when it was looked at last
        self.current = self._open()

    def refresh(self) -> bool:
        """Move to what the pointer names, if that changed; return whether anything is new.

        Costs one look at the pointer when nothing changed. The new generation is checked and
        opened beside the old one, which answers until one assignment puts the new in its place.
        Any thread may call it; while one opens, the others go on with what there is.

        Raises
        ------
        ArtifactError
            If the new generation is refused. The old one stays in use, and the refusal is raised
            once: the next look is taken when the pointer changes again, or the files of the refused
            generation, which a copy of a shelf may bring after the pointer, have come to rest.
        """
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if self._stamp() == self._seen and not self._arrived():
                return False
            while True:
                self._seen, self._refused = self._stamp(), None
                try:
                    self.current = self._open(ready=True)
                except ArtifactError:
                    # A publisher may have moved on while the files were read: look again.
                    if self._stamp() == self._seen:
                        self._refused = self._last = self._files()
                        raise
                if self._stamp() == self._seen:
                    return True
        finally:
            self._turn.release()

    def _arrived(self) -> bool:
        """Whether a refused generation changed since, and does so no more."""
        if self._refused is None:
            return False
        before, self._last = self._last, self._files()
        return self._last == before != self._refused

    def _files(self) -> Files:
        """Return the stamps of all files of generations."""
        return {x: stamp(x) for x in (self.folder / "generations").rglob("*")}

    def _open(self, *, ready: bool = False) -> T:
        run = read(self.folder)
        try:
            with run.checking():
                opened = self._opening(run)
                if ready:
                    self._readying(opened)
            return opened
        except FOREIGN as error:
            raise ArtifactError(
                f"generation {run.generation} of {self.folder} is refused: {error or repr(error)}"
            ) from error

    def _stamp(self) -> Stamp | None:
        """What changes whenever the pointer is replaced; None where there is none."""
        return stamp(self.folder / "current.json")
