"""Playlists: which of the answers come, and in what order, so that they are good to hear in a row.

Songs are chosen one after the other: of those that the rules allow, the one with the highest

    relevance + smooth (mean of: cosine of E_G, nearness in tempo, moods in common)

Relevance is the place among the answers: 1 for the first, and 0 for the one that comes after twice
as many as are wanted. The mean is over what is known of the song and of the one before. Tempo is
near from 1 (the same) down to 0 (half an octave, such as 100 and 141 beats a minute, or more).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.errors import DataError
from undersong.retrieval.query import Neighbour, Neighbours, Query

POOL = 3  # answers for each song that is wanted, from which songs are chosen
LEAST = 100  # and at least so many
DEEPER = 4  # times as many, where the rules leave too few of them
SHUFFLE = 0.5  # of a relevance that chance may add
OCTAVE = 0.5  # from which on two tempos are not near at all


NO_MORE = "the rules, filters and what is near leave no more"


@dataclass(frozen=True)
class Rules:
    """What a playlist keeps to.

    Parameters
    ----------
    minutes : how long it lasts, in place of a number of songs; needs lengths in the catalogue
    apart : no artist twice among so many songs in a row; 1: no such rule
    smooth : 0 or more, what being near to the song before is worth beside relevance
    unlinked : in [0, 1], at least this share of songs is by artists whom nobody has linked
    shuffle : number of another playlist of the same kind, the same each time; None: the best one

    Raises
    ------
    DataError
        For a value out of range.
    """

    minutes: float | None = None
    apart: int = 5
    smooth: float = 0.5
    unlinked: float = 0.0
    shuffle: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise DataError(f"minutes is {self.minutes:g}; ask for more than 0")
        if self.apart < 1:
            raise DataError(f"apart is {self.apart}; 1 lets an artist follow itself")
        if not 0 <= self.smooth < float("inf"):
            raise DataError(f"smooth is {self.smooth:g}; it is 0 or more")
        if not 0 <= self.unlinked <= 1:
            raise DataError(f"unlinked is {self.unlinked:g}; it lies between 0 and 1")
        if self.shuffle is not None and self.shuffle < 0:
            raise DataError(f"shuffle is {self.shuffle}; it is 0 or more")


@dataclass(frozen=True)
class Songs:
    """What rules need to know of p songs.

    Parameters
    ----------
    vectors : (p, d) E_G, of unit length or zero
    artist, album : (p,) a number for each, -1 where it is not known
    unlinked : (p,) whether nobody has linked its artist
    seconds, tempo : (p,) length, and beats a minute; NaN where it is not known
    moods : (p, m) which moods it has; without any none is known of it
    """

    vectors: NDArray[np.float32]
    artist: NDArray[np.int64]
    album: NDArray[np.int64]
    unlinked: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    tempo: NDArray[np.float64]
    moods: NDArray[np.bool_]


def read_songs(table: pl.DataFrame, vectors: NDArray[np.float32]) -> Songs:
    """Read what is known of songs from a table with a row each.

    Columns: artist, unlinked and, where anything is known, album, seconds or duration (in
    seconds), tempo or bpm, mood or moods.
    """

    def numbers(*names: str) -> NDArray[np.float64]:
        name = next((x for x in names if x in table and table[x].dtype.is_numeric()), None)
        if name is None:
            return np.full(len(table), np.nan)
        values = table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return np.where(np.isfinite(values) & (values > 0), values, np.nan)

    def codes(name: str) -> NDArray[np.int64]:
        if name not in table:
            return np.full(len(table), -1)
        return table[name].rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()

    return Songs(
        vectors,
        codes("artist"),
        codes("album"),
        table["unlinked"].to_numpy(),
        numbers("seconds", "duration"),
        numbers("tempo", "bpm"),
        _moods(table),
    )


def _moods(table: pl.DataFrame) -> NDArray[np.bool_]:
    name = next((x for x in ("mood", "moods") if x in table), None)
    words = [] if name is None else table[name].to_list()
    sets = [set(x if isinstance(x, list) else [x]) - {None} for x in words]
    place = {x: at for at, x in enumerate(sorted(set().union(*sets)))}
    moods = np.zeros((len(table), len(place)), dtype=bool)
    for row, own in enumerate(sets):
        moods[row, [place[x] for x in own]] = True
    return moods


def fill(
    answers: Callable[[Query], Sequence[Neighbours]],
    read: Callable[[Sequence[str]], Songs],
    *,
    query: Query,
    rules: Rules,
    before: Sequence[str] = (),
    most: int,
) -> tuple[list[Neighbour], str]:
    """Look as far down some answers as it takes to fill a playlist.

    Parameters
    ----------
    answers : lists those that a query is answered with, a list for each part of the playlist
    read : reads what is known of songs, by their ids
    query : k of it, and of its caps those of the whole playlist
    before : ids of songs that have come already
    most : answers that there can be

    Returns
    -------
    The songs in their order, and in a sentence what is lacking; "" where nothing is.

    Raises
    ------
    DataError
        If minutes are asked for and the length of no answer is known.
    """
    depth, plain = max(POOL * query.k, LEAST), replace(query, per_artist=None, per_album=None)
    while True:
        parts = answers(replace(plain, k=min(depth, most), diversity=0.0))
        each = {x.item.id: x for part in reversed(parts) for x in part}
        ids = list(dict.fromkeys([*before, *each]))
        place = {x: at for at, x in enumerate(ids)}
        songs = read(ids)
        if rules.minutes is not None and each and np.isnan(songs.seconds).all():
            raise DataError(
                f"minutes is {rules.minutes:g}, but of no song is known how long it is (column "
                "seconds of the catalogue's tracks); ask for a number of songs"
            )
        rows = [np.array([place[x.item.id] for x in part], dtype=np.int64) for part in parts]
        chosen = arrange(
            songs,
            rows,
            k=query.k,
            rules=rules,
            per_artist=query.per_artist,
            per_album=query.per_album,
            before=[place[x] for x in before],
        )
        note = _lacking(songs, chosen, k=query.k, rules=rules)
        if not note or depth >= most:
            note = note and next((x.note for x in parts if x.note), note)
            return [each[ids[x]] for x in chosen], note
        depth *= DEEPER


def _lacking(songs: Songs, chosen: Sequence[int], *, k: int, rules: Rules) -> str:
    """Return in a sentence what a playlist lacks of what was asked for."""
    if _progress(songs, chosen, k=k, rules=rules) < 1:
        return f"{len(chosen)} songs: {NO_MORE}"
    unlinked = int(songs.unlinked[list(chosen)].sum())
    if unlinked < np.floor(rules.unlinked * len(chosen) + 1e-9):
        return f"{unlinked} of {len(chosen)} songs are by unlinked artists: {NO_MORE}"
    return ""


def arrange(
    songs: Songs,
    parts: Sequence[NDArray[np.int64]],
    *,
    k: int,
    rules: Rules,
    per_artist: int | None = None,
    per_album: int | None = None,
    before: Sequence[int] = (),
) -> list[int]:
    """Choose and order k songs, or as many as last for ``rules.minutes``; fewer where none is left.

    Parameters
    ----------
    parts : rows of ``songs`` that may come, best first; of several parts, each fills its share of
        the playlist, one after the other
    per_artist, per_album : at most so many songs of one
    before : rows of songs that have come already, which the rules count

    Returns
    -------
    Rows, without those of ``before``; none comes twice.
    """
    relevance = _relevance(songs, parts, rules, k=k)
    taken = _Taken(songs, rules.apart, [(songs.artist, per_artist), (songs.album, per_album)])
    for row in before:
        taken.take(row)
    chosen: list[int] = []
    last, part = (before[-1] if before else None), 0
    while (done := _progress(songs, chosen, k=k, rules=rules)) < 1:
        part = max(part, min(int(done * len(parts)), len(parts) - 1))
        allowed = taken.allowed() & np.isfinite(relevance[part])
        short = songs.unlinked[chosen].sum() < np.floor(rules.unlinked * (len(chosen) + 1) + 1e-9)
        if short and (allowed & songs.unlinked).any():
            allowed &= songs.unlinked
        if allowed.any():
            value = relevance[part]
            if last is not None and rules.smooth:
                value = value + rules.smooth * _flow(songs, last)
            last = int(np.where(allowed, value, -np.inf).argmax())
            chosen.append(last)
            taken.take(last)
        elif part + 1 < len(parts):
            part += 1
        else:
            break
    return chosen


class _Taken:
    """Which songs have come, and which may come next; what is not known of one rules nothing out.

    Parameters
    ----------
    caps : a number for each song, -1 where it is not known, and how many of one number may come
    """

    def __init__(
        self, songs: Songs, apart: int, caps: Sequence[tuple[NDArray[np.int64], int | None]]
    ) -> None:
        self._artist, self._apart, self._count = songs.artist, apart, 0
        self._free = np.ones(len(songs.artist), dtype=bool)
        # Of each number; the last place is that of -1 and stays as it is.
        self._last = np.full(songs.artist.max(initial=-1) + 2, -np.inf)
        self._caps = [(x, most, np.zeros(x.max(initial=-1) + 2)) for x, most in caps if most]

    def take(self, row: int) -> None:
        """Let a song come."""
        self._free[row] = False
        if self._artist[row] >= 0:
            self._last[self._artist[row]] = self._count
        for codes, _, counts in self._caps:
            counts[codes[row]] += codes[row] >= 0
        self._count += 1

    def allowed(self) -> NDArray[np.bool_]:
        """Return which songs may come next, (p,)."""
        allowed = self._free & (self._count - self._last[self._artist] >= self._apart)
        for codes, most, counts in self._caps:
            allowed &= counts[codes] < most
        return allowed


def _relevance(
    songs: Songs, parts: Sequence[NDArray[np.int64]], rules: Rules, *, k: int
) -> NDArray[np.float64]:
    """Relevance of each song in each part, (parts, p); -inf where it is no part of it."""
    relevance = np.full((len(parts), len(songs.artist)), -np.inf)
    for part, rows in zip(relevance, parts, strict=True):
        part[rows] = 1 - np.arange(len(rows)) * len(parts) / (2 * k)
    if rules.shuffle is not None:
        chance = np.random.default_rng(rules.shuffle).random(relevance.shape[1])
        relevance += SHUFFLE * chance
    if rules.minutes is not None:
        relevance[:, np.isnan(songs.seconds)] = -np.inf
    return relevance


def _progress(songs: Songs, chosen: Sequence[int], *, k: int, rules: Rules) -> float:
    """Return how much of the playlist is there; 1 when it is whole."""
    if rules.minutes is None:
        return len(chosen) / k
    return float(songs.seconds[list(chosen)].sum()) / (60 * rules.minutes)


def _flow(songs: Songs, last: int) -> NDArray[np.float64]:
    """Return how near each song is to the one before it, (p,)."""
    cosine = songs.vectors @ songs.vectors[last]
    tempo = 1 - np.minimum(np.abs(np.log2(songs.tempo / songs.tempo[last])) / OCTAVE, 1)
    both = (songs.moods & songs.moods[last]).sum(axis=1)
    either = (songs.moods | songs.moods[last]).sum(axis=1)
    known = songs.moods.any(axis=1) & songs.moods[last].any()
    mood = np.where(known, both / np.maximum(either, 1), np.nan)
    return np.asarray(np.nanmean([cosine.astype(np.float64), tempo, mood], axis=0))
