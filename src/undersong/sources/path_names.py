"""What a path says where the tags are silent: Artist/Album/01 Title, or Artist - Title."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from undersong.sources.credits import is_somebody

NUMBER = re.compile(r"^(?:[a-d]?\d{1,3}(?:[-.]\d{1,3})?)(?:\s*[-._]\s*|\s+)(?=\S)", re.I)
DISC = re.compile(r"(?:cd|disc|disk|dis[ck] no|side|lp)[\s._-]*(?:\d{1,2}|[a-d])", re.I)


@dataclass(frozen=True)
class PathNames:
    """Names that a path gives; None where it gives none."""

    artist: str | None
    album: str | None
    title: str


def path_names(path: str) -> PathNames:
    """Take artist, album and title from a path below the music folder.

    ``Artist/Album/01 Title.mp3`` and ``Artist/Title.mp3``, folders of discs passed over; a name
    ``Artist - Title`` tells the artist where no folder does, or where the folder is of many.
    """
    place = PurePosixPath(path)
    folders = [x for x in place.parts[:-1] if not DISC.fullmatch(x)]
    bare = " ".join(place.stem.replace("_", " ").split())
    title = NUMBER.sub("", bare) or bare or place.name
    artist = folders[-2] if len(folders) > 1 else folders[-1] if folders else None
    album = folders[-1] if len(folders) > 1 else None
    before, dash, after = title.partition(" - ")
    if dash and before.strip() and after.strip():
        if not is_somebody(artist):
            artist, title = before.strip(), after.strip()
        elif artist is not None and before.strip().casefold() == artist.casefold():
            title = after.strip()
    return PathNames(artist if is_somebody(artist) else None, album, title)
