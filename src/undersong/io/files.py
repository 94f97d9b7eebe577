"""Files on disk: whole or not at all, and never of an unknown format.

Every file is written beside its place, flushed to the disk and renamed, so a crash at any
moment leaves the old file or the new one.
"""

import glob
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

from undersong.errors import ArtifactError, UndersongError
from undersong.io.lock import clear, holding
from undersong.io.refusals import writing

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
        If the system lets nothing be written there (``undersong.io.refusals``).
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
