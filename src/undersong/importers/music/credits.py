"""Who plays: the credit of a file -> its artists, each with the MusicBrainz id if known.

Names are never split blindly. Tags that list them come first, then marks that no
name has in it (``feat.``, ``;``, ``•``, a slash between spaces), then others (``&``, commas, any
slash), but those only where the number of ids or the artist of the album proves that they part
names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from undersong.importers import nobody
from undersong.importers.music.tags import Tags, something
from undersong.importers.nobody import is_nobody

# One space each, and the parts are stripped: runs of spaces would take quadratic time.
CERTAIN = re.compile(r"[;•]|\s/\s|\s[\[(]?(?:feat\.?|ft\.?|featuring)\s", re.I)
POSSIBLE = re.compile(r"[,+]\s|\s(?:&|\+|and|x|with|vs\.?|og|und|et|y|e)\s", re.I)
# As ID3v2.3 and Japanese write lists; AC/DC is one.
DENSE = re.compile(rf"{POSSIBLE.pattern}|[/／、，]", re.I)


@dataclass(frozen=True)
class Credit:
    """One artist as a file names it; ``id`` is of MusicBrainz, or empty."""

    name: str
    id: str = ""


def credits_of(tags: Tags) -> tuple[Credit, ...]:
    """Name the artists of a file, the main one first; none where the tags name nobody."""
    ids = tuple(x for x in tags.artist_ids if x not in nobody.IDS)
    names = _names(tags, len(ids))
    if not names and is_somebody(tags.album_artist):
        return (Credit(str(tags.album_artist)),)  # ids are those of the artist, not of the album
    if len(names) == len(ids):
        return tuple(Credit(*x) for x in zip(names, ids, strict=True))
    # Which name the ids belong to is sure of the first one alone.
    main = ids[0] if ids and len(tags.artist_ids) == len(ids) else ""
    return tuple(Credit(x, main if place == 0 else "") for place, x in enumerate(names))


def is_somebody(name: str | None) -> bool:
    """Return whether a name is one of an artist, unlike "Various Artists"."""
    return bool(name) and not is_nobody(str(name))


def _names(tags: Tags, ids: int) -> list[str]:
    for listed in (tags.artists, tags.artist):
        if len(listed) > 1:
            return _somebodies(listed)
    whole = next(iter(tags.artist or tags.artists), "")
    names = _somebodies(_part(CERTAIN, whole))
    for mark in (POSSIBLE, DENSE) if len(names) == 1 else ():
        possible = _somebodies(_part(mark, names[0]))
        proven = len(possible) == ids or possible[:1] == [tags.album_artist]
        if len(possible) > 1 and proven:
            return possible
    return names


def _part(mark: re.Pattern[str], text: str) -> list[str]:
    parts = (x.strip() for x in mark.split(text))
    return [x if "(" in x or "[" in x else x.rstrip(")] ") for x in parts]


def _somebodies(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(x for x in names if is_somebody(x)))


def artist_ids(names: Sequence[str], mbids: Sequence[str]) -> list[str]:
    """Return the id of each credited artist.

    A name without an id has that of the one artist of that name who has one. Of several none is
    taken: they are other people, and this may be yet another. Then the id is made of the name.

    Parameters
    ----------
    names : as keys (``catalogue.name_key``)
    mbids : of MusicBrainz; empty where none is known
    """
    known: dict[str, set[str]] = {}
    for name, mbid in zip(names, mbids, strict=True):
        if mbid:
            known.setdefault(name, set()).add(mbid)
    only = {name: min(ids) for name, ids in known.items() if len(ids) == 1}
    pairs = zip(names, mbids, strict=True)
    return [mbid or only.get(name, name.replace(" ", "-")) for name, mbid in pairs]


NUMBER = re.compile(r"^(?:[a-d]?\d{1,3}(?:[-.]\d{1,3})?)(?:\s*[-._]\s*|\s+)(?=\S)", re.I)
DISC = re.compile(r"(?:cd|disc|disk|dis[ck] no|side|lp)[\s._-]*(?:\d{1,2}|[a-d])", re.I)


@dataclass(frozen=True)
class PathNames:
    """Names that a path contains; None where it has none."""

    artist: str | None
    album: str | None
    title: str


def path_names(path: str) -> PathNames:
    """Take artist, album and title from a path below the music folder.

    ``Artist/Album/01 Title.mp3`` and ``Artist/Title.mp3``, folders of discs passed over; a name
    ``Artist - Title`` tells the artist where no folder does, or where the folder is of many. Below
    ``Unknown Artist`` the folder of the album stands in for its artist, so that music is found.
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
    if artist and not is_somebody(artist) and "unknown" in artist.casefold():
        artist = something(album)
    return PathNames(artist if is_somebody(artist) else None, album, title)
