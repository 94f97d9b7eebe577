"""The audio files below a folder, and what the last import knew of them (``files.parquet``).

Links are followed; real folders come first, so that each is found by its own name. Everything
that is passed over, apart from files that are no audio, is a ``Failure``: a row for the user.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.errors import DataError
from undersong.importers.music.library import FILES
from undersong.io.parquet import read_metadata, read_table, write_table

FORMAT = "1"  # of files.parquet, and of how tags are understood: a new one reads them all again
STAMP = ("path", "size", "modified", "inode")
SUFFIXES = (
    *(".aac", ".aif", ".aifc", ".aiff", ".ape", ".asf", ".dff", ".dsf", ".flac", ".m4a", ".mp2"),
    *(".mp3", ".mpc", ".oga", ".ogg", ".opus", ".spx", ".tta", ".wav", ".wave", ".wma", ".wv"),
)


@dataclass(frozen=True)
class Failure:
    """One file or folder that was left out: which (below the folder searched), why, what to do."""

    file: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class ScannedFile:
    """One audio file: path below the folder searched, and what tells that it is the same file.

    ``modified`` is the time of change in nanoseconds.
    """

    path: str
    size: int
    modified: int
    inode: int


@dataclass(frozen=True)
class Scan:
    """What a search found: files by path, failures, and folders of which nothing is known."""

    files: tuple[ScannedFile, ...]
    failures: tuple[Failure, ...]
    unlisted: tuple[str, ...]


def scan_music(root: Path) -> Scan:
    """Find every audio file below a folder, by the end of its name.

    Raises DataError if ``root`` is no folder that can be listed.
    """
    _check(root)
    files: list[ScannedFile] = []
    failures: list[Failure] = []
    unlisted: list[str] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            names = _list(root / folder, seen)
        except OSError as error:
            failures.append(Failure(folder, _cannot("listed", error), "make the folder readable"))
            unlisted.append(folder)
            continue
        if names is None:
            reason = "a link to a folder that is searched already"
            failures.append(Failure(folder, reason, "nothing is lost; remove the link if you like"))
        for name in names or ():
            entry = _look(root, f"{folder}/{name}" if folder else name)
            if isinstance(entry, ScannedFile):
                files.append(entry)
            elif isinstance(entry, Failure):
                failures.append(entry)
            elif entry is not None:
                (links if entry.linked else folders).append(entry.path)
    files.sort(key=lambda x: x.path)
    return Scan(tuple(files), tuple(failures), tuple(unlisted))


def _check(root: Path) -> None:
    try:
        os.listdir(root)
    except OSError as error:
        raise DataError(f"{root} {_cannot('listed', error)}; name a folder of music") from error


def _list(folder: Path, seen: set[tuple[int, int]]) -> list[str] | None:
    """List the names in a folder that was not seen yet, and note it; None for one that was."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return None
    names = sorted(os.listdir(folder))
    seen.add((status.st_dev, status.st_ino))
    return names


@dataclass(frozen=True)
class _Folder:
    path: str
    linked: bool


def _look(root: Path, path: str) -> ScannedFile | Failure | _Folder | None:
    """Return what one name in a folder is; None for what is neither audio nor a folder."""
    whole = os.path.join(root, path)
    audio = os.path.splitext(path)[1].lower() in SUFFIXES
    try:
        status = os.stat(whole)
    except OSError as error:
        remedy = "mend the link, or make it readable"
        return Failure(_shown(path), _cannot("read", error), remedy) if audio else None
    folder = stat.S_ISDIR(status.st_mode)
    if not (audio or folder):
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        return Failure(_shown(path), "its name is not UTF-8", "rename it, with convmv for example")
    if os.path.basename(path).startswith("."):
        return Failure(path, "hidden", "rename it if it is music")
    if folder:
        return _Folder(path, os.path.islink(whole))
    if not stat.S_ISREG(status.st_mode):
        return Failure(path, "not a file, in spite of its name", "remove it")
    return ScannedFile(path, status.st_size, status.st_mtime_ns, status.st_ino)


def _cannot(what: str, error: OSError) -> str:
    return f"cannot be {what} ({error.strerror or error})"


def _shown(path: str) -> str:
    """Write a path with each byte that is not UTF-8 as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_files(catalogue: Path, root: Path) -> pl.DataFrame:
    """Read what is known of the files below ``root``, one row each, columns ``library.FILES``.

    Nothing is known where nothing was imported, or another version of undersong did it. Raises
    DataError if the file is damaged, or about another folder.
    """
    path = catalogue / "files.parquet"
    if not path.exists():
        return pl.DataFrame(schema=FILES)
    hint = "delete it and import again"
    about = read_metadata(path, hint=hint, error=DataError)
    files = read_table(path, hint=hint, error=DataError)
    if about.get("root") != str(root):
        raise DataError(
            f"{catalogue} was made from {about.get('root')}, not from {root}; import into another "
            f"catalogue, or, if the music has moved, delete {path} and import again"
        )
    return files if about.get("format") == FORMAT else pl.DataFrame(schema=FILES)


def write_files(catalogue: Path, root: Path, files: pl.DataFrame) -> None:
    """Write what is known of the files."""
    metadata = {"format": FORMAT, "root": str(root)}
    write_table(catalogue / "files.parquet", files, metadata=metadata)


def compare(scan: Scan, before: pl.DataFrame) -> tuple[pl.DataFrame, tuple[ScannedFile, ...]]:
    """Separate what is known already from the files to read, which are new or have changed.

    Nothing is known of a folder that cannot be listed now, so what was below it stays: a disk
    that is not mounted is no music removed.
    """
    there = pl.DataFrame(
        [(x.path, x.size, x.modified, x.inode) for x in scan.files],
        schema={name: FILES[name] for name in STAMP},
        orient="row",
    )
    hidden = pl.lit(value=False)
    for folder in scan.unlisted:
        hidden |= pl.col("path").str.starts_with(f"{folder}/")
    same = before.join(there, on=STAMP, how="semi", maintain_order="left")
    known = set(same["path"])
    pending = tuple(x for x in scan.files if x.path not in known)
    return pl.concat([same, before.filter(hidden)]), pending
