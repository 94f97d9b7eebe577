"""What the words of a client mean in one generation, and what it may be told of an item.

Nothing here guesses: words that no item bears mean nobody.
"""

import re
from collections.abc import Sequence
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

from undersong.catalogue import Item, Kind, fold
from undersong.errors import DataError
from undersong.retrieval import Neighbours, Query
from undersong.service.snapshot import Snapshot

NEAR = 100  # artists whose tracks make a radio


@dataclass(frozen=True)
class Song:
    """A track in the words of players; None, or no genre, where that is not known."""

    item: Item
    artist: str
    artist_id: str | None
    artist_mbid: str | None
    album: str | None
    mbid: str | None
    genres: tuple[str, ...]


def identified(answers: Snapshot, kind: Kind, given: str) -> Item | None:
    """Find the item with an id or a MusicBrainz id; of several the best known."""
    if kind not in answers.kinds or not given:
        return None
    items = answers.of(kind)
    if given in items.names.row:
        return items.names.get(given)
    return next(iter(items.with_mbid(given)), None)


def named(answers: Snapshot, kind: Kind, name: str) -> Item | None:
    """Find the item with a name, whatever its accents, case and punctuation: the best known."""
    if kind not in answers.kinds or not name:
        return None
    return next(iter(answers.of(kind).names.named(name)), None)


def titled(answers: Snapshot, title: str, *, artist: str) -> Item | None:
    """Find the track with a title by an artist with a name; of several the best known."""
    if "track" not in answers.kinds or not title or not artist:
        return None
    names, wanted = answers.of("track").names, fold(artist)
    tracks = names.best_known(names.by_folded.get(fold(title), []))
    return next((x for x in tracks if fold(song(answers, x).artist) == wanted), None)


def mbid(answers: Snapshot, item: Item) -> str | None:
    """Give the MusicBrainz id of an item, if it is known."""
    known: str | None = _fact(answers, item).get("mbid")
    return known


def song(answers: Snapshot, track: Item) -> Song:
    """Say of a track what players ask for."""
    fact = _fact(answers, track)
    artist = identified(answers, "artist", fact.get("artist") or "")
    return Song(
        track,
        artist.name if artist else track.about,
        artist.id if artist else None,
        mbid(answers, artist) if artist else None,
        fact.get("album"),
        fact.get("mbid"),
        tuple(fact.get("genres") or ()),
    )


def songs(answers: Snapshot, artists: Sequence[str]) -> dict[str, list[Item]]:
    """List the tracks of some artists, given by their ids, the best known first."""
    found: dict[str, list[Item]] = {x: [] for x in artists}
    for place, artist in _tracks(answers, pl.col("artist").is_in(list(found))):
        found[artist].append(answers.of("track").names.item(place))
    return found


def album(answers: Snapshot, name: str) -> Item | None:
    """Give the best known track of an album, if all tracks of that name are of one artist."""
    found = _tracks(answers, pl.col("album") == name)
    if len({artist for _, artist in found}) != 1:
        return None
    return answers.of("track").names.item(found[0][0])


def radio(answers: Snapshot, artist: Item, *, count: int) -> list[Item]:
    """List tracks of an artist and of similar ones: the first of each, the second of each, ..."""
    near = answers.similar("artist", artist.id, Query(k=min(count, NEAR)))
    theirs = songs(answers, [artist.id, *(x.item.id for x in near)]).values()
    return [x for turn in zip_longest(*theirs) for x in turn if x is not None][:count]


def strengths(found: Neighbours) -> list[float]:
    """Say how similar each answer is, in [0, 1], never more than the one before.

    The confidence where there is one, else the cosine; less than 0 is 0. So a client that sorts by
    it keeps the order of the answers.
    """
    scores = [x.score if x.confidence is None else x.confidence for x in found]
    falling = np.minimum.accumulate(np.clip(scores, 0, 1))
    return [float(x) for x in falling.round(6)]


def _tracks(answers: Snapshot, wanted: pl.Expr) -> list[tuple[int, str]]:
    """Row of each track that is wanted and id of its artist, the best known first."""
    items = answers.kinds.get("track")
    if items is None or items.attributes is None:
        return []
    rows = items.attributes.table.lazy().with_row_index("row").filter(wanted).drop_nulls("artist")
    pairs = rows.select("row", "artist").collect().iter_rows()
    found = [(int(items.name_rows[row]), str(artist)) for row, artist in pairs]
    return sorted(found, key=lambda x: items.names.fame[x[0]])


def _fact(answers: Snapshot, item: Item) -> dict[str, Any]:
    """What is known of an item, as ``catalogue.attributes`` names it; empty where nothing is."""
    facts = answers.of(item.kind).attributes
    if facts is None or item.id not in facts.index:
        return {}
    return facts.table.row(facts.index[item.id], named=True)


FORM = "application/x-www-form-urlencoded"
NUMBER = re.compile(r"[+-]?[0-9]{1,30}")


async def parameters(request: Request) -> dict[str, str]:
    """Read the query and the form of a request together; of a name sent twice the first counts."""
    pairs = request.query_params.multi_items()
    if request.headers.get("content-type", "").lower().startswith(FORM):
        form = (await request.body()).decode("utf-8", errors="replace")
        pairs = [*pairs, *parse_qsl(form, keep_blank_values=True)]
    return dict(reversed(pairs))


def whole(sent: dict[str, str], name: str, *, default: int, most: int, least: int = 1) -> int:
    """Read a number, such as how many are asked for; more than ``most`` are ``most``.

    Raises
    ------
    DataError
        If it is no whole number, or below ``least``.
    """
    given = sent.get(name, "").strip()
    if not given:
        return min(default, most)
    if not NUMBER.fullmatch(given) or int(given) < least:
        raise DataError(f"{name} is {given[:20]!r}; send a whole number from {least} to {most}")
    return min(int(given), most)


def true(sent: dict[str, str], name: str) -> bool:
    """Say whether a switch is on, as Python, Go and people write that."""
    return sent.get(name, "").strip().lower() in ("true", "1", "yes", "on")


# What XML 1.0 cannot say at all, not even escaped.
ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(root: Element, *, status: int = 200) -> Response:
    """Make a reply of an element; a character that XML cannot hold becomes U+FFFD."""
    for element in root.iter():
        element.text = element.text and ILLEGAL.sub("\ufffd", element.text)
        for name, value in element.items():
            element.set(name, ILLEGAL.sub("\ufffd", value))
    body = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Response(body, status, media_type="text/xml")
