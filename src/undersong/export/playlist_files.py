"""Playlists as files: M3U8 for players, JSPF and XSPF for programs that know songs by name."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import polars as pl

from undersong.catalogue import Item
from undersong.errors import DataError, nearest_known
from undersong.io.display import BREAKS, one_line
from undersong.io.files import reading, replacing
from undersong.model import Model

LONGEST = 10_000  # songs of a file that is read
LARGEST = 16 << 20  # bytes of it
NAMESPACE = "http://xspf.org/ns/0/"
MUSICBRAINZ = "https://musicbrainz.org/{}/{}"
NO_XML = re.compile("[\ufffe\uffff]")
ADDRESS = re.compile(r"\A[a-zA-Z][a-zA-Z0-9+.-]+://")


@dataclass(frozen=True)
class SongFile:
    """One song of a playlist, or one artist, as files name it; "" and None are not known.

    Parameters
    ----------
    id : of the model; "" for what only a file knows
    title, artist, album : an artist has no title
    identifier : address that says at MusicBrainz who or what it is
    location : path or address of its audio
    seconds : how long it is
    lines : what stood before its location in the M3U8 file that it was read from
    """

    id: str = ""
    title: str = ""
    artist: str = ""
    album: str = ""
    identifier: str = ""
    location: str = ""
    seconds: float | None = None
    lines: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """ARTIST - TITLE, or the one of them that is known."""
        return " - ".join(filter(None, (self.artist, self.title)))


def songs_of(model: Model, items: Sequence[Item]) -> list[SongFile]:
    """Return items as files name them; where their audio lies says the run's catalogue."""
    if not items:
        return []
    kind = items[0].kind
    table = model.attributes([x.id for x in items], kind=kind)
    root = model.catalogue.audio_root if model.catalogue is not None else None
    page = "artist" if kind == "artist" else "recording"
    return [
        SongFile(
            id=item.id,
            title="" if kind == "artist" else item.name,
            artist=item.name if kind == "artist" else item.about,
            album=row["album"] or "",
            identifier=MUSICBRAINZ.format(page, row["mbid"]) if row["mbid"] else "",
            location=str((root or Path()) / row["path"]) if row["path"] else "",
            seconds=row.get("seconds"),
        )
        for item, row in zip(items, table.iter_rows(named=True), strict=True)
    ]


def write_playlist(path: Path, songs: Sequence[SongFile], *, title: str) -> tuple[SongFile, ...]:
    """Write a playlist in the form that the end of its name says, in place of the one before.

    Parameters
    ----------
    path : .m3u8 or .m3u, in UTF-8; .jspf or .xspf. Paths of songs in an M3U8 file begin at its own
        folder where that is in the music's or above it

    Returns
    -------
    The songs that it could not name: those without a file, in an M3U8 file.

    Raises
    ------
    DataError
        If the end is another, or no song has a file.
    """
    check_form(path)
    form = FORMS[path.suffix.lower()]
    lines = form is _m3u8  # in which a path cannot break
    named = [x for x in songs if not lines or (x.location and not BREAKS.search(x.location))]
    if songs and not named:
        raise DataError(
            f"{path}: an M3U8 file names songs by their files, and of none is the file known "
            "here; write .jspf or .xspf, or train on a catalogue with audio files"
        )
    text = form(named, title, path.parent)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return tuple(x for x in songs if x not in named)


def check_form(path: Path) -> None:
    """Refuse, with a DataError, the name of a playlist in a form that is not written."""
    if path.suffix.lower() not in FORMS:
        raise DataError(
            f"{path}: no playlist ends in {path.suffix!r}; {nearest_known(path.suffix, FORMS)}"
        )


def read_m3u8(path: Path) -> list[SongFile]:
    """Read an M3U or M3U8 file, in UTF-8; locations are whole paths or addresses.

    Raises
    ------
    DataError
        If it cannot be read, holds nothing, or has more than 10,000 songs or 16 MB.
    """
    hint = "give a playlist in M3U8, which is UTF-8"
    if FORMS.get(path.suffix.lower()) in (_jspf, _xspf):
        raise DataError(f"{path} is no M3U8 file, and no other playlist is read; {hint}")
    with reading(path, UnicodeDecodeError, fault="cannot be read", hint=hint, error=DataError):
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        text = content.decode("utf-8-sig")
    songs = list(_songs(text.splitlines(), path.parent))
    if not songs or len(songs) > LONGEST or len(content) > LARGEST:
        raise DataError(
            f"{path} has {len(songs):,} songs in {len(content):,} bytes; give 1 to {LONGEST:,} "
            f"songs in {LARGEST:,} bytes at most"
        )
    return songs


