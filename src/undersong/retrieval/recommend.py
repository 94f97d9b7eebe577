"""What somebody plays: of a file, or of a user of a catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster import hierarchy

from undersong import relations
from undersong.catalogue import Attributes, Catalogue, Kind, Names, refuse
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.importers.tables.spreadsheets import header, read_sheet
from undersong.io.files import reading
from undersong.io.table_files import DAMAGE
from undersong.retrieval import filters
from undersong.retrieval.index import Index, TopK
from undersong.retrieval.neighbours import search, unlinked
from undersong.retrieval.query import Query

TABLES = (".csv", ".tsv", ".parquet")
WORD = ("id", "name", "artist", "artist name", "track", "title")
PLAYS = ("plays", "playcount", "play count", "count", "scrobbles")
LIKELY = (*TABLES, ".txt")  # endings of a file of plays, and hardly of a user's id


@dataclass(frozen=True)
class Seeds:
    """What somebody plays, most played first: ids and plays; ``unknown`` words were left out."""

    ids: tuple[str, ...]
    plays: tuple[float, ...]
    unknown: tuple[str, ...] = ()


def read_seeds(path: Path, names: Names) -> Seeds:
    """Read what somebody plays: a CSV or Parquet table, or text with an id or name a line.

    It is read as ``import tables`` reads one. Its column is ``id`` or ``name`` (``WORD``), and it
    may have ``plays`` (``PLAYS``); a row without is one play.
    Words that nobody is called are left out and listed.

    Raises
    ------
    DataError
        As ``read_plays``.
    UnknownItem
        If nothing in it is known.
    """
    return seeds_of_plays(read_plays(path), names, where=f"{path}: ")


def read_plays(path: Path) -> dict[str, float]:
    """Read how often somebody plays what, by the words of the file (``read_seeds``).

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or plays are no numbers.
    """
    fault, hint = "cannot be read as a table of plays", "write it with the columns id and plays"
    with reading(path, UnicodeDecodeError, *DAMAGE, fault=fault, hint=hint, error=DataError):
        table = _table(path)
    words = table.group_by("word", maintain_order=True).agg(pl.sum("plays"))
    return dict(words.rows())


def seeds_of_plays(plays: Mapping[str, float], names: Names, *, where: str = "") -> Seeds:
    """Return what somebody plays, given as ids or names and how often.

    Raises
    ------
    DataError
        If a number of plays is negative or no number.
    UnknownItem
        If nothing in it is known.
    """
    played: dict[str, float] = {}
    unknown: list[str] = []
    for word, count in plays.items():
        if not (isinstance(count, Real) and 0 <= count < float("inf")):
            raise DataError(f"{where}{count} plays of {word!r}; plays are 0 or more")
        if not names.knows(word):
            unknown.append(word)
        elif count:
            item = names.find(word)[0].id
            played[item] = played.get(item, 0.0) + count
    if not played:
        raise UnknownItem(
            f"{where}none of {len(plays)} words is an id or a name here, first "
            f"{next(iter(unknown), '')!r}"
        )
    return seeds_of(played, unknown)


def seeds_of_user(catalogue: Catalogue | None, kind: Kind, user: str) -> Seeds:
    """List what a user of a catalogue plays.

    Raises
    ------
    DataError
        If there is no catalogue, or nobody of this id plays anything of this kind; where the id
        looks like the path of a file, which was then mistyped, this is said.
    """
    of_user = pl.col("user") == user
    named = catalogue is not None and len(catalogue.plays.filter(of_user).head(1).collect())
    if not named and _names_a_file(user):
        beside = (x.name for x in Path(user).parent.glob("*") if x.suffix.lower() in LIKELY)
        near = nearest_known(Path(user).name, sorted(beside))
        raise DataError(f"there is no file {user}, nor a user of that name; {near}")
    if catalogue is None:
        raise DataError(
            f"{user!r} is no file, and the catalogue in which it could be a user is not where it "
            "was; say where with --catalogue"
        )
    own = catalogue.played(kind).filter(of_user).collect()
    if own.is_empty():
        users = catalogue.played(kind).select(pl.col("user").unique().sort()).collect()
        near = nearest_known(user, users["user"])
        raise DataError(f"no user {user!r} plays {kind}s in this catalogue; {near}")
    return seeds_of(dict(own.select("item", "plays").rows()))


def _names_a_file(word: str) -> bool:
    return Path(word).suffix.lower() in LIKELY or len(Path(word).parts) > 1


def _table(path: Path) -> pl.DataFrame:
    """Read the file of seeds as a table of word and plays."""
    if path.suffix.lower() not in TABLES:
        lines = [x.strip() for x in path.read_text(encoding="utf-8-sig").splitlines()]
        return pl.DataFrame({"word": [x for x in lines if x]}, schema={"word": pl.String}).select(
            "word", plays=pl.lit(1.0)
        )
    names, issues = header(path, file=path.name)
    refuse(issues, remedy="write it with the columns id and plays")
    columns = {x.strip().casefold(): x for x in reversed(names)}
    word, count = (next((columns[x] for x in some if x in columns), None) for some in (WORD, PLAYS))
    if word is None:
        raise DataError(f"{path} has no column 'id' or 'name'; it has {', '.join(names)}")
    wanted = {"word": word} | ({"plays": count} if count is not None else {})
    sheet, issues = read_sheet(path, wanted, file=path.name)
    refuse(issues, remedy="write it with the columns id and plays")
    table = sheet.rows if sheet else pl.DataFrame(schema={"word": pl.String})
    text = pl.col("plays").cast(pl.String) if count is not None else pl.lit("1")
    plays = text.str.strip_chars().cast(pl.Float64, strict=False)
    read = table.select(
        pl.col("word").cast(pl.String).str.strip_chars(), text=text, plays=plays
    ).drop_nulls("word")
    wrong = read.filter(
        pl.col("text").is_not_null()
        & ~(pl.col("plays").is_finite() & (pl.col("plays") >= 0)).fill_null(value=False)
    )
    if len(wrong):
        whose, written, _ = wrong.row(0)
        raise DataError(f"{path}: {written} plays of {whose!r}; plays are 0 or more, as 1200")
    return read.select("word", pl.col("plays").fill_null(1.0)).filter(pl.col("plays") > 0)


def seeds_of(played: Mapping[str, float], unknown: Sequence[str] = ()) -> Seeds:
    """Return what somebody plays, by ids, most played first."""
    order = sorted(played, key=lambda x: (-played[x], x))
    return Seeds(tuple(order), tuple(played[x] for x in order), tuple(unknown))


SEEDS = 1000  # of more, the most played
REACH = 100  # neighbours of each seed by E_G that can be answers; k where that is more
EVEN = 10.0  # added to ranks: the higher, the more several seeds are worth over one near one
NEARNESS = 3.0  # of E_G beside listeners in common; chosen on validation users (docs/recommend.md)
TASTES = 1


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


def listeners_of(catalogue: Catalogue, kind: Kind, ids: Sequence[str]) -> sparse.csr_matrix:
    """Who plays each of some items, (n, users) ln(1 + plays) of unit length; zeros for nobody."""
    plays = relations.listeners(catalogue, kind).T.tocsr().astype(np.float64)
    plays.data = np.log1p(plays.data)
    length = np.sqrt(np.asarray(plays.multiply(plays).sum(axis=1)).ravel())
    units = sparse.diags(1 / np.maximum(length, np.finfo(float).tiny)) @ plays
    row = {item: place for place, item in enumerate(catalogue.ids(kind))}
    known = [(place, row[item]) for place, item in enumerate(ids) if item in row]
    cells = (np.ones(len(known)), tuple(np.array(known, dtype=np.int64).reshape(-1, 2).T))
    return (sparse.csr_matrix(cells, shape=(len(ids), len(row))) @ units).tocsr()


def recommend(
    index: Index,
    seeds: Seeds,
    *,
    query: Query,
    attributes: Attributes | None = None,
    heard: sparse.csr_matrix | None = None,
    tastes: int = TASTES,
) -> Recommended:
    """List what is near the seeds; none of them is an answer.

    Parameters
    ----------
    seeds : of more than 1,000 the most played count
    query : how many, and from whom; its diversity and dial play no part
    heard : who plays the items of the index (``listeners_of``); None where that is not known
    tastes : most groups of seeds that take turns; 1 for all seeds together

    Raises
    ------
    DataError
        If nothing but the name is known of any seed; or as ``retrieve``.

    Notes
    -----
    A seed gives each item ln(1 + plays) times the cosine of their listeners, and its nearest by
    the cosine of E_G another 3 ln(1 + plays) / (10 + rank); within a taste these are summed, so
    near several seeds is better than near one. The learned order takes no part: it ranks what is
    well linked first, which found less of what people play. Tastes take turns by Sainte-Lague: the
    next answer is for the one with the highest weight / (2 given + 1).
    """
    if tastes < 1:
        raise DataError(f"tastes is {tastes}; allow 1 or more")
    known = [(index.embeddings.index[x], n) for x, n in zip(seeds.ids, seeds.plays, strict=True)
             if x in index.embeddings.index][:SEEDS]  # fmt: skip
    if not known:
        raise DataError(
            f"nothing is known of the {len(seeds.ids)} seeds but their names; name others"
        )
    rows = np.array([row for row, _ in known], dtype=np.int64)
    weights = np.log1p(np.array([plays for _, plays in known]))
    wide = replace(
        query,
        k=max(REACH, query.k),
        exclude=query.exclude | set(seeds.ids),
        diversity=0.0,
        paper=True,
    )
    blocks = list(search(index, rows, query=wide, attributes=attributes))
    near = np.concatenate([_wide(x.neighbours, wide.k) for x in blocks])
    shown = attributes if attributes is not None else Attributes.bare(index.embeddings.ids)
    allowed = filters.passing(wide, shown)
    if query.only_unlinked:
        allowed &= unlinked(index)
    groups = group(index.embeddings.vectors[rows], weights, most=tastes)
    lists = []
    for own in groups:
        worth = _worth(near[own], rows[own], weights[own], heard=heard, n=len(allowed))
        answers = _best(*worth, allowed=allowed, k=wide.k)
        lists.append(_capped(answers, query=wide, attributes=shown))
    shares = [float(weights[own].sum()) for own in groups]
    return replace(_take_turns(lists, shares, k=query.k), note=blocks[0].note)


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


def _wide(neighbours: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Fill up with -1 to k columns, so that blocks can be stacked."""
    filled = np.full((len(neighbours), k), -1, dtype=np.int64)
    filled[:, : neighbours.shape[1]] = neighbours
    return filled


