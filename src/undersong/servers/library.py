"""What a media server knows of songs and artists, whichever API it speaks."""

import math
from dataclasses import dataclass
from typing import Any

LARGEST = 1e12  # of a number that a server sends


@dataclass(frozen=True, slots=True)
class Song:
    """A song as one user sees it; None or empty where the server does not know.

    Parameters
    ----------
    artists : name and the server's id of each, the main one first
    recording : MusicBrainz id
    plays, starred : of the user
    """

    id: str
    path: str
    title: str
    album: str | None
    artists: tuple[tuple[str, str], ...]
    recording: str | None
    genres: tuple[str, ...]
    year: int | None
    seconds: float | None
    plays: int
    starred: bool


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist as one user sees them; ``mbid`` is empty where it is not known."""

    id: str
    mbid: str
    starred: bool


def rows(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list in JSON, or one alone; none of what is something else."""
    listed = value if isinstance(value, list) else [value]
    return [x for x in listed if isinstance(x, dict)]


def fields(value: object) -> dict[str, Any]:
    """Return an object of JSON; an empty one for what is something else."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return a text or whole number of JSON as text; empty for what is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    if isinstance(value, int) and abs(value) > LARGEST:
        return ""
    return str(value).encode("utf-8", "replace").decode()  # half letters are in no table


def number(value: object) -> float:
    """Return a number of JSON that is 0 or more; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    sane = 0 <= value < LARGEST  # also of NaN and of integers that no float holds
    return float(value) if sane and math.isfinite(value) else 0.0
