"""Files on disk: whole or not at all, and never of an unknown format.

Every file is written beside its place, flushed to the disk and renamed, so a crash at any
moment leaves the old file or the new one. What the system refuses a writer is named in a sentence,
which Python, polars, safetensors and faiss each word in their own way.

One writer at a time works in a folder, by a lock that the system takes from a process that dies:
the file ``.lock`` is there while somebody writes, and one that a killed process left locks nobody
out.
"""

import errno
import glob
import hashlib
import json
import logging
import os
import re
import secrets
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import polars as pl
from safetensors import SafetensorError

from undersong.errors import ArtifactError, UndersongError

# What they raise; RuntimeError is of faiss and of sound files.
REFUSED = (OSError, RuntimeError, pl.exceptions.PolarsError, SafetensorError)
ROOM = "make room there, or choose another place"
RIGHTS = "see that you may write there, or choose another place"
REMEDIES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EFBIG: ROOM,
    errno.EROFS: RIGHTS,
    errno.EACCES: RIGHTS,
    errno.EPERM: RIGHTS,
    errno.EMFILE: "let more files be open at once with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.ENOTDIR: "choose another place",
    errno.EISDIR: "choose another place",
    errno.EEXIST: "choose another place",
    errno.ENOTEMPTY: "choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "look after the disk, or choose another place",
    errno.ESTALE: "mount it again",
}
SHORT = re.compile(r"\d requested and \d+ written")  # what NumPy says of a disk that is full
NUMBER = re.compile(r"\bos error (\d+)\b")  # what Rust says behind each of the system's errors


