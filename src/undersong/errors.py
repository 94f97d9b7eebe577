"""Every error a caller can act on.

A message says what is wrong, the value found, where, and what to do next. The command line
prints it as one line and exits 1; a notebook shows the same line. Anything else that escapes is a
bug in undersong and keeps its traceback.
"""

import difflib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LISTED = 20  # known words in a message where none is near


class UndersongError(Exception):
    """Base of all errors a caller can act on."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and Jupyter show in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class DataError(UndersongError):
    """A file or table we were given is wrong."""


class SettingsError(UndersongError):
    """A setting is unknown, missing or out of range."""


class ArtifactError(UndersongError):
    """A run, checkpoint or embedding file does not fit what it is used with."""


class UnknownItem(UndersongError):
    """An id or name is not in the catalogue."""


class Unavailable(UndersongError):
    """Something that undersong can do, but not as it is installed, or not with this run."""


def nearest_known(word: str, known: Iterable[str]) -> str:
    """Return which known word a mistyped one may have meant, as the end of an error message."""
    names = list(known)
    same = [x for x in names if x.casefold() == word.casefold()]
    if near := same or difflib.get_close_matches(word, names, n=1):
        return f"did you mean {near[0]!r}?"
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return f"known: {', '.join(names[:LISTED]) or 'none'}{more}"


def install(extra: str) -> str:
    """Return the command that installs an optional part from where this package came from.

    Installers write down the checkout, wheel file or address that they were given (PEP 610).
    """
    from importlib import metadata  # slow to import, and an error alone needs it

    try:
        record = metadata.distribution("undersong").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        record = None
    if record is None:
        return f"pip install '.[{extra}]' in a checkout of undersong"
    origin = json.loads(record)
    if origin.get("dir_info", {}).get("editable"):
        return f"pip install -e '{origin['url']}[{extra}]'"
    scheme = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
    return f"pip install 'undersong[{extra}] @ {scheme}{origin['url']}'"


@contextmanager
def needs(extra: str, purpose: str) -> Iterator[None]:
    """Import optional packages in this block; one that is missing ends it with what to install.

    Parameters
    ----------
    extra : the optional part that brings them
    purpose : what they are needed for, the beginning of the message

    Raises
    ------
    Unavailable
        If a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise Unavailable(
            f"{purpose} needs {package}; install it with: {install(extra)}"
        ) from error
