"""What a listener may like: near what they play, taste by taste, and nothing that they know.

Somebody who plays black metal and bossa nova wants some of each, not what lies between. So the
seeds are put into tastes by E_G, each taste is asked for what is near several of its seeds, and
the answers take turns, in proportion to how much each taste is played.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from undersong.catalogue.tables import Kind
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.names import Names
from undersong.retrieval.facts import Facts
from undersong.retrieval.nearest import Index
from undersong.retrieval.request import Request
from undersong.retrieval.retrieve import retrieve

REACH = 100  # neighbours of each seed that can be answers; k where that is more
EVEN = 10.0  # added to ranks: the higher, the more several seeds are worth over one near one
TASTES = 3


@dataclass(frozen=True)
class Seeds:
    """What somebody plays, most played first: ids and plays; ``unknown`` words were left out."""

    ids: tuple[str, ...]
    plays: tuple[float, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recommended:
    """Answers, best first, as rows of the index.

    Parameters
    ----------
    rows, scores, seeds : (k,), the seed to which an answer owes most
    tastes : (k,), number of the taste that it is for, from 0, the most played first
    note : why there is no answer, if filters left none
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    seeds: NDArray[np.int64]
    tastes: NDArray[np.int64]
    note: str = ""


@dataclass(frozen=True)
class Recommendation:
    """One answer: rank from 1, what it is, which taste it is for, and the seed that led to it."""

    rank: int
    item: str
    name: str
    about: str
    score: float
    relations: int
    taste: int
    because: str


def read_seeds(path: Path, names: Names) -> Seeds:
    """Read what somebody plays: a CSV or Parquet table, or text with an id or name a line.

    A table has the column ``id`` or ``name`` and may have ``plays``; a row without is one play.
    Words that nobody is called are left out and listed.

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or plays are no numbers.
    UnknownItem
        If nothing in it is known.
    """
    try:
        table = _table(path)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a table of plays: {error}") from error
    played: dict[str, float] = {}
    unknown: list[str] = []
    for word, plays in table.group_by("word", maintain_order=True).agg(pl.sum("plays")).rows():
        try:
            item = names.find(word).id
        except UnknownItem:
            unknown.append(word)
            continue
        played[item] = played.get(item, 0.0) + plays
    if not played:
        raise UnknownItem(
            f"{path}: none of {len(unknown)} words is an id or a name here, first "
            f"{next(iter(unknown), '')!r}"
        )
    return _seeds(played, unknown)


def seeds_of_user(catalogue: Path, kind: Kind, user: str) -> Seeds:
    """Read what a user of a catalogue plays.

    Raises
    ------
    DataError
        If the catalogue is gone, or nobody of this id plays anything of this kind.
    """
    from undersong.catalogue import tables

    plays = tables.read(catalogue).plays.filter(pl.col("kind") == kind)
    own = plays.filter(pl.col("user") == user)
    if own.is_empty():
        near = nearest_known(user, plays["user"].unique().sort())
        raise DataError(f"no user {user!r} plays {kind}s in {catalogue}; {near}")
    return _seeds(dict(own.select("item", "plays").rows()), ())


def recommend(
    index: Index,
    seeds: Seeds,
    *,
    request: Request,
    facts: Facts | None = None,
    tastes: int = TASTES,
) -> Recommended:
    """List what is near the seeds; none of them is an answer.

    Parameters
    ----------
    request : how many, from whom, and how far to forget relations (``long_tail``)
    tastes : most groups of seeds that take turns; 1 for all seeds together

    Raises
    ------
    DataError
        If nothing but the name is known of any seed; or as ``retrieve``.

    Notes
    -----
    A seed gives each of its nearest items ln(1 + plays) / (10 + rank), and within a taste these
    are summed: near several seeds is better than near one. Tastes take turns by Sainte-Lague: the
    next answer is for the one with the highest weight / (2 given + 1).
    """
    if tastes < 1:
        raise DataError(f"tastes is {tastes}; allow 1 or more")
    known = [(index.embeddings.index[x], n) for x, n in zip(seeds.ids, seeds.plays, strict=True)
             if x in index.embeddings.index]  # fmt: skip
    if not known:
        raise DataError(
            f"nothing is known of the {len(seeds.ids)} seeds but their names; name others"
        )
    rows = np.array([row for row, _ in known], dtype=np.int64)
    weights = np.log1p(np.array([plays for _, plays in known]))
    wide = replace(
        request, k=max(REACH, request.k), exclude=request.exclude | set(seeds.ids), diversity=0.0
    )
    blocks = list(retrieve(index, rows, request=wide, facts=facts))
    near = np.concatenate([_wide(x.neighbours, wide.k) for x in blocks])
    groups = group(index.embeddings.vectors[rows], weights, most=tastes)
    lists = [_ranked(near[own], rows[own], weights[own]) for own in groups]
    shares = [float(weights[own].sum()) for own in groups]
    return replace(_take_turns(lists, shares, k=request.k), note=blocks[0].note)


