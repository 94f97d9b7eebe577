"""What somebody asks for besides "what is similar?": how many, of which kind, how far apart."""

from dataclasses import dataclass

from undersong.errors import DataError


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
        0: the order itself. See ``undersong.retrieval.diversity``.
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
