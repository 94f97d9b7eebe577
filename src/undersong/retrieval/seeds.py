"""What a playlist begins with: artists and tracks by their names, which stand for each other."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from undersong.catalogue import Item, Kind, Names, name_key
from undersong.errors import DataError, UnknownItem
from undersong.retrieval.query import Neighbours

OF_ARTIST = 5  # best-known tracks that stand for an artist
MOST = 100  # seeds that are asked about; of more, so many evenly chosen ones
FEW = 5  # unknown words that are named
DASH = " - "  # between the artist and the title of a track
T = TypeVar("T")
Words = Sequence[str | Item]


@dataclass(frozen=True)
class Named:
    """Items of one kind that stand for what was named.

    Parameters
    ----------
    items : id of each -> the artist or track that was named
    weights : id of each -> how much it counts; those of one artist share what it counts
    unknown : words that nobody is called, or of which nothing but the name is known
    """

    items: dict[str, Item]
    weights: dict[str, float]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beginning:
    """What a playlist begins with, as items of its kind by their ids.

    Parameters
    ----------
    named : id of each seed -> the artist or track that was named
    weights : how much each seed counts
    plays : how often somebody plays each seed
    ends : the first and the last song of a path; else empty
    before : songs that have come already
    away : no song is nearer to one of these than to any seed
    gone : songs that may not come
    unknown : words that were left out
    """

    named: dict[str, Item]
    weights: dict[str, float]
    plays: dict[str, float]
    ends: tuple[str, ...]
    before: tuple[str, ...]
    away: tuple[str, ...]
    gone: frozenset[str]
    unknown: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was left out, in a sentence; "" for nothing."""
        if not self.unknown:
            return ""
        words = ", ".join(map(repr, self.unknown[:FEW]))
        return f"left out {len(self.unknown)} of which nothing is known here: {words}"

    def in_turns(self, neighbours: Neighbours) -> Neighbours:
        """Let answers take turns by the artist or track that each owes most to.

        Else of three seeds the two that agree would have the first hundred places. A playlist that
        is gone on with takes turns as a whole.
        """
        turns: Counter[str] = Counter()
        ordered = []
        for neighbour in neighbours:
            seed = neighbour.seeds[0] if neighbour.seeds else ""
            whose = self.named[seed].id if seed in self.named and seed not in self.before else ""
            ordered.append((turns[whose], neighbour))
            turns[whose] += 1
        ordered.sort(key=lambda x: x[0])
        return replace(neighbours, neighbours=tuple(x for _, x in ordered))

    def owners(self, ids: Iterable[str]) -> tuple[str, ...]:
        """Return the ids of what was named, for those of some seeds."""
        return tuple(dict.fromkeys(self.named[x].id for x in ids))