def group(
    vectors: NDArray[np.float32], weights: NDArray[np.float64], *, most: int
) -> list[NDArray[np.int64]]:
    """Put seeds into tastes by the cosine of E_G, the most played taste first.

    Average linkage, cut into ``most`` groups. Seeds without a vector join the most played one.
    """
    there = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    label = np.zeros(len(vectors), dtype=np.int64)
    if most > 1 and len(there) > 1:
        tree = hierarchy.linkage(vectors[there].astype(np.float64), "average", metric="cosine")
        label[there] = hierarchy.fcluster(tree, most, criterion="maxclust")
        heaviest = np.bincount(label[there], weights[there]).argmax()
        label[np.setdiff1d(np.arange(len(vectors)), there)] = heaviest
    groups = [np.flatnonzero(label == x) for x in np.unique(label)]
    return sorted(groups, key=lambda own: (-weights[own].sum(), own[0]))


def named(found: Recommended, index: Index, names: Names) -> list[Recommendation]:
    """Say of each answer what it is, and after which seed it comes."""
    ids, answers = index.embeddings.ids, []
    columns = zip(found.rows, found.scores, found.seeds, found.tastes, strict=True)
    for rank, (row, score, seed, taste) in enumerate(columns, start=1):
        name, about, relations = names.about(ids[row])
        because = names.about(ids[seed])[0]
        score = round(float(score), 4)
        answers.append(
            Recommendation(rank, ids[row], name, about, score, relations, int(taste) + 1, because)
        )
    return answers


def text(answers: Sequence[Recommendation], note: str = "") -> str:
    """Show answers in the terminal: rank, taste, name, id, who is long tail, and why."""
    width = max((len(f"{one.name} ({one.item})") for one in answers), default=0)
    lines = []
    for one in answers:
        name = f"{one.name} ({one.item})"
        tail = "" if one.relations else "  long tail"
        lines.append(f"{one.rank:4}  taste {one.taste}  {name:<{width}}  near {one.because}{tail}")
    return "\n".join([*lines, note] if note else lines)


def _table(path: Path) -> pl.DataFrame:
    """Read the file of seeds as a table of word and plays."""
    if path.suffix not in (".csv", ".parquet"):
        lines = [x.strip() for x in path.read_text(encoding="utf-8-sig").splitlines()]
        return pl.DataFrame({"word": [x for x in lines if x]}, schema={"word": pl.String}).select(
            "word", plays=pl.lit(1.0)
        )
    parquet = path.suffix == ".parquet"
    table = pl.read_parquet(path) if parquet else pl.read_csv(path, infer_schema=False)
    column = next((x for x in ("id", "name") if x in table.columns), None)
    if column is None:
        raise DataError(f"{path} has no column 'id' or 'name'; it has {', '.join(table.columns)}")
    plays = pl.col("plays").cast(pl.Float64) if "plays" in table.columns else pl.lit(1.0)
    read = table.select(word=pl.col(column).cast(pl.String), plays=plays.fill_null(1.0))
    wrong = read.filter(~pl.col("plays").is_finite() | (pl.col("plays") < 0))
    if len(wrong):
        word, found = wrong.row(0)
        raise DataError(f"{path}: {found} plays of {word!r}; plays are 0 or more")
    return read.drop_nulls("word").filter(pl.col("plays") > 0)


def _seeds(played: dict[str, float], unknown: Sequence[str]) -> Seeds:
    order = sorted(played, key=lambda x: (-played[x], x))
    return Seeds(tuple(order), tuple(played[x] for x in order), tuple(unknown))


def _wide(neighbours: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Fill up with -1 to k columns, so that blocks can be stacked."""
    filled = np.full((len(neighbours), k), -1, dtype=np.int64)
    filled[:, : neighbours.shape[1]] = neighbours
    return filled


def _ranked(
    near: NDArray[np.int64], seeds: NDArray[np.int64], weights: NDArray[np.float64]
) -> list[tuple[float, int, int]]:
    """Order what is near the seeds of one taste: score, item, the seed that gave most."""
    worth = weights[:, None] / (EVEN + 1 + np.arange(near.shape[1]))[None, :]
    given: dict[int, list[tuple[float, int]]] = {}
    for at, row in enumerate(near.tolist()):
        for place, item in enumerate(row):
            if item >= 0:
                given.setdefault(item, []).append((float(worth[at, place]), int(seeds[at])))
    scored = [(sum(x for x, _ in parts), item, max(parts)[1]) for item, parts in given.items()]
    return sorted(scored, key=lambda x: (-x[0], x[1]))


def _take_turns(
    lists: Sequence[list[tuple[float, int, int]]], shares: Sequence[float], *, k: int
) -> Recommended:
    taken: dict[int, tuple[float, int, int]] = {}
    given, waiting = [0] * len(lists), [iter(x) for x in lists]
    open_ones = set(range(len(lists)))
    while len(taken) < k and open_ones:
        turn = max(open_ones, key=lambda x: (shares[x] / (2 * given[x] + 1), -x))
        answer = next((x for x in waiting[turn] if x[1] not in taken), None)
        if answer is None:
            open_ones.remove(turn)
            continue
        taken[answer[1]] = (answer[0], answer[2], turn)
        given[turn] += 1
    rows = np.array(list(taken), dtype=np.int64)
    scores = np.array([x for x, _, _ in taken.values()], dtype=np.float64)
    seeds = np.array([x for _, x, _ in taken.values()], dtype=np.int64)
    tastes = np.array([x for _, _, x in taken.values()], dtype=np.int64)
    return Recommended(rows, scores, seeds, tastes)