def _songs(lines: Sequence[str], folder: Path) -> Iterator[SongFile]:
    before: list[str] = []
    for line in (x.strip() for x in lines):
        if line.startswith("#") or not line:
            before += [line] if line and not line.startswith(("#EXTM3U", "#PLAYLIST")) else []
            continue
        length, _, label = next(
            (x.partition(":")[2].partition(",") for x in before if x.startswith("#EXTINF:")),
            ("", "", ""),
        )
        artist, dash, title = label.strip().partition(" - ")
        location = unquote(urlsplit(line).path) if line.lower().startswith("file://") else line
        yield SongFile(
            title=title if dash else artist,
            artist=artist if dash else "",
            location=location if ADDRESS.match(location) else os.path.abspath(folder / location),
            seconds=_seconds(length),
            lines=tuple(before),
        )
        before = []


def _seconds(text: str) -> float | None:
    number = text.split()[0] if text.split() else ""
    return float(number) if re.fullmatch(r"\d{1,7}(\.\d+)?", number) and float(number) else None


def with_ids(songs: Sequence[SongFile], model: Model) -> list[SongFile]:
    """Return songs of a file, those with ids whose files the run's catalogue knows."""
    if model.catalogue is None:
        return list(songs)
    root = str(model.catalogue.audio_root or "")
    tracks = model.catalogue.tracks.filter(pl.col("path").is_not_null()).select("path", "id")
    ids = {os.path.abspath(os.path.join(root, x)): item for x, item in tracks.iter_rows()}
    return [replace(x, id=ids.get(x.location, "")) for x in songs]


def _m3u8(songs: Sequence[SongFile], title: str, folder: Path) -> str:
    lines = ["#EXTM3U", f"#PLAYLIST:{one_line(title)}"]
    for song in songs:
        length = -1 if song.seconds is None else round(song.seconds)
        lines += song.lines or ([f"#EXTINF:{length},{one_line(song.label)}"] if song.label else [])
        lines.append(_from(folder.absolute(), song.location))
    return "\n".join(lines) + "\n"


def _from(folder: Path, location: str) -> str:
    """Return a path as seen from a folder; a whole one where the two have no folder in common."""
    path = location
    if os.path.isabs(location) and len(Path(os.path.commonpath([folder, location])).parts) > 1:
        path = os.path.relpath(location, folder)
    return f"./{path}" if path.startswith(("#", " ")) else path


def _values(song: SongFile) -> dict[str, str]:
    """Return what JSPF and XSPF say of a song, by the names that they have for it."""
    path = os.path.isabs(song.location)
    values = {
        "location": Path(song.location).as_uri() if path else song.location,
        "identifier": song.identifier,
        "title": song.title,
        "creator": song.artist,
        "album": song.album,
        "duration": "" if song.seconds is None else str(round(1000 * song.seconds)),
    }
    return {x: NO_XML.sub("", one_line(value)) for x, value in values.items() if value}


def _jspf(songs: Sequence[SongFile], title: str, folder: Path) -> str:
    several, number = ("location", "identifier"), "duration"
    tracks = [
        {x: [y] if x in several else int(y) if x == number else y for x, y in _values(song).items()}
        for song in songs
    ]
    playlist = {"playlist": {"title": one_line(title), "track": tracks}}
    return json.dumps(playlist, ensure_ascii=False, indent=1) + "\n"


def _xspf(songs: Sequence[SongFile], title: str, folder: Path) -> str:
    playlist = ElementTree.Element("playlist", version="1", xmlns=NAMESPACE)
    ElementTree.SubElement(playlist, "title").text = NO_XML.sub("", one_line(title))
    tracks = ElementTree.SubElement(playlist, "trackList")
    for song in songs:
        track = ElementTree.SubElement(tracks, "track")
        for name, value in _values(song).items():
            ElementTree.SubElement(track, name).text = value
    ElementTree.indent(playlist)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(playlist, "unicode")}\n'


Form = Callable[[Sequence[SongFile], str, Path], str]
FORMS: dict[str, Form] = {".m3u8": _m3u8, ".m3u": _m3u8, ".jspf": _jspf, ".xspf": _xspf}