def number_of(error: BaseException) -> int | None:
    """Return which of ``REMEDIES`` an error stands for; None if it is none of them."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if match := NUMBER.search(text):
        number = int(match[1])
    elif SHORT.search(text):
        number = errno.ENOSPC
    elif number is None:
        number = next((x for x in REMEDIES if os.strerror(x) in text), None)
    return number if number in REMEDIES else None


def refusal(
    error: BaseException, path: Path | None = None, *, beside: Path | None = None
) -> str | None:
    """Return what the system refused and what to do; None if the error is of another kind.

    ``path`` is what was to be written, and ``beside`` where it is written first.
    """
    number = number_of(error)
    if number is None:
        return None
    place = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if path and (place is None or str(place) == str(beside) or path.parent in Path(place).parents):
        place = path
    place = place or "a file"
    verb = "written" if path else "used"
    return f"{place} cannot be {verb} ({os.strerror(number)}); {REMEDIES[number]}"


@contextmanager
def writing(path: Path, *, beside: Path | None = None) -> Iterator[None]:
    """Name the path where the system refuses what the block does.

    Parameters
    ----------
    beside : where it is written first, which is not what a reader of the message looks for

    Raises
    ------
    ArtifactError
        In place of the error of the system, or of a library that met it.
    """
    try:
        yield
    except REFUSED as error:
        if sentence := refusal(error, path, beside=beside):
            raise ArtifactError(sentence) from error
        raise


NAME = ".lock"
LACKING = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_log = logging.getLogger(__name__)  # its warnings are lines on stderr unless a program takes them
_own = threading.local()  # folders that this thread has locked


@contextmanager
def holding(path: Path) -> Iterator[int]:
    """Make a file that is no remnant (``clear``) while the block runs; yield its mode."""
    with path.open("xb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if sys.platform == "win32":  # a file that is open cannot be renamed there
            file.close()
        else:
            _try_lock(file.fileno())
        if path.exists():
            yield mode
            return
    with holding(path) as mode:  # another writer cleared it before it was locked
        yield mode


def clear(folder: Path, pattern: str) -> None:
    """Remove files that no living process holds, where the system can tell."""
    for path in folder.glob(pattern):
        with suppress(OSError), path.open("rb") as file:
            if sys.platform != "win32" and _try_lock(file.fileno()):
                path.unlink()


def _try_lock(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another holds it, or nothing can be locked here
        return False
    return True


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Make a folder, and keep all other writers out of it while the block runs.

    The thread that has locked it may lock it again. A folder that was made here, and is empty at
    the end, goes again. Windows has no such lock.

    Parameters
    ----------
    wait : for another writer, with a line on stderr, or else raise

    Raises
    ------
    ArtifactError
        If another one writes there and not ``wait``, or the folder cannot be written.
    """
    place, folders = os.path.realpath(folder), _own.__dict__.setdefault("folders", set())
    new = [x for x in (folder, *folder.parents) if not x.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lone = place in folders or sys.platform == "win32"
        handle = None if lone else _take(folder, wait=wait)
    if handle is None:
        yield
        return
    folders.add(place)
    try:
        yield
    finally:
        folders.remove(place)
        with suppress(OSError):
            (folder / NAME).unlink()
        os.close(handle)
        with suppress(OSError):
            for made in new:
                made.rmdir()


def _take(folder: Path, *, wait: bool) -> int:
    """Open and lock the file of a folder, which the writer before may have removed meanwhile."""
    path = folder / NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder went between the two
            continue
        try:
            _lock(handle, folder, wait=wait)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, folder: Path, *, wait: bool) -> None:
    import fcntl

    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise ArtifactError(
                    f"another process writes to {folder}; wait for it, or choose another folder"
                ) from error
            _log.warning("another process writes to %s; waiting until it has ended", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in LACKING:
            raise
        _log.warning(
            "%s lies where nothing can be locked (%s); let only one command at a time write there",
            folder,
            error.strerror,
        )


Stamp = tuple[int, int, int]
SUM = "sum"  # key of the sha256 of all else in a JSON file
BLOCK = 1 << 21  # bytes that are hashed at once


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write, which then takes the place of ``path`` at once.

    When the block raises, the temporary file goes away and ``path`` stays as it was. The file has
    the mode that the umask gives, whatever wrote it. What a writer of ``path`` left that was
    killed goes away.

    Raises
    ------
    ArtifactError
        If the system lets nothing be written there (``undersong.io.files``).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    with writing(path, beside=temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path.parent, f".{glob.escape(path.name)}.*.partial")
        try:
            with holding(temporary) as mode:  # what the umask lets it be
                yield temporary
                flush(temporary)
                if temporary.stat().st_mode != mode:  # safetensors makes a file for us alone
                    temporary.chmod(stat.S_IMODE(mode))
                os.replace(temporary, path)
            flush(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk, not only in the system's memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def reading(
    path: Path,
    *causes: type[BaseException],
    hint: str,
    fault: str = "cannot be read",
    error: type[UndersongError] = ArtifactError,
) -> Iterator[None]:
    """Name the file, and what to do, where a reader raises OSError or one of ``causes``.

    Parameters
    ----------
    hint : what to do, the end of the message
    fault : what is wrong with the file, where "cannot be read" says too little
    error : class of what is raised instead; DataError where the file is the user's own
    """
    expected: tuple[type[BaseException], ...] = (OSError, *causes)
    try:
        yield
    except expected as cause:
        reason = str(cause).partition("\n")[0]  # polars adds its plan of the query below
        raise error(f"{path} {fault} ({reason}); {hint}") from cause


def check_format(path: Path, number: object, version: object, *, hint: str) -> None:
    """Refuse a file of another format number than the one that this version reads.

    Raises
    ------
    ArtifactError
        If the two differ.
    """
    if number != version:
        raise ArtifactError(f"{path}: format {number}, but this version reads {version}; {hint}")


def write_json(path: Path, content: Any, *, summed: bool = False) -> None:
    """Write JSON that a person can read and compare: sorted keys, two spaces, UTF-8.

    Parameters
    ----------
    summed : add the sha256 of all else under the key ``sum``, which ``read_json`` checks
    """
    if summed:
        content = content | {SUM: _sum(content)}
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _sum(content: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(content))  # as it is read back: tuples are lists, keys are text
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, *, version: int, hint: str) -> dict[str, Any]:
    """Read a JSON file whose key ``format`` must be ``version``.

    Raises
    ------
    ArtifactError
        If the file is absent, is not JSON, was damaged, or has another format; ``hint`` says what
        to do.
    """
    content = load_json(path, hint=hint)
    number = content.get("format")
    if type(number) is not int or number != version:
        check_format(path, shorten(repr(number), 40), version, hint=hint)
    recorded = content.pop(SUM, None)
    if recorded is not None and recorded != _sum(content):
        raise ArtifactError(f"{path} was changed since it was written; {hint}")
    return content


def load_json(path: Path, *, hint: str) -> dict[str, Any]:
    """Read a JSON file of any format; one that holds no object is empty.

    Raises
    ------
    ArtifactError
        If the file is absent or is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; {hint}") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); {hint}") from error
    except RecursionError as error:
        raise ArtifactError(f"{path} is not JSON (it is nested too deep); {hint}") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ArtifactError(f"{path} is not JSON ({error}); {hint}") from error
    return dict(content) if isinstance(content, dict) else {}


def stamp(path: Path) -> Stamp | None:
    """Return what changes whenever a file is replaced or written to; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def sha256(path: Path) -> str:
    """Hash a file in blocks, as 64 hexadecimal digits.

    Blocks are long, so that a thread that hashes beside others seldom has to wait for its turn.
    """
    digest, block = hashlib.sha256(), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()
