"""Answers: which item was meant, and what is nearest to it. No torch needed."""

import difflib
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong.embeddings import Embeddings
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.files import replacing
from undersong.progress import Progress, silent

BLOCK = 512


@dataclass(frozen=True)
class Match:
    """The item that a query was taken for, and the others it could have meant."""

    id: str
    name: str
    about: str
    relations: int
    others: tuple[str, ...]


def fold(text: str) -> str:
    """Reduce a name to what people type: no accents, no case, no punctuation, single spaces."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() else " " for c in bare.casefold()).split()
    return " ".join(words) or text.casefold().strip()


def find(items: pl.DataFrame, query: str) -> Match:
    """Find the item that an id or a name means.

    An exact id wins, then the exact name, then the name without regard to accents, case and
    punctuation; of several the one with the highest popularity, then the most relations. The
    others are named in the answer.

    Parameters
    ----------
    items : table of id, name, about, relations, popularity

    Raises
    ------
    UnknownItem
        If nothing fits, with the names that look most like the query.
    """
    names, ids = items["name"].to_list(), items["id"].to_list()
    folded = fold(query)
    same = [row for row, item in enumerate(ids) if item == query]
    same = same or [row for row, name in enumerate(names) if name == query]
    keys = [fold(name) for name in names] if not same else []
    same = same or [row for row, key in enumerate(keys) if key == folded]
    if not same:
        near = difflib.get_close_matches(folded, keys, n=3, cutoff=0.6)
        likely = [names[keys.index(key)] for key in near]
        hint = f"did you mean {', '.join(map(repr, likely))}?" if likely else "no name is like it"
        raise UnknownItem(f"no item {query!r} among {len(ids)}; {hint}")
    popularity, relations = items["popularity"].to_list(), items["relations"].to_list()
    same.sort(key=lambda row: (popularity[row] is None, -(popularity[row] or 0), -relations[row]))
    taken, *others = same
    also = tuple(ids[row] for row in others)
    return Match(ids[taken], names[taken], items["about"][taken], relations[taken], also)


@dataclass(frozen=True)
class Neighbour:
    """One answer: rank from 1, what it is, cosine, and how many relations are known of it."""

    rank: int
    item: str
    name: str
    about: str
    score: float
    relations: int


def similar(
    embeddings: Embeddings, items: pl.DataFrame, query: str, *, k: int
) -> tuple[Match, tuple[Neighbour, ...]]:
    """Find what a query means and list the k items most similar to it, best first.

    Raises
    ------
    UnknownItem
        If no item fits the query.
    DataError
        If nothing but its name is known of the item, so that it has no embedding.
    """
    match = find(items, query)
    if match.id not in embeddings.index:
        raise DataError(
            f"nothing is known about {match.name!r} ({match.id}) but its name: no audio, plays or "
            "metadata; add some to the catalogue and train again"
        )
    row = np.array([embeddings.index[match.id]])
    everything = np.arange(len(embeddings.ids))
    _, rows, scores = next(nearest(embeddings, row, among=everything, k=k))
    known = {x: rest for x, *rest in items.select("id", "name", "about", "relations").iter_rows()}
    found = [
        (rank, embeddings.ids[other], round(float(score), 4))
        for rank, (other, score) in enumerate(zip(rows[0], scores[0], strict=True), start=1)
        if other >= 0
    ]
    answers = []
    for rank, item, score in found:
        name, about, relations = known[item]
        answers.append(Neighbour(rank, item, name, about, score, relations))
    return match, tuple(answers)


def text(match: Match, neighbours: Sequence[Neighbour]) -> str:
    """Show an answer in the terminal: rank, cosine, name, id, and who is long tail."""
    known = f"{match.relations} known relations" if match.relations else "no relation is known"
    lines = [f"{match.name} ({match.id}): {f'{match.about}; ' if match.about else ''}{known}"]
    width = max((len(f"{one.name} ({one.item})") for one in neighbours), default=0)
    for one in neighbours:
        name = f"{one.name} ({one.item})"
        tail = "" if one.relations else "  long tail"
        lines.append(f"{one.rank:4}  {one.score:6.3f}  {name:<{width}}  {one.about}{tail}".rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Selection:
    """Rows of the items that were asked for, and how many of them have no embedding."""

    rows: NDArray[np.int64]
    without: int


def select(embeddings: Embeddings, items: pl.DataFrame, ids: Sequence[str] | None) -> Selection:
    """Find the rows of some items, in their order, each once; of all items without ``ids``.

    An item that is known but has no embedding, since nothing but its name is known, is counted.

    Raises
    ------
    UnknownItem
        For ids that are not in the table ``items``, with the first of them and their number.
    """
    asked = list(dict.fromkeys(items["id"].to_list() if ids is None else ids))
    known = set(items["id"])
    strange = [item for item in asked if item not in known]
    if strange:
        near = nearest_known(strange[0], known)
        raise UnknownItem(
            f"{len(strange)} of {len(asked)} ids are not in the catalogue, first {strange[0]!r}; "
            f"{near}"
        )
    rows = [embeddings.index[item] for item in asked if item in embeddings.index]
    return Selection(np.array(rows, dtype=np.int64), len(asked) - len(rows))


def read_ids(path: Path) -> list[str]:
    """Read ids from a file: one a line, or the column ``id`` of a CSV or Parquet table.

    Raises
    ------
    DataError
        If the file cannot be read, has no such column, or holds no id.
    """
    try:
        if path.suffix == ".parquet":
            ids = _column(path, pl.read_parquet(path))
        elif path.suffix == ".csv":
            ids = _column(path, pl.read_csv(path, infer_schema=False))
        else:
            ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} cannot be read as a list of ids: {error}") from error
    given = [item for item in ids if item]
    if not given:
        raise DataError(f"{path} holds no id; write one a line")
    return given


def _column(path: Path, table: pl.DataFrame) -> list[str]:
    if "id" not in table.columns:
        raise DataError(f"{path} has no column 'id'; it has {', '.join(table.columns)}")
    return table["id"].cast(pl.String).drop_nulls().to_list()


def nearest(
    embeddings: Embeddings, queries: NDArray[np.int64], *, among: NDArray[np.int64], k: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """List the k nearest of ``among`` to each query, exactly, in blocks of queries.

    Parameters
    ----------
    embeddings : unit vectors
    queries, among : rows of ``embeddings``

    Yields
    ------
    rows (q,), neighbours (q, k) rows, scores (q, k) cosine
        Best first; of equal scores the earlier row first. The query itself is left out; where
        fewer than k are left the neighbour is -1.
    """
    candidates = embeddings.vectors[among]
    width = min(k, len(among))
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        scores = embeddings.vectors[rows] @ candidates.T
        scores[rows[:, None] == among[None, :]] = -np.inf
        best = _best(scores, width)
        found = np.take_along_axis(scores, best, axis=1)
        yield rows, np.where(np.isfinite(found), among[best], -1), found


def write_neighbours(
    embeddings: Embeddings,
    out: Path,
    *,
    queries: NDArray[np.int64],
    among: NDArray[np.int64],
    k: int,
    progress: Progress = silent,
) -> int:
    """Write the answers of many items as one table: item, rank from 1, neighbour, score.

    Each block goes to a file of its own and they are joined by streaming, so memory is bounded
    by a block. Returns the number of rows. ``out`` appears whole or not at all.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for 1 neighbour or more")
    ids = np.array(embeddings.ids, dtype=object)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with tempfile.TemporaryDirectory(prefix=".neighbours-", dir=out.parent) as folder:
        for block, found in enumerate(nearest(embeddings, queries, among=among, k=k)):
            table = _table(ids, *found)
            table.write_parquet(Path(folder) / f"{block:08}.parquet")
            done += len(found[0])
            progress("neighbours", done, len(queries))
        with replacing(out) as temporary:
            blocks = pl.scan_parquet(Path(folder) / "*.parquet")
            blocks.sink_parquet(temporary)
            return int(pl.scan_parquet(temporary).select(pl.len()).collect().item())


def _best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k highest of each row, best first, ties by column."""
    if k < scores.shape[1]:
        best = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        best = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1).astype(np.int64)


def _table(
    ids: NDArray[np.object_],
    rows: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> pl.DataFrame:
    kept = neighbours >= 0
    rank = np.broadcast_to(np.arange(1, neighbours.shape[1] + 1, dtype=np.int32), kept.shape)
    return pl.DataFrame(
        {
            "item": pl.Series(ids[np.repeat(rows, kept.sum(axis=1))], dtype=pl.String),
            "rank": rank[kept],
            "neighbour": pl.Series(ids[neighbours[kept]], dtype=pl.String),
            "score": scores[kept],
        }
    )