def _worth(
    near: NDArray[np.int64],
    seeds: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    heard: sparse.csr_matrix | None,
    n: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum what the seeds of one taste give each item, (n,), and say which gave it most, (n,)."""
    falling = NEARNESS / (EVEN + 1 + np.arange(near.shape[1]))
    total, most = np.zeros(n), np.zeros(n)
    giver = np.full(n, -1, dtype=np.int64)
    for seed, weight, neighbours in zip(seeds, weights, near, strict=True):
        there = neighbours >= 0
        part = np.zeros(n)
        part[neighbours[there]] = falling[there]
        if heard is not None:
            part += (heard @ heard[[seed]].T).toarray().ravel()
        part *= weight
        total += part
        giver = np.where(part > most, seed, giver)
        most = np.maximum(part, most)
    return total, giver


def _best(
    total: NDArray[np.float64],
    giver: NDArray[np.int64],
    *,
    allowed: NDArray[np.bool_],
    k: int,
) -> list[tuple[float, int, int]]:
    """Order what is worth anything and allowed: score, item, the seed that gave most.

    Twice as many as wanted and more: other tastes may take some, and caps others.
    """
    there = np.flatnonzero(allowed & (total > 0))
    best = there[np.lexsort((there, -total[there]))][: 4 * k]
    return list(zip(total[best].tolist(), best.tolist(), giver[best].tolist(), strict=True))


def _capped(
    answers: list[tuple[float, int, int]], *, query: Query, attributes: Attributes
) -> list[tuple[float, int, int]]:
    """Take out what an artist or album has too much of."""
    if not query.caps or not answers:
        return answers
    items = np.array([[item for _, item, _ in answers]], dtype=np.int64)
    scores = np.array([[score for score, _, _ in answers]], dtype=np.float32)
    staying = filters.cap(TopK(np.array([-1]), items, scores, scores), query, attributes)[0]
    return [x for x, stays in zip(answers, staying, strict=True) if stays]


def _take_turns(
    lists: Sequence[list[tuple[float, int, int]]], shares: Sequence[float], *, k: int
) -> Recommended:
    taken: dict[int, tuple[float, int, int]] = {}
    turns, waiting = [0] * len(lists), [iter(x) for x in lists]
    open_ones = set(range(len(lists)))
    while len(taken) < k and open_ones:
        turn = max(open_ones, key=lambda x: (shares[x] / (2 * turns[x] + 1), -x))
        answer = next((x for x in waiting[turn] if x[1] not in taken), None)
        if answer is None:
            open_ones.remove(turn)
            continue
        taken[answer[1]] = (answer[0], answer[2], turn)
        turns[turn] += 1
    rows = np.array(list(taken), dtype=np.int64)
    scores = np.array([x for x, _, _ in taken.values()], dtype=np.float64)
    seeds = np.array([x for _, x, _ in taken.values()], dtype=np.int64)
    tastes = np.array([x for _, _, x in taken.values()], dtype=np.int64)
    return Recommended(rows, scores, seeds, tastes)
