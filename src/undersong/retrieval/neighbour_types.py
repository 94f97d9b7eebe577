"""Answers as people and programs take them: neighbours and paths, which show as tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Item
from undersong.io.display import html_table, one_line, text_of, to_pandas

FEW = 3  # queries that are named of each neighbour
WIDEST = 48  # characters of a name with its id; a longer one widens its own line alone


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One answer.

    Parameters
    ----------
    rank : from 1
    score : what orders the answers: the cosine, or the number that a learned order gives
    confidence : in [0, 1], the chance that somebody who looked at both would list the pair,
        calibrated on validation items; None for the cosine, which is no chance
    seeds : of several items that were asked about, the ids of those that led to it
    taste : number of the taste that a recommendation is for, from 1
    """

    rank: int
    item: Item
    score: float
    confidence: float | None = None
    seeds: tuple[str, ...] = ()
    taste: int | None = None


@dataclass(frozen=True)
class Neighbours:
    """Answers, best first; prints as a table.

    Parameters
    ----------
    queries : the items that were asked about, each once; none of a sound
    note : why there are no answers, or what was left out; else empty
    linked : whether any relation is known; else no item is marked as long tail
    """

    queries: tuple[Item, ...]
    neighbours: tuple[Neighbour, ...]
    note: str = ""
    linked: bool = True

    def __len__(self) -> int:
        return len(self.neighbours)

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self.neighbours)

    def __getitem__(self, place: int) -> Neighbour:
        return self.neighbours[place]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the k answers."""
        return tuple(x.item.id for x in self)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores, (k,)."""
        return np.array([x.score for x in self], dtype=np.float64)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Confidence in [0, 1], (k,); NaN where it is not known."""
        return np.array([x.confidence for x in self], dtype=np.float64)

    def frame(self) -> pl.DataFrame:
        """Return a polars table of rank, id, name, about, score, confidence and relations.

        Of several queries it also has the names of those that are near to each answer, and of a
        recommendation the number of the taste.
        """
        columns: dict[str, pl.Series] = {
            "rank": pl.Series([x.rank for x in self], dtype=pl.Int64),
            "id": pl.Series(self.ids, dtype=pl.String),
            "name": pl.Series([x.item.name for x in self], dtype=pl.String),
            "about": pl.Series([x.item.about for x in self], dtype=pl.String),
            "score": pl.Series([x.score for x in self], dtype=pl.Float64),
            "confidence": pl.Series([x.confidence for x in self], dtype=pl.Float64),
            "relations": pl.Series([x.item.relations for x in self], dtype=pl.Int64),
        }
        if any(x.seeds for x in self):
            near = [self.near(x) for x in self]
            columns["near"] = pl.Series(near, dtype=pl.List(pl.String))
        if any(x.taste is not None for x in self):
            columns["taste"] = pl.Series([x.taste for x in self], dtype=pl.Int64)
        return pl.DataFrame(columns)

    def to_pandas(self) -> Any:
        """Return ``frame`` as pandas; UndersongError where that is not installed."""
        return to_pandas(self.frame())

    def near(self, neighbour: Neighbour) -> list[str]:
        """Return the names of the queries that led to an answer."""
        names = {x.id: x.name for x in self.queries}
        return [names[x] for x in neighbour.seeds]

    def __str__(self) -> str:
        """Show rank, confidence, name, id, the queries it is near to, and who is long tail.

        In place of the confidence stands the cosine, where no order was learned; of a
        recommendation the taste. Where nobody is linked, nobody is marked as long tail.
        """
        tastes = any(x.taste is not None for x in self)
        lines = [] if tastes else [heading(x) for x in self.queries]
        names = [one_line(f"{x.item.name} ({x.item.id})") for x in self]
        width = max((min(len(x), WIDEST) for x in names), default=0)
        for neighbour, name in zip(self, names, strict=True):
            lines.append(self._line(neighbour, f"{name:<{width}}"))
        return text_of([*lines, self.note] if self.note else lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        above = "" if len(self.queries) > FEW else "\n".join(map(heading, self.queries))
        return html_table(self.frame(), above=above, below=self.note)

    def _line(self, neighbour: Neighbour, name: str) -> str:
        item, confidence = neighbour.item, neighbour.confidence
        near = f"near {_few(self.near(neighbour))}" if neighbour.seeds else ""
        tail = "long tail" if self.linked and item.long_tail else ""
        if neighbour.taste is not None:
            taste = f"taste {neighbour.taste}"
            return f"{neighbour.rank:4}  {taste}  {name}  {near}  {tail}".rstrip()
        amount = f"{neighbour.score:6.3f}" if confidence is None else f"{confidence:6.0%}"
        words = "  ".join(filter(None, (name, item.about, near, tail)))
        return f"{neighbour.rank:4}  {amount}  {words}".rstrip()


@dataclass(frozen=True)
class PathStep:
    """One item of a path: its place from 1, and the cosine to the one before."""

    place: int
    item: Item
    similarity: float | None


@dataclass(frozen=True)
class ItemPath:
    """Items from one to another, each near the one before; prints as a table.

    Where there is no way ``note`` says why.
    """

    steps: tuple[PathStep, ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[PathStep]:
        return iter(self.steps)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items, from the first to the last."""
        return tuple(x.item.id for x in self)

    def frame(self) -> pl.DataFrame:
        """Return a polars table of place, id, name, about and similarity."""
        return pl.DataFrame(
            {
                "place": pl.Series([x.place for x in self], dtype=pl.Int64),
                "id": pl.Series(self.ids, dtype=pl.String),
                "name": pl.Series([x.item.name for x in self], dtype=pl.String),
                "about": pl.Series([x.item.about for x in self], dtype=pl.String),
                "similarity": pl.Series([x.similarity for x in self], dtype=pl.Float64),
            }
        )

    def to_pandas(self) -> Any:
        """Return ``frame`` as pandas; UndersongError where that is not installed."""
        return to_pandas(self.frame())

    def __str__(self) -> str:
        """Show place, cosine to the one before, name and id."""
        lines = [
            f"{step.place:4}  {'' if step.similarity is None else f'{step.similarity:6.3f}':>6}  "
            f"{step.item.name} ({step.item.id})  {step.item.about}".rstrip()
            for step in self
        ]
        return text_of(lines or [self.note])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(self.frame(), below=self.note)


def heading(item: Item) -> str:
    """Return a line on an item: name, id, what is said about it, how many relations are known."""
    known = f"{item.relations} known links" if item.relations else "no known link"
    return f"{item.name} ({item.id}): {f'{item.about}; ' if item.about else ''}{known}"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more
