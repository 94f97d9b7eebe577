"""The audio files below a folder, and what the last import knew of them (``files.parquet``).

Links are followed; real folders come first, so that each is found by its own name. Everything
that is passed over is a ``Failure``, a row for the user; what is no audio is counted by its ending.
What cannot be seen now, such as a disk that is away, is not gone: what was known of it stays.
"""

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from undersong.catalogue import complete
from undersong.errors import DataError
from undersong.importers.music.library import FILES
from undersong.io.table_files import read_metadata, read_table, write_table

FORMAT = "2"  # of files.parquet, and of how tags are understood: a new one reads them all again
STAMP = ("path", "size", "modified", "inode")
SUFFIXES = (
    *(".aac", ".aif", ".aifc", ".aiff", ".ape", ".asf", ".au", ".caf", ".dff", ".dsf", ".flac"),
    *(".m4a", ".m4b", ".m4r", ".mka", ".mp2", ".mp3", ".mp4", ".mpc", ".oga", ".ogg", ".opus"),
    *(".spx", ".tta", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wv"),
)
# Folders of what people threw away, as systems and network disks call them.
BINS = frozenset(
    ("#recycle", "$recycle.bin", "@recycle", "lost+found", "recycled", "recycler", "trashcan")
)
LEADS_NOWHERE = "a link that leads nowhere"


@dataclass(frozen=True)
class Failure:
    """One file or folder that was left out: which (below the folder searched), why, what to do.

    ``damaged`` is whether what was known of it holds no longer.
    """

    file: str
    reason: str
    remedy: str
    damaged: bool = True


@dataclass(frozen=True)
class ScannedFile:
    """One audio file: path below the folder searched, and what tells that it is the same file.

    ``modified`` is the time of change in nanoseconds, ``folder`` the inode of the folder it is in,
    ``mount`` the path at which its disk is mounted below the folder searched, or empty.
    """

    path: str
    size: int
    modified: int
    inode: int
    folder: int
    mount: str = ""


@dataclass
class Scan:
    """Grows while a folder is searched.

    Parameters
    ----------
    files : by path
    failures : what was left out
    unseen : path -> reason, of files and folders whose content cannot be seen now
    empty : path -> inode, of folders with nothing in them: emptied, or a disk that is away
    endings : how many files were passed over for the end of their names
    cues : paths of cue sheets without their ending
    mounts : paths at which other disks are mounted
    """

    files: list[ScannedFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)
    cues: set[str] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)

    def add(self, path: str, entry: "ScannedFile | Failure | _Unseen | str") -> None:
        """Note what one name in a folder is, apart from a folder."""
        if isinstance(entry, ScannedFile):
            self.files.append(entry)
        elif isinstance(entry, Failure):
            self.failures.append(entry)
        elif isinstance(entry, str):
            self.endings[entry] += 1
            if entry == ".cue":
                self.cues.add(path[: -len(entry)])
        else:
            self.unseen[path] = entry.reason
            if entry.listed:
                self.failures.append(Failure(_shown(path), entry.reason, entry.remedy))


def scan_music(root: Path) -> Scan:
    """Find every audio file below a folder, by the end of its name.

    Raises DataError if ``root`` is no folder that can be listed.
    """
    scan, seen = Scan(), set[tuple[int, int]]()
    folders, links = [""], list[str]()
    disks = {"": (_check(root), "")}  # of each folder: its device, and where that is mounted
    while folders or links:
        linked = not folders
        folder = folders.pop() if folders else links.pop(0)
        try:
            inode, names, device = _list(root / folder, seen)
        except OSError as error:
            scan.add(folder, _Unseen(_cannot("listed", error), "make the folder readable"))
            continue
        if names is None:
            reason = "a link to a folder that is searched already"
            scan.add(folder, Failure(folder, reason, "nothing is lost; remove it if you like"))
        around, mount = disks[folder.rpartition("/")[0]]
        if device != around and not linked:
            mount = folder
            scan.mounts.add(folder)
        disks[folder] = (device, mount)
        if folder and names is not None and all(x.startswith(".") for x in names):
            scan.empty[folder] = inode
        for name in names or ():
            path = f"{folder}/{name}" if folder else name
            entry = _look(root, path, folder=inode, mount=mount)
            if isinstance(entry, _Folder):
                (links if entry.linked else folders).append(path)
            else:
                scan.add(path, entry)
    scan.files.sort(key=lambda x: x.path)
    return scan


def _check(root: Path) -> int:
    """Return the device of a folder that can be listed."""
    try:
        os.listdir(root)
        return root.stat().st_dev
    except OSError as error:
        raise DataError(f"{root} {_cannot('listed', error)}; name a folder of music") from error


