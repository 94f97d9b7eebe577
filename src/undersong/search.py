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

from undersong import evidence_file
from undersong import ranker as ranker_file
from undersong.catalogue.tables import Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError, UnknownItem, nearest_known
from undersong.evidence import Evidence
from undersong.files import replacing
from undersong.progress import Progress, silent
from undersong.ranker import Ranker, answer
from undersong.runs import Run

BLOCK = 256
RANKER, EVIDENCE = "weights/ranking.safetensors", "evidence.safetensors"


@dataclass(frozen=True)
class Index:
    """What answers are found with: the embedding, and what orders them if that was learned.

    Parameters
    ----------
    embeddings : E_G of every item about which something is known
        Zeros where that is relations alone, which only a learned order can use.
    ranker, evidence : the learned order, of the same items; None for the cosine of E_G alone
    long_tail : in [0, 1], how far to forget what relations tell (``ranker.answer``)
    """

    embeddings: Embeddings
    ranker: Ranker | None = None
    evidence: Evidence | None = None
    long_tail: float = 0.0


@dataclass(frozen=True)
class Block:
    """Answers of some queries: rows (q,), neighbours (q, k) rows, scores and confidence (q, k).

    Best first. Where fewer than k are left the neighbour is -1. Confidence is NaN without a
    learned order.
    """

    rows: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    scores: NDArray[np.float32]
    confidence: NDArray[np.float32]


def open_index(run: Run, kind: Kind, *, paper: bool = False, long_tail: float = 0.0) -> Index:
    """Open what a run answers with.

    Parameters
    ----------
    paper : whether to answer by the cosine of E_G alone, as the paper does
    long_tail : in [0, 1]; see ``ranker.answer``

    Raises
    ------
    DataError
        If the run holds no such items, or ``long_tail`` is asked of a run without a learned order.
    """
    if not run.has_embeddings(kind, "general"):
        raise DataError(f"{run.folder} holds no {kind}s; train on a catalogue that has them")
    embeddings = run.embeddings(kind, "general")
    learned = run.has(RANKER) and run.manifest["kind"] == kind and not paper
    if long_tail and not learned:
        raise DataError(
            f"the dial long_tail is {long_tail:g}, but {run.folder} orders {kind}s by cosine"
            + (" with --paper" if paper else ": no order was learned that beats it")
            + "; leave the dial out"
        )
    if not learned:
        return Index(embeddings)
    ranker = ranker_file.read(run.file(RANKER))
    rows = run.items(kind).select("id", "relations").iter_rows()
    ids = tuple(item for item, relations in rows if relations or item in embeddings.index)
    embeddings = Embeddings(ids, embeddings.align(ids)[0])
    known = evidence_file.read(run.file(EVIDENCE), embeddings.vectors)
    return Index(embeddings, ranker, known, long_tail)


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
    """One answer: rank from 1, what it is, how sure, and how many relations are known of it.

    ``score`` orders the answers: the cosine, or the number that the learned order gives.
    ``confidence`` is the chance that somebody who knows both would call them similar, in [0, 1],
    calibrated on validation items; None for the cosine, which is no chance.
    """

    rank: int
    item: str
    name: str
    about: str
    score: float
    confidence: float | None
    relations: int


def similar(
    index: Index, items: pl.DataFrame, query: str, *, k: int
) -> tuple[Match, tuple[Neighbour, ...]]:
    """Find what a query means and list the k items most similar to it, best first.

    Raises
    ------
    UnknownItem
        If no item fits the query.
    DataError
        If nothing but its name is known of the item, so that it has no embedding.
    """
    match, embeddings = find(items, query), index.embeddings
    if match.id not in embeddings.index:
        raise DataError(
            f"nothing is known about {match.name!r} ({match.id}) but its name: no audio, plays or "
            "metadata; add some to the catalogue and train again"
        )
    row = np.array([embeddings.index[match.id]])
    found = next(nearest(index, row, among=np.arange(len(embeddings.ids)), k=k))
    known = {x: rest for x, *rest in items.select("id", "name", "about", "relations").iter_rows()}
    answers = []
    listed = zip(found.neighbours[0], found.scores[0], found.confidence[0], strict=True)
    for rank, (other, score, sure) in enumerate(listed, start=1):
        if other < 0:
            break
        item = embeddings.ids[other]
        name, about, relations = known[item]
        confidence = None if np.isnan(sure) else round(float(sure), 4)
        answers.append(
            Neighbour(rank, item, name, about, round(float(score), 4), confidence, relations)
        )
    return match, tuple(answers)