@dataclass(frozen=True)
class Library:
    """Items by their names, for a playlist of one kind.

    Parameters
    ----------
    kind : of the songs of the playlist
    names : of artists and of tracks, those that there are
    tracks : of each artist, by ids, the best known first
    known : ids of the items of ``kind`` of which more than the name is known
    """

    kind: Kind
    names: Mapping[Kind, Names]
    tracks: Mapping[str, Sequence[str]]
    known: Collection[str]

    def begin(
        self,
        *,
        like: Words,
        unlike: Words,
        plays: Mapping[str, float],
        path: Words,
        after: Words,
        never: Words,
    ) -> Beginning:
        """Return what a playlist begins with; the parameters are those of ``Model.playlist``.

        Raises
        ------
        UnknownItem
            If no item fits a word of ``like``, ``unlike`` or ``path``, or nothing else is known.
        DataError
            For no beginning or several, or as ``find``.
        """
        begun = {"like or after": like or after, "plays": plays, "path": path}
        if len(names := [name for name, value in begun.items() if value]) != 1:
            raise DataError(
                f"a playlist begins with {' and '.join(names) or 'nothing'}; give one of "
                f"{', '.join(begun)}"
            )
        liked, away = self.find(evenly([*like, *path])), self.find(evenly(unlike))
        played, earlier, never_again = (self.find(x, lenient=True) for x in (plays, after, never))
        named = liked.items | played.items
        named |= {x: earlier.items[x] for x in evenly(tuple(earlier.items))}
        unknown = played.unknown + earlier.unknown + never_again.unknown
        if not named:
            raise UnknownItem(f"of {len(unknown)} words none is known here, first {unknown[0]!r}")
        own = (x for x, item in named.items() if item.kind == self.kind)
        return Beginning(
            named=named,
            weights={x: liked.weights.get(x, 1.0) for x in named},
            plays=played.weights,
            ends=_firsts(liked) if path else (),
            before=tuple(earlier.items),
            away=tuple(away.items),
            gone=self._whole(away, never_again).union(own, earlier.items),
            unknown=unknown,
        )

    def meaning(self, word: str | Item) -> Item | None:
        """Return what a word means: an id, the name of an artist, a title, or ARTIST - TITLE.

        An id of the playlist's own kind goes first. None where nobody is called so.
        """
        if isinstance(word, Item):
            return word
        for kind in sorted(self.names, key=lambda x: x != self.kind):
            if word in self.names[kind].row:
                return self.names[kind].get(word)
        for kind in sorted(self.names):  # artists first
            if self.names[kind].knows(word):
                return self.names[kind].find(word)[0]
        return self._by_title(word)

    def standing_for(self, item: Item, *, whole: bool = False) -> tuple[str, ...]:
        """Return the ids that stand for an item: its own, an artist's tracks, a track's artist.

        Of an artist the best-known five, or every one as a ``whole``.
        """
        if item.kind == self.kind:
            ids: Iterable[str] = (item.id,)
        elif self.kind == "track":
            ids = self.tracks.get(item.id, ())
        else:
            ids = [artist for artist, own in self.tracks.items() if item.id in own]
        return tuple(x for x in ids if x in self.known)[: None if whole else OF_ARTIST]

    def find(
        self, words: Mapping[str, float] | Iterable[str | Item], *, lenient: bool = False
    ) -> Named:
        """Return what stands for each of some words, which count 1 or what a mapping says.

        Parameters
        ----------
        lenient : whether unknown words are left out and listed

        Raises
        ------
        UnknownItem
            If no item fits a word, with those that look most like it.
        DataError
            If more than the name is known of no track of an artist.
        """
        weighed = words if isinstance(words, Mapping) else dict.fromkeys(words, 1.0)
        items: dict[str, Item] = {}
        weights: dict[str, float] = {}
        unknown = []
        for word, weight in weighed.items():
            item = self.meaning(word)
            ids = self.standing_for(item) if item else ()
            if item is None or not ids:
                if not lenient:
                    self._refuse(word, item)
                unknown.append(str(word))
                continue
            for own in ids:
                items.setdefault(own, item)
                weights[own] = weights.get(own, 0.0) + weight / len(ids)
        return Named(items, weights, tuple(unknown))

    def _refuse(self, word: str | Item, item: Item | None) -> None:
        """Raise what is wrong with a word that nothing stands for."""
        if item is None:
            self.names[self.kind].find(str(word))
            return
        only = "nothing is" if item.kind == self.kind else f"no {self.kind} is"
        raise DataError(
            f"of {item.name!r} ({item.id}) {only} known but by name; name another, or add audio, "
            "plays or metadata and train again"
        )

    def _whole(self, *named: Named) -> frozenset[str]:
        """Return all ids that stand for what was named: of an artist every track."""
        items = {item for x in named for item in x.items.values()}
        return frozenset(x for item in items for x in self.standing_for(item, whole=True))

    def _by_title(self, word: str) -> Item | None:
        """Return the track that ARTIST - TITLE means."""
        if not {"artist", "track"} <= set(self.names):
            return None
        for at in (x for x in range(len(word)) if word.startswith(DASH, x)):
            title = name_key(word[at + len(DASH) :])
            for artist in self.names["artist"].named(word[:at]):
                for item in map(self.names["track"].get, self.tracks.get(artist.id, ())):
                    if name_key(item.name) == title:
                        return item
        return None


def _firsts(named: Named) -> tuple[str, ...]:
    """Return of what stands for each item that was named the first."""
    first = {item: x for x, item in reversed(named.items.items())}
    return tuple(first[x] for x in dict.fromkeys(named.items.values()))


def evenly(values: Sequence[T]) -> list[T]:
    """Return ``MOST`` of some values at most, evenly spaced, the first and the last among them."""
    if len(values) <= MOST:
        return list(values)
    return [values[x] for x in np.linspace(0, len(values) - 1, MOST).astype(int)]
