"""What somebody asks for, how many, of which kind, how far apart; and the answers, best first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.catalogue import Item
from undersong.errors import DataError
from undersong.io.display import html_table, one_line, text_of, to_pandas


@dataclass(frozen=True)
class Query:
    """A wish about answers. Without any, the k best of all items.

    Parameters
    ----------
    k : how many answers, 1 or more; where fewer can be given, all of them
    genres : an answer has one of these, or with ``all_genres`` every one; empty: any
    regions : an answer is from one of these; empty: any
    decade_from, decade_to : first years of the first and last decade of an answer, such as 1970
    library : ids of the only items that may be answers; None: all. Unknown ids are nobody's
    closed : whether the items of the library compete among themselves alone, as a pool does in an
        evaluation; else they keep their order among all items
    exclude : ids of items that may not
    pop_begin, pop_end : in [0, 1], percentiles of popularity between which an answer lies
    max_popularity : in [0, 1], percentile that no answer exceeds
    per_artist, per_album : at most so many answers of one artist or album; None: any number
    diversity : in [0, 1], how much more an answer unlike the ones before it is worth
        0: the order itself. See ``undersong.retrieval.filters``.
    long_tail : in [-1, 1], from as lists do to as if nobody were linked (``rerank``); None: 0
    only_unlinked : whether an answer must be an item of which no relation is known
    paper : whether to answer by the cosine of E_G alone, as the paper does
    graph : whether to answer by the cosine of X_G, of a run that trained a graph network behind GRM
        An item without a known relation asks by E_G: the network knows no more of it.

    Raises
    ------
    DataError
        For a value out of range, and for wishes that no item can fulfil together.
    """

    k: int = 10
    genres: frozenset[str] = frozenset()
    all_genres: bool = False
    regions: frozenset[str] = frozenset()
    decade_from: int | None = None
    decade_to: int | None = None
    library: frozenset[str] | None = None
    closed: bool = False
    exclude: frozenset[str] = frozenset()
    pop_begin: float = 0.0
    pop_end: float = 1.0
    max_popularity: float = 1.0
    per_artist: int | None = None
    per_album: int | None = None
    diversity: float = 0.0
    long_tail: float | None = None
    paper: bool = False
    graph: bool = False
    only_unlinked: bool = False

    def __post_init__(self) -> None:
        if self.k < 1:
            raise DataError(f"k is {self.k}; it must be 1 or more")
        for name in ("per_artist", "per_album"):
            most = getattr(self, name)
            if most is not None and most < 1:
                raise DataError(f"{name} is {most}; allow 1 or more, or leave it out")
        for name in ("pop_begin", "pop_end", "max_popularity", "diversity"):
            share = getattr(self, name)
            if not 0 <= share <= 1:  # NaN is refused, too
                raise DataError(f"{name} is {share:g}; it lies between 0 and 1")
        if self.long_tail is not None and not -1 <= self.long_tail <= 1:
            raise DataError(f"long_tail is {self.long_tail:g}; it lies between -1 and 1")
        self._check_order()
        self._check_windows()

    def _check_order(self) -> None:
        if self.paper and self.graph:
            raise DataError("paper orders by E_G, graph by the graph network; leave one out")
        if (self.paper or self.graph) and self.long_tail:
            order, name = ("the graph network", "graph") if self.graph else ("the paper", "paper")
            raise DataError(
                f"long_tail is {self.long_tail:g}, but {order} ranks by plain cosine; leave "
                f"long_tail or {name} out"
            )

    def _check_windows(self) -> None:
        if self.pop_begin > self.most_popular:
            raise DataError(
                f"pop_begin is {self.pop_begin:g}, but the window ends at {self.most_popular:g}; "
                "nothing lies between"
            )
        if None not in (self.decade_from, self.decade_to) and self.decade_from > self.decade_to:  # type: ignore[operator]
            raise DataError(
                f"the first decade is {self.decade_from}, the last is {self.decade_to}; "
                "turn them round"
            )
        if self.library is not None and not self.library - self.exclude:
            raise DataError(
                f"all {len(self.library)} ids of the library are excluded, too; nothing is left"
                if self.library
                else "the library holds no id; leave it out, or give the ids that may be answers"
            )

    @property
    def most_popular(self) -> float:
        """Upper end of the window of popularity, whichever way it was given."""
        return min(self.pop_end, self.max_popularity)

    @property
    def asks_facts(self) -> bool:
        """Whether facts of the items decide who may be an answer."""
        window = self.pop_begin > 0 or self.most_popular < 1
        decades = self.decade_from is not None or self.decade_to is not None
        return bool(self.genres or self.regions or decades or window or self.caps)

    @property
    def caps(self) -> bool:
        """Whether an artist or album may have only so many answers."""
        return self.per_artist is not None or self.per_album is not None

    @property
    def filters(self) -> bool:
        """Whether anything decides who may be an answer."""
        named = self.library is not None or bool(self.exclude)
        return self.asks_facts or named or self.only_unlinked


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