def text(match: Match, neighbours: Sequence[Neighbour]) -> str:
    """Show an answer in the terminal: rank, confidence, name, id, and who is long tail.

    In place of the confidence the cosine, where no order was learned.
    """
    known = f"{match.relations} known relations" if match.relations else "no relation is known"
    lines = [f"{match.name} ({match.id}): {f'{match.about}; ' if match.about else ''}{known}"]
    width = max((len(f"{one.name} ({one.item})") for one in neighbours), default=0)
    for one in neighbours:
        name = f"{one.name} ({one.item})"
        tail = "" if one.relations else "  long tail"
        sure = f"{one.score:6.3f}" if one.confidence is None else f"{one.confidence:6.0%}"
        lines.append(f"{one.rank:4}  {sure}  {name:<{width}}  {one.about}{tail}".rstrip())
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
    index: Index, queries: NDArray[np.int64], *, among: NDArray[np.int64], k: int
) -> Iterator[Block]:
    """List the k best of ``among`` for each query, exactly, in blocks of queries.

    With a learned order its score, else the cosine, says what is best; of equal scores the
    earlier row. The query itself is left out.

    Parameters
    ----------
    queries, among : rows of ``index.embeddings``
    """
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        if index.ranker is not None and index.evidence is not None:
            yield _ranked(index, index.ranker, index.evidence, rows, among=among, k=k)
        else:
            yield _by_cosine(index.embeddings, rows, among=among, k=k)


def _by_cosine(
    embeddings: Embeddings, rows: NDArray[np.int64], *, among: NDArray[np.int64], k: int
) -> Block:
    scores = embeddings.vectors[rows] @ embeddings.vectors[among].T
    scores[rows[:, None] == among[None, :]] = -np.inf
    best = _best(scores, min(k, len(among)))
    found = np.take_along_axis(scores, best, axis=1)
    neighbours = np.where(np.isfinite(found), among[best], -1)
    return Block(rows, neighbours, found, np.full_like(found, np.nan))


def _ranked(
    index: Index,
    ranker: Ranker,
    evidence: Evidence,
    rows: NDArray[np.int64],
    *,
    among: NDArray[np.int64],
    k: int,
) -> Block:
    allowed = np.zeros(len(index.embeddings.ids), dtype=bool)
    allowed[among] = True
    count = max(ranker.candidates, k)
    found = answer(ranker, evidence, rows, among=allowed, long_tail=index.long_tail, count=count)
    width = min(k, found.candidates.shape[1])
    return Block(
        rows, found.candidates[:, :width], found.scores[:, :width], found.confidence[:, :width]
    )


def write_neighbours(
    index: Index,
    out: Path,
    *,
    queries: NDArray[np.int64],
    among: NDArray[np.int64],
    k: int,
    progress: Progress = silent,
) -> int:
    """Write the answers of many items as one table: item, rank from 1, neighbour, score.

    With a learned order there is also a column confidence. Each block goes to a file of its own
    and they are joined by streaming, so memory is bounded by a block. Returns the number of rows.
    ``out`` appears whole or not at all.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for 1 neighbour or more")
    ids = np.array(index.embeddings.ids, dtype=object)
    out.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with tempfile.TemporaryDirectory(prefix=".neighbours-", dir=out.parent) as folder:
        for number, block in enumerate(nearest(index, queries, among=among, k=k)):
            table = _table(ids, block)
            if index.ranker is None:
                table = table.drop("confidence")
            table.write_parquet(Path(folder) / f"{number:08}.parquet")
            done += len(block.rows)
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


def _table(ids: NDArray[np.object_], block: Block) -> pl.DataFrame:
    kept = block.neighbours >= 0
    rank = np.broadcast_to(np.arange(1, kept.shape[1] + 1, dtype=np.int32), kept.shape)
    return pl.DataFrame(
        {
            "item": pl.Series(ids[np.repeat(block.rows, kept.sum(axis=1))], dtype=pl.String),
            "rank": rank[kept],
            "neighbour": pl.Series(ids[block.neighbours[kept]], dtype=pl.String),
            "score": block.scores[kept],
            "confidence": block.confidence[kept],
        }
    )