def _list(folder: Path, seen: set[tuple[int, int]]) -> tuple[int, list[str] | None, int]:
    """Return inode, names, device of a folder, and note it; no names of one that was seen."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return status.st_ino, None, status.st_dev
    names = sorted(os.listdir(folder))
    seen.add((status.st_dev, status.st_ino))
    return status.st_ino, names, status.st_dev


@dataclass(frozen=True)
class _Folder:
    linked: bool


@dataclass(frozen=True)
class _Unseen:
    reason: str
    remedy: str
    listed: bool = True


def _look(
    root: Path, path: str, *, folder: int, mount: str
) -> ScannedFile | Failure | _Folder | _Unseen | str:
    """Return what one name in a folder is; its ending where it is neither audio nor a folder."""
    whole = os.path.join(root, path)
    name = os.path.basename(path)
    ending = os.path.splitext(name)[1].lower()
    audio = ending in SUFFIXES
    try:
        status = os.stat(whole)
    except OSError as error:
        nowhere = isinstance(error, FileNotFoundError)
        reason = LEADS_NOWHERE if nowhere else _cannot("read", error)
        return _Unseen(reason, "mend the link, or make it readable", listed=audio)
    is_folder = stat.S_ISDIR(status.st_mode)
    if not (audio or is_folder):
        return ending
    try:
        path.encode()
    except UnicodeEncodeError:
        return Failure(_shown(path), "its name is not UTF-8", "rename it, with convmv for example")
    if name.startswith(".") and not name.startswith(".."):  # "...Like Clockwork" is an album
        return Failure(path, "hidden", "rename it if it is music")
    if is_folder and name.casefold() in BINS:
        return Failure(path, "a recycle bin", "move what you want to keep out of it")
    if is_folder:
        return _Folder(os.path.islink(whole))
    if not stat.S_ISREG(status.st_mode):
        return Failure(path, "not a file, in spite of its name", "remove it")
    return ScannedFile(path, status.st_size, status.st_mtime_ns, status.st_ino, folder, mount)


def _cannot(what: str, error: OSError) -> str:
    return f"cannot be {what} ({error.strerror or error})"


def _shown(path: str) -> str:
    """Write a path with each byte that is not UTF-8 as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_files(catalogue: Path, root: Path, *, moved: bool = False) -> pl.DataFrame:
    """Read what is known of the files below ``root``, one row each, columns ``library.FILES``.

    What another version of undersong wrote, or what lay in another folder, is known for files that
    cannot be seen alone: its times of change are -1, so that every file is read again.

    Parameters
    ----------
    moved : whether the music may lie in another folder now, or the file be damaged

    Raises
    ------
    DataError
        If the file is damaged, or about another folder, and the music has not moved.
    """
    path = catalogue / "files.parquet"
    if not path.exists():
        return pl.DataFrame(schema=FILES)
    hint = "if it was made from this music, add --moved to read it all again"
    try:
        about = read_metadata(path, hint=hint, error=DataError)
        files = read_table(path, hint=hint, error=DataError)
    except DataError:
        if moved:
            return pl.DataFrame(schema=FILES)
        raise
    if about.get("root") != str(root) and not moved:
        raise DataError(
            f"{catalogue} was made from {about.get('root')}, not from {root}; import into another "
            "catalogue, or, if the music has moved, add --moved"
        )
    files = complete(files, FILES)
    if about.get("format") == FORMAT and not moved:
        return files
    return files.with_columns(modified=pl.lit(-1, dtype=pl.Int64))


def write_files(catalogue: Path, root: Path, files: pl.DataFrame) -> None:
    """Write what is known of the files."""
    metadata = {"format": FORMAT, "root": str(root)}
    write_table(catalogue / "files.parquet", files, metadata=metadata)


@dataclass(frozen=True)
class ScanComparison:
    """Files beside what is known of them.

    Parameters
    ----------
    same : rows of files that are as they were
    unseen : rows of files that cannot be seen now
    pending : files to read, which are new or have changed
    reasons : path of a file or folder with rows in ``unseen`` -> why they cannot be seen
    """

    same: pl.DataFrame
    unseen: pl.DataFrame
    pending: tuple[ScannedFile, ...]
    reasons: Mapping[str, str]


def compare(scan: Scan, before: pl.DataFrame) -> ScanComparison:
    """Separate what is known already from the files to read, and from those out of sight.

    Files in a folder that was emptied are gone; those in a folder that is another one now than
    when it held them are not, nor those deeper below an empty one, nor those of a disk whose
    folder came and went with it: it is not mounted.
    """
    there = pl.DataFrame(
        [vars(x) for x in scan.files], schema={x: FILES[x] for x in (*STAMP, "folder", "mount")}
    )
    same = (
        before.drop("folder", "mount").join(there, on=STAMP, maintain_order="left").select(*FILES)
    )
    known = set(same["path"])
    pending = tuple(x for x in scan.files if x.path not in known)
    rest = before.join(there, on="path", how="anti", maintain_order="left")
    out_of_sight = pl.lit(value=False)
    reasons = {}
    for path, inode, reason in (
        *((path, None, reason) for path, reason in scan.unseen.items()),
        *((path, inode, "an empty folder") for path, inode in scan.empty.items()),
    ):
        hidden = pl.col("path").str.starts_with(f"{path}/") | (pl.col("path") == path)
        if inode is not None:
            inside = pl.col("path").str.slice(len(path) + 1).str.contains("/", literal=True)
            hidden &= inside | pl.col("folder").ne_missing(inode)
        if not rest.filter(hidden).is_empty():
            reasons[path] = reason
            out_of_sight |= hidden
    away = pl.col("mount").ne_missing("") & ~pl.col("mount").is_in(sorted(scan.mounts))
    for mount in rest.filter(away & ~out_of_sight)["mount"].unique().sort():
        reasons[mount] = "a disk that is not mounted"
    out_of_sight |= away.fill_null(value=False)
    return ScanComparison(same, rest.filter(out_of_sight), pending, reasons)
