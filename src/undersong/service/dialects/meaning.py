"""What the words of a client mean in one generation, and what it may be told of an item.

Nothing here guesses: words that no item bears mean nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import polars as pl

from undersong.catalogue.tables import Kind
from undersong.names import fold
from undersong.retrieval.request import Request
from undersong.service.answers import Answers, Found, Item, similar
from undersong.service.searching import by_mbid, by_name

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


def identified(answers: Answers, kind: Kind, given: str) -> Item | None:
    """Find the item with an id or a MusicBrainz id; of several the best known."""
    if kind not in answers.kinds or not given:
        return None
    items = answers.of(kind)
    if given in items.place:
        return items.item(items.place[given])
    return next(iter(by_mbid(answers, kind, given)), None)


def named(answers: Answers, kind: Kind, name: str) -> Item | None:
    """Find the item with a name, whatever its accents, case and punctuation: the best known."""
    if kind not in answers.kinds or not name:
        return None
    return next(iter(by_name(answers, kind, name)), None)


def titled(answers: Answers, title: str, *, artist: str) -> Item | None:
    """Find the track with a title by an artist with a name; of several the best known."""
    if "track" not in answers.kinds or not title or not artist:
        return None
    items, asked = answers.of("track"), fold(artist)
    places = sorted(items.by_folded.get(fold(title), []), key=lambda x: items.fame[x])
    found = (items.item(x) for x in places)
    return next((x for x in found if fold(song(answers, x).artist) == asked), None)


def mbid(answers: Answers, item: Item) -> str | None:
    """Give the MusicBrainz id of an item, if it is known."""
    known: str | None = _fact(answers, item).get("mbid")
    return known


def song(answers: Answers, track: Item) -> Song:
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


def songs(answers: Answers, artists: Sequence[str]) -> dict[str, list[Item]]:
    """List the tracks of some artists, given by their ids, the best known first."""
    found: dict[str, list[Item]] = {x: [] for x in artists}
    for place, artist in _tracks(answers, pl.col("artist").is_in(list(found))):
        found[artist].append(answers.of("track").item(place))
    return found


def album(answers: Answers, name: str) -> Item | None:
    """Give the best known track of an album, if all tracks of that name are of one artist."""
    found = _tracks(answers, pl.col("album") == name)
    if len({artist for _, artist in found}) != 1:
        return None
    return answers.of("track").item(found[0][0])


def radio(answers: Answers, artist: Item, *, count: int) -> list[Item]:
    """List tracks of an artist and of similar ones: the first of each, the second of each, ..."""
    near = similar(answers, "artist", artist.id, Request(k=min(count, NEAR))).answers
    theirs = songs(answers, [artist.id, *(x.item.id for x in near)]).values()
    return [x for turn in zip_longest(*theirs) for x in turn if x is not None][:count]


def strengths(found: Found) -> list[float]:
    """Say how similar each answer is, in [0, 1], never more than the one before.

    The confidence where there is one, else the cosine; less than 0 is 0. So a client that sorts by
    it keeps the order of the answers.
    """
    scores = [x.score if x.confidence is None else x.confidence for x in found.answers]
    falling = np.minimum.accumulate(np.clip(scores, 0, 1))
    return [float(x) for x in falling.round(6)]


def _tracks(answers: Answers, wanted: pl.Expr) -> list[tuple[int, str]]:
    """Row of each track that is wanted and id of its artist, the best known first."""
    items = answers.kinds.get("track")
    if items is None or items.facts is None:
        return []
    rows = items.facts.table.lazy().with_row_index("row").filter(wanted).drop_nulls("artist")
    pairs = rows.select("row", "artist").collect().iter_rows()
    found = [(int(items.place_of_row[row]), str(artist)) for row, artist in pairs]
    return sorted(found, key=lambda x: items.fame[x[0]])


def _fact(answers: Answers, item: Item) -> dict[str, Any]:
    """What is known of an item, by the names of ``retrieval.facts``; empty where nothing is."""
    facts = answers.of(item.kind).facts
    if facts is None or item.id not in facts.index:
        return {}
    return facts.table.row(facts.index[item.id], named=True)
