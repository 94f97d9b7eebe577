"""What the system refuses a writer, as a sentence: a full disk, a folder that cannot be written.

Python, polars, safetensors and faiss each word it in their own way.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from safetensors import SafetensorError

from undersong.errors import ArtifactError

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
