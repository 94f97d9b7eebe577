"""Files on disk: whole or not at all, and never of an unknown format.

Every file is written beside its place, flushed to the disk and renamed, so a crash at any
moment leaves the old file or the new one.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undersong.errors import ArtifactError, UndersongError

BLOCK = 1 << 21  # bytes that are hashed at once


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write, which then takes the place of ``path`` at once.

    When the block raises, the temporary file goes away and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


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
    *causes: type[Exception],
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
    expected: tuple[type[Exception], ...] = (OSError, *causes)
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


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read and compare: sorted keys, two spaces, UTF-8."""
    with replacing(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, *, version: int, hint: str) -> dict[str, Any]:
    """Read a JSON file whose key ``format`` must be ``version``.

    Raises
    ------
    ArtifactError
        If the file is absent, is not JSON, or has another format; ``hint`` says what to do.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; {hint}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not JSON ({error}); {hint}") from error
    number = content.get("format") if isinstance(content, dict) else None
    if number != version:
        check_format(path, repr(number), version, hint=hint)
    return dict(content)


def sha256(path: Path) -> str:
    """Hash a file in blocks, as 64 hexadecimal digits.

    Blocks are long, so that a thread that hashes beside others seldom has to wait for its turn.
    """
    digest, block = hashlib.sha256(), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()
