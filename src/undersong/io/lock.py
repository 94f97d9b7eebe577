"""One writer at a time in a folder: a lock that the system takes from a process that dies.

The file ``.lock`` is there while somebody writes. One that a killed process left locks nobody out.
"""

import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from undersong.errors import ArtifactError
from undersong.io.refusals import writing

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
