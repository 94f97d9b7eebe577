"""What a media server knows of songs and artists, whichever API it speaks."""

from dataclasses import dataclass


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
    year: object
    seconds: float | None
    plays: int
    starred: bool


@dataclass(frozen=True, slots=True)
class Artist:
    """An artist as one user sees them; ``mbid`` is empty where it is not known."""

    id: str
    mbid: str
    starred: bool
