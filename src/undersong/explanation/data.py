"""What reasons are made from, kept with the run so that no catalogue is needed.

RUN/generations/N/reasons/items.parquet, one row an item of the run's kind, as in the catalogue:

    id         str
    sources    list of str, the groups of sources that say something of it
    tags       list of str, lower case, of every category and tag field with words that models read
    listeners  list of int, numbers of the users who played it, ascending
    related    list of int, rows of its known relations, ascending
    said_by    list of str, the source of each of these, such as "editors, fans"
    tracks     list of str, ids of the tracks of an artist that have an E_C

RUN/generations/N/reasons/without.npy, (n, g, d) float16: E_G of the n items that have one, in the
order of the embedding, had nothing of group g been known; zeros where nothing would be left.

RUN/generations/N/reasons/first.npy, where an order was learned: the effects behind the first
answers of every item (``undersong.explanation.explain``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy  # its sparse matrices are loaded where one is made
from numpy.typing import NDArray

from undersong.catalogue import Catalogue, Field, Kind, numbered, rows_of
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError
from undersong.features import Modality
from undersong.io.files import check_format
from undersong.io.table_files import read_metadata, read_table, write_table
from undersong.io.tensors import map_array
from undersong.processors import computed_once
from undersong.progress import Progress, silent, watched
from undersong.runs import Run

ITEMS, WITHOUT, FIRST = "reasons/items.parquet", "reasons/without.npy", "reasons/first.npy"
FORMAT = 1
AUDIO, LISTENERS, TAGS = "audio", "listeners", "genres and tags"
RELATIONS = "relations"
OF_THEMSELVES = (AUDIO, LISTENERS, TAGS, RELATIONS)  # no field is mistaken for one of these
BLOCK = 32_768  # items whose lists are made at a time
UNNAMED = "a source without a name"
_KEY = "undersong.reasons"
_LISTS = ("sources", "tags", "listeners", "related", "said_by", "tracks")


@dataclass(frozen=True)
class SharedThings:
    """One list an item, end to end: ``values[starts[row] : starts[row + 1]]``."""

    starts: NDArray[np.int64]
    values: NDArray[Any]

    def of(self, row: int) -> NDArray[Any]:
        """Return the list of one item."""
        return self.values[self.starts[row] : self.starts[row + 1]]

    def length(self, row: int) -> int:
        """Return the length of the list of one item."""
        return int(self.starts[row + 1] - self.starts[row])


@dataclass(frozen=True)
class Background:
    """What is known of n items, and of the embedding what remains without each source.

    Parameters
    ----------
    groups : names of the g groups of sources, with the sources in each
    without : (e, g, d) float16 in the file, read where it is needed
    table : (n,) rows as in the module's docstring
    tracks : E_C of tracks; None where nothing was heard
    names : (n,) what people call each item
    titles : the same of each track
    first : what ``explaining.first`` computed; None without a learned order
    """

    groups: dict[str, tuple[str, ...]]
    without: NDArray[np.float16]
    table: pl.DataFrame
    tracks: Embeddings | None
    names: tuple[str, ...]
    titles: dict[str, str]
    first: NDArray[np.void] | None = None

    @computed_once
    def ids(self) -> tuple[str, ...]:
        """Id of each row."""
        return tuple(self.table["id"])

    @computed_once
    def index(self) -> dict[str, int]:
        """Row of each id."""
        return {item: row for row, item in enumerate(self.ids)}

    @computed_once
    def known_of(self) -> NDArray[np.bool_]:
        """Whether anything of each group is known of each item, (n, g)."""
        columns = [self.table["sources"].list.contains(name).to_numpy() for name in self.groups]
        return np.stack(columns, axis=1)

    @computed_once
    def place(self) -> NDArray[np.int64]:
        """Row in ``without`` of each item, (n,); -1 for those without E_G."""
        embedded = self.known_of.any(axis=1)
        return np.where(embedded, np.cumsum(embedded) - 1, -1)

    def informed(self, a: int, b: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether anything of each group is known of either item of p pairs of rows, (p, g)."""
        return np.asarray(self.known_of[a] | self.known_of[b])

    def compare(
        self, a: int, b: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cosines of p pairs without each group, (p, g), and who has no E_G left, (p, g, 2)."""
        rows = self.place[np.append(b, a)]
        left = np.zeros((len(rows), *self.without.shape[1:]), dtype=np.float32)
        left[rows >= 0] = self.without[rows[rows >= 0]]
        gone = np.all(left == 0, axis=2)
        bare = np.stack([np.broadcast_to(gone[-1], gone[:-1].shape), gone[:-1]], axis=2)
        return np.einsum("pgd,gd->pg", left[:-1], left[-1]), bare

    @computed_once
    def words(self) -> tuple[str, ...]:
        """Every tag, in order."""
        return tuple(self.table["tags"].explode().drop_nulls().unique().sort())

    @computed_once
    def tags(self) -> SharedThings:
        """Numbers in ``words`` of the tags of each item."""
        tags = self.table["tags"].cast(pl.List(pl.Enum(self.words)))
        codes = tags.explode().drop_nulls().to_physical().to_numpy()
        return SharedThings(_starts(self.table["tags"]), codes.astype(np.int64))

    @computed_once
    def having(self) -> NDArray[np.int64]:
        """How many items have each tag."""
        return np.bincount(self.tags.values, minlength=len(self.words))

    @computed_once
    def listeners(self) -> SharedThings:
        """Users who played each item."""
        return _lists(self.table["listeners"])

    @computed_once
    def related(self) -> SharedThings:
        """Rows of the known relations of each item."""
        return _lists(self.table["related"])

    def stated_by(self, a: int, b: int) -> str | None:
        """Return who says that two rows are related; None if nobody does."""
        stated = self.table["said_by"][a].gather(np.flatnonzero(self.related.of(a) == b))
        return str(stated[0]) if len(stated) else None

    @computed_once
    def tracks_of(self) -> SharedThings:
        """Rows in ``tracks`` of the tracks of each item."""
        rows = self.tracks.index if self.tracks else {}
        ids = self.table["tracks"].explode().drop_nulls()
        numbers = np.array([rows[x] for x in ids], dtype=np.int64)
        return SharedThings(_starts(self.table["tracks"]), numbers)


def groups_of(sources: Sequence[str], fields: Sequence[Field]) -> dict[str, tuple[str, ...]]:
    """Name the groups that reasons speak of, with the sources of each.

    E_C is audio, E_U listeners; fields of words other than the region go together, since they say
    much the same twice. Every other field stands for itself, under its role if it has one.
    """
    known = {x.name: x for x in fields}
    groups: dict[str, tuple[str, ...]] = {}
    for name in sources:
        if name in known:
            field = known[name]
            words = field.type != "number" and field.role in ("", "genre")
            group = TAGS if words else field.role or name
            group = f"field {group}" if group in OF_THEMSELVES and not words else group
        else:
            group = {"content": AUDIO, "interaction": LISTENERS}[name]
        groups[group] = (*groups.get(group, ()), name)
    return groups


def make(
    catalogue: Catalogue,
    kind: Kind,
    sources: Sequence[Modality],
    *,
    groups: dict[str, tuple[str, ...]],
    heard: Sequence[str],
    progress: Progress = silent,
) -> pl.DataFrame:
    """Gather what reasons are made from, a row an item; ``heard`` are ids of tracks with E_C.

    Lists are made of ``BLOCK`` items at a time: of a million items those in the making would take
    ten times as much memory as the table.
    """
    items = catalogue.items(kind)
    n = len(items)
    missing = {x.name: x.missing for x in sources}
    says = np.stack([~np.all([missing[x] for x in xs], axis=0) for xs in groups.values()], axis=1)
    names = np.array(list(groups), dtype=object)
    tracks = catalogue.tracks.filter(pl.col("id").is_in(list(heard))).group_by("artist")
    mine = tracks.agg(pl.col("id").alias("tracks")).rename({"artist": "id"})
    mine = items.select("id").join(mine, on="id", how="left", maintain_order="left")
    played, relations = _played(catalogue, kind, progress), _both_ways(catalogue, kind)
    blocks = []
    for start in watched(range(0, max(n, 1), BLOCK), progress, "what items share"):
        some = slice(start, start + BLOCK)
        known = [names[row].tolist() for row in says[some]]
        table = mine[some].with_row_index("row", offset=start)
        table = table.with_columns(pl.Series("sources", known, dtype=pl.List(pl.String)))
        tags, heard_by = _tags(items[some], groups, start), _listeners(played, start)
        for other in (tags, heard_by, _related(relations, start)):
            table = table.join(other, on="row", how="left", maintain_order="left")
        filled = (pl.col(x).fill_null(pl.lit([], table.schema[x])) for x in _LISTS)
        blocks.append(table.select("id", *filled))
    return pl.concat(blocks)


def write(path: Path, table: pl.DataFrame, groups: dict[str, tuple[str, ...]]) -> None:
    """Write what ``make`` gathered."""
    about = json.dumps({"format": FORMAT, "groups": groups})
    write_table(path, table, metadata={_KEY: about})


def open_background(run: Run, kind: Kind) -> Background | None:
    """Open what reasons are made from; None where the run has none for this kind."""
    there = run.manifest["kind"] == kind and run.has(ITEMS)
    return read_background(run, kind) if there else None


def read_background(run: Run, kind: Kind) -> Background:
    """Open what reasons are made from.

    Raises
    ------
    DataError
        If the run was trained on the other kind of item.
    ArtifactError
        If the run was published before there were reasons, or a file is damaged.
    """
    if run.manifest["kind"] != kind:
        raise DataError(
            f"{run.folder} was trained on {run.manifest['kind']}s and can explain these alone; "
            f'train with kind = "{kind}" under [run] to explain {kind}s'
        )
    if not (run.has(ITEMS) and run.has(WITHOUT)):
        raise ArtifactError(
            f"{run.home} holds no {ITEMS}: it was published before answers had reasons; train "
            "again with `undersong train`"
        )
    path = run.file(ITEMS)
    about = json.loads(read_metadata(path, hint="train again").get(_KEY, "{}"))
    check_format(path, about.get("format"), FORMAT, hint="train again")
    table = read_table(path, hint="train again")
    # A number each, where most of a million relations come from a few sources.
    table = table.with_columns(pl.col("said_by").cast(pl.List(pl.Categorical)))
    without = map_array(run.file(WITHOUT), hint="train again")
    first = map_array(run.file(FIRST), hint="train again") if run.has(FIRST) else None
    names = dict(run.items(kind).select("id", "name").iter_rows())
    tracks, titles = None, {}
    if kind == "artist" and run.has_embeddings("track", "content"):
        tracks = run.embeddings("track", "content")
        titles = dict(run.items("track").select("id", "name").iter_rows())
    groups = {name: tuple(xs) for name, xs in about["groups"].items()}
    background = Background(
        groups, without, table, tracks, tuple(names[x] for x in table["id"]), titles, first
    )
    if without.shape[:2] != (background.place.max(initial=-1) + 1, len(groups)):
        raise ArtifactError(
            f"{run.home / WITHOUT} is of shape {without.shape}, but {ITEMS} speaks of "
            f"{background.place.max(initial=-1) + 1} items and {len(groups)} sources; train again"
        )
    return background


def _tags(items: pl.DataFrame, groups: dict[str, tuple[str, ...]], start: int) -> pl.DataFrame:
    """Words of every field in the group of tags, each once, in lower case."""
    fields = [pl.col(x) for x in groups.get(TAGS, ()) if x in items.columns]
    if not fields:
        return pl.DataFrame(schema={"row": pl.UInt32, "tags": pl.List(pl.String)})
    tables = [items.select(x.alias("tags")).with_row_index("row", offset=start) for x in fields]
    lists = [x.explode("tags") if x.schema["tags"] == pl.List(pl.String) else x for x in tables]
    words = pl.concat(lists).drop_nulls().with_columns(pl.col("tags").str.to_lowercase())
    return words.unique(maintain_order=True).group_by("row").agg("tags")


def _played(catalogue: Catalogue, kind: Kind, progress: Progress) -> scipy.sparse.csr_matrix:
    """Whether each user played each item, (n, users) bool."""
    heard = numbered(catalogue, kind, progress=progress)
    cells = (np.ones(len(heard.item), dtype=bool), (heard.item, heard.user))
    shape = (len(catalogue.items(kind)), heard.users)
    return scipy.sparse.coo_matrix(cells, shape=shape).tocsr()


def _listeners(played: scipy.sparse.csr_matrix, start: int) -> pl.DataFrame:
    """Who plays each item of a block, as numbers of users, ascending."""
    some = played[start : start + BLOCK]
    row = np.arange(start, start + some.shape[0], dtype=np.uint32).repeat(np.diff(some.indptr))
    pairs = pl.DataFrame({"row": row, "listeners": some.indices.view(np.uint32)})
    return pairs.group_by("row", maintain_order=True).agg("listeners")


def _both_ways(catalogue: Catalogue, kind: Kind) -> pl.DataFrame:
    """Both ways of each relation, ascending: row, related, source."""
    ids, pairs = catalogue.items(kind)["id"], catalogue.pairs(kind)
    a, b = (rows_of(pairs[name], ids).astype(np.uint32) for name in ("a", "b"))
    source = pairs["source"].fill_null(UNNAMED)
    source = source.cast(pl.Enum(source.unique().sort()))  # a number each, not a text
    both = {"row": np.append(a, b), "related": np.append(b, a), "source": source.append(source)}
    return pl.DataFrame(both).sort("row", "related")


def _related(both: pl.DataFrame, start: int) -> pl.DataFrame:
    """Rows of the others that each item of a block is related to, ascending, and who says so."""
    ends = np.array([start, start + BLOCK], dtype=np.uint32)
    first, last = np.searchsorted(both["row"].to_numpy(), ends).tolist()
    both = both[first:last]
    stated_by = pl.col("source").unique().sort().cast(pl.String).str.join(", ").alias("said_by")
    each = both.group_by("row", "related", maintain_order=True).agg(stated_by)
    return each.group_by("row", maintain_order=True).agg("related", "said_by")


def _lists(column: pl.Series) -> SharedThings:
    return SharedThings(_starts(column), column.explode().drop_nulls().to_numpy())


def _starts(column: pl.Series) -> NDArray[np.int64]:
    return np.concatenate([[0], column.list.len().to_numpy().cumsum(dtype=np.int64)])
