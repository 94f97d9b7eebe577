"""Parameters of requests, and replies in XML, as several dialects have them.

Ids and names of a client are looked up as they stand: nothing is guessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from undersong.catalogue import Item, Kind, fold, name_key
from undersong.errors import DataError
from undersong.retrieval import Neighbours, Query
from undersong.service.snapshot import Snapshot

Parameters = Mapping[str, str]
FORM = "application/x-www-form-urlencoded"
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
# What XML 1.0 cannot hold, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


async def read_parameters(request: Request) -> dict[str, str]:
    """Read the query and the form of a request together; of a name sent twice the first counts."""
    pairs = request.query_params.multi_items()
    if request.headers.get("content-type", "").lower().startswith(FORM):
        form = (await request.body()).decode("utf-8", errors="replace")
        pairs = [*pairs, *parse_qsl(form, keep_blank_values=True)]
    return dict(reversed(pairs))


def integer(parameters: Parameters, name: str, *, default: int, most: int, least: int = 1) -> int:
    """Read an integer, such as a number of answers; more than ``most`` are ``most``.

    Raises
    ------
    DataError
        If it is no integer, or below ``least``.
    """
    text = parameters.get(name, "").strip()
    if not text:
        return min(default, most)
    if not INTEGER.fullmatch(text) or int(text) < least:
        raise DataError(f"{name} is {text[:20]!r}; send a whole number from {least} to {most}")
    return min(int(text), most)


def switched_on(parameters: Parameters, name: str) -> bool:
    """Whether a switch is on, as Python, Go and people write that."""
    return parameters.get(name, "").strip().lower() in ("true", "1", "yes", "on")


def xml(root: Element, *, status: int = 200) -> Response:
    """Return an element as a reply; a character that XML cannot hold becomes U+FFFD."""
    for element in root.iter():
        element.text = element.text and ILLEGAL.sub("\ufffd", element.text)
        for name, value in element.items():
            element.set(name, ILLEGAL.sub("\ufffd", value))
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(body, status, media_type="text/xml")


RADIO_ARTISTS = 100  # similar artists whose tracks make a radio


@dataclass(frozen=True)
class ServedSong:
    """A track as players show it; None, or no genre, where that is not known."""

    item: Item
    artist: str
    artist_id: str | None
    artist_mbid: str | None
    album: str | None
    mbid: str | None
    genres: tuple[str, ...]


def by_id(snapshot: Snapshot, kind: Kind, text: str) -> Item | None:
    """Return the item with an id or a MusicBrainz id; of several the best known."""
    if kind not in snapshot.kinds or not text:
        return None
    items = snapshot.of(kind)
    if text in items.names.row:
        return items.names.get(text)
    return next(iter(items.with_mbid(text)), None)


def by_name(snapshot: Snapshot, kind: Kind, name: str) -> Item | None:
    """Return the best known item with a name, whatever its accents, case and punctuation."""
    if kind not in snapshot.kinds or not name:
        return None
    return next(iter(snapshot.of(kind).names.named(name)), None)


def by_title(snapshot: Snapshot, title: str, *, artist: str) -> Item | None:
    """Return the track with a title by an artist with a name; of several the best known."""
    if "track" not in snapshot.kinds or not title or not artist:
        return None
    tracks = snapshot.of("track").names.named(title)
    artists = [song(snapshot, x).artist for x in tracks]
    for key in (str, name_key, fold):  # spelt so if any is
        for track, name in zip(tracks, artists, strict=True):
            if key(name) == key(artist):
                return track
    return None


def by_album(snapshot: Snapshot, name: str) -> Item | None:
    """Return the best known track of an album, if all tracks of that name are of one artist."""
    tracks = _tracks(snapshot, pl.col("album") == name)
    if len({artist for _, artist in tracks}) != 1:
        return None
    return snapshot.of("track").names.item(tracks[0][0])


def mbid(snapshot: Snapshot, item: Item) -> str | None:
    """Return the MusicBrainz id of an item, if it is known."""
    value: str | None = _attributes(snapshot, item).get("mbid")
    return value


def song(snapshot: Snapshot, track: Item) -> ServedSong:
    """Return a track as players show it."""
    values = _attributes(snapshot, track)
    artist = by_id(snapshot, "artist", values.get("artist") or "")
    return ServedSong(
        track,
        artist.name if artist else track.about,
        artist.id if artist else None,
        mbid(snapshot, artist) if artist else None,
        values.get("album"),
        values.get("mbid"),
        tuple(values.get("genres") or ()),
    )


def songs(snapshot: Snapshot, artists: Sequence[str]) -> dict[str, list[Item]]:
    """Return the tracks of artists, named by their ids, the best known first."""
    by_artist: dict[str, list[Item]] = {x: [] for x in artists}
    for row, artist in _tracks(snapshot, pl.col("artist").is_in(list(by_artist))):
        by_artist[artist].append(snapshot.of("track").names.item(row))
    return by_artist


def radio(snapshot: Snapshot, artist: Item, *, count: int) -> list[Item]:
    """Return tracks of an artist and of similar ones: the first of each, the second of each, ..."""
    neighbours = snapshot.similar("artist", artist.id, Query(k=min(count, RADIO_ARTISTS)))
    by_artist = songs(snapshot, [artist.id, *neighbours.ids]).values()
    return [x for turn in zip_longest(*by_artist) for x in turn if x is not None][:count]


def scored(neighbours: Neighbours) -> list[tuple[Item, float]]:
    """Return each answer with its similarity in [0, 1], never more than that of the one before.

    The confidence where there is one, else the cosine; less than 0 is 0. So a client that sorts by
    it keeps the order of the answers.
    """
    scores = [x.score if x.confidence is None else x.confidence for x in neighbours]
    falling = np.minimum.accumulate(np.clip(scores, 0, 1)).round(6)
    return [(x.item, float(score)) for x, score in zip(neighbours, falling, strict=True)]


def _tracks(snapshot: Snapshot, condition: pl.Expr) -> list[tuple[int, str]]:
    """Return the row of each track that meets a condition and its artist, the best known first."""
    items = snapshot.kinds.get("track")
    if items is None or items.attributes is None:
        return []
    rows = items.attributes.table.lazy().with_row_index("row").filter(condition)
    pairs = rows.drop_nulls("artist").select("row", "artist").collect().iter_rows()
    tracks = [(int(items.name_rows[row]), str(artist)) for row, artist in pairs]
    return sorted(tracks, key=lambda x: items.names.fame[x[0]])


def _attributes(snapshot: Snapshot, item: Item) -> dict[str, Any]:
    """Return what is known of an item, as ``catalogue.attributes`` names it."""
    attributes = snapshot.of(item.kind).attributes
    if attributes is None or item.id not in attributes.index:
        return {}
    return attributes.table.row(attributes.index[item.id], named=True)
