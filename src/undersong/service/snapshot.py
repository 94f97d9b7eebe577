"""One generation: what the service answers with, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import orjson
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue import KINDS, Attributes, Kind, fold
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, UnknownItem
from undersong.explanation import data as background_file
from undersong.explanation.data import Background
from undersong.foldin import encoders as hearing
from undersong.foldin.encoders import Encoders, open_encoders
from undersong.report import report_files
from undersong.retrieval import (
    Index,
    Precomputed,
    attributes_of,
    graph,
    open_index,
    open_lists,
    projection,
)
from undersong.runs import Run


@dataclass(frozen=True, slots=True)
class Item:
    """What is said of an item wherever it is listed; long tail: no relation of it is known."""

    id: str
    kind: Kind
    name: str
    about: str
    relations: int
    popularity: float | None
    long_tail: bool


@dataclass(frozen=True)
class ItemIndex:
    """The items of one kind, and what answers about them are made from.

    Parameters
    ----------
    run : what is read from it later, by the first who asks for it or by ``warm``
    table : id, name, about, relations, popularity of every item, in the order of the catalogue
    ids : those about which more than the name is known, in the order of the index
    lists : the first answers of each of these; None where they were not computed
    """

    kind: Kind
    run: Run
    table: pl.DataFrame
    ids: tuple[str, ...]
    lists: Precomputed | None

    @cached_property
    def index(self) -> Index | None:
        """What finds answers that are in no list; None where nothing but names is known."""
        if not self.ids:
            return None
        return replace(open_index(self.run, self.kind), lists=self.lists)

    @cached_property
    def row(self) -> dict[str, int]:
        """Row in the index of each id."""
        return {item: row for row, item in enumerate(self.ids)}

    @cached_property
    def facts(self) -> Attributes | None:
        """Facts in the order of the index; None for a run from before there were facts."""
        return attributes_of(self.run, self.kind, self.index.embeddings.ids) if self.index else None

    @cached_property
    def background(self) -> Background | None:
        """What reasons are told from; None where the run has none for this kind."""
        if self.run.manifest["kind"] != self.kind or not self.run.has(background_file.ITEMS):
            return None
        return background_file.read(self.run, self.kind)

    @cached_property
    def places(self) -> pl.DataFrame | None:
        """The map: id, x, y; None before `undersong publish` has drawn it."""
        if not self.run.has(projection.FILE):
            return None
        everywhere = pl.read_parquet(self.run.file(projection.FILE))
        return everywhere.filter(pl.col("kind") == self.kind).select("id", "x", "y")

    @cached_property
    def labels(self) -> pl.DataFrame | None:
        """Regions of the map: genre, x, y."""
        if not self.run.has(projection.FILE):
            return None
        return pl.read_parquet(self.run.file(projection.REGIONS_FILE))

    def item(self, place: int) -> Item:
        """Say what stands in a row of the table."""
        item, name, about, relations, popularity = self.table.row(place)
        return Item(item, self.kind, name, about, relations, popularity, not relations)

    @cached_property
    def place(self) -> dict[str, int]:
        """Row in the table of each id."""
        return {item: row for row, item in enumerate(self.table["id"])}

    @cached_property
    def place_of_row(self) -> NDArray[np.int64]:
        """Row in the table of each row of the index."""
        return np.array([self.place[x] for x in self.ids], dtype=np.int64)

    @cached_property
    def folded(self) -> pl.Series:
        """Names as ``names.fold`` leaves them, in the order of the table."""
        return pl.Series([fold(x) for x in self.table["name"]], dtype=pl.String)

    @cached_property
    def by_folded(self) -> dict[str, list[int]]:
        """Rows of each folded name."""
        return _rows(self.folded)

    @cached_property
    def by_mbid(self) -> dict[str, list[int]]:
        """Rows of the table of each MusicBrainz id."""
        if self.facts is None or "mbid" not in self.facts.table.columns:
            return {}
        known = self.facts.table.select("mbid", place=pl.Series(self.place_of_row)).drop_nulls()
        found: dict[str, list[int]] = {}
        for mbid, place in known.iter_rows():
            found.setdefault(mbid.lower(), []).append(place)
        return found

    @cached_property
    def fame(self) -> NDArray[np.int64]:
        """Position of each row among all, the best known first: popularity, then relations."""
        order = self.table.with_row_index("row").sort(
            ["popularity", "relations"], descending=True, nulls_last=True, maintain_order=True
        )["row"]
        found = np.empty(len(order), dtype=np.int64)
        found[order.to_numpy()] = np.arange(len(order))
        return found

    @cached_property
    def without_vector(self) -> frozenset[str]:
        """Ids of indexed items that have relations and nothing else: the cosine ignores them."""
        if self.index is None:
            return frozenset()
        vectors, ids = self.index.embeddings.vectors, self.index.embeddings.ids
        return frozenset(ids[x] for x in np.flatnonzero(~vectors.any(axis=1)))

    @cached_property
    def links(self) -> scipy.sparse.csr_matrix:
        """Steps of chains (``retrieval.paths.graph``)."""
        if self.index is None:
            return scipy.sparse.csr_matrix((0, 0))
        return graph(self.index)

    @cached_property
    def position(self) -> NDArray[np.floating]:
        """Place on the map of each row of the table, (n, 2); NaN where it has none."""
        if self.places is None:
            return np.full((len(self.table), 2), np.nan)
        asked = self.table.select("id")
        found = asked.join(self.places, on="id", how="left", maintain_order="left")
        return found.select("x", "y").to_numpy()


@dataclass(frozen=True)
class Snapshot:
    """One generation. Who is similar is in memory once it is opened, the rest once it is warm.

    Parameters
    ----------
    run : where it is read from; its files may be gone after it was warmed
    kinds : artists and tracks, those that the run has
    pictures : maps that were asked for, as replies (``service.picture``)
    """

    run: Run
    kinds: dict[Kind, ItemIndex]
    pictures: dict[Kind, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """Number of the generation."""
        return int(self.run.generation)

    @property
    def kind(self) -> Kind:
        """The kind of item that the run was trained for."""
        found: Kind = self.run.manifest["kind"]
        return found

    @cached_property
    def report(self) -> bytes | None:
        """``report.json`` with the generation, and how often confident answers were right.

        None where the run was not evaluated.
        """
        place = report_files.path_of(self.run)
        if place is None:
            return None
        # Rows of (mean confidence, share that was right, answers); none without a learned order.
        reliability = (self.run.manifest.get("ranking") or {}).get("reliability", [])
        said = {"generation": self.generation, **orjson.loads(place.read_bytes())}
        return orjson.dumps({**said, "reliability": reliability})

    @cached_property
    def hindrance(self) -> str | None:
        """What keeps files from being heard, in a sentence; None where nothing does."""
        return hearing.hindrance(self.run)

    @cached_property
    def encoders(self) -> Encoders:
        """What embeds a sound (``encoders.opening.open_encoders``)."""
        return open_encoders(self.run)

    @cached_property
    def content(self) -> dict[Kind, Embeddings]:
        """E_C of the items that were heard."""
        heard = [x for x in self.kinds if self.run.has_embeddings(x, "content")]
        return {kind: self.run.embeddings(kind, "content") for kind in heard}

    def of(self, kind: Kind) -> ItemIndex:
        """Items of one kind.

        Raises
        ------
        UnknownItem
            If the run has none.
        """
        if kind not in self.kinds:
            raise UnknownItem(
                f"this catalogue holds no {kind}s; ask for {' or '.join(self.kinds)}s"
            )
        return self.kinds[kind]


def open_answers(run: Run) -> Snapshot:
    """Read what a generation answers with at once: who is similar, by id.

    Raises
    ------
    ArtifactError
        If a file is damaged, or the run holds no item.
    """
    tables = {kind: run.items(kind) for kind in KINDS}
    kinds = {x: _open_items(run, x, table) for x, table in tables.items() if len(table)}
    if not kinds:
        raise ArtifactError(f"{run.home} holds no items; train again with `undersong train`")
    return Snapshot(run, kinds)


def warm(answers: Snapshot) -> None:
    """Read all else into memory, but for what hears uploads, which few ever need.

    Raises
    ------
    ArtifactError
        If a file is damaged.
    """
    _ = answers.report, answers.hindrance
    for items in answers.kinds.values():
        _ = items.index, items.facts, items.labels, items.position
        _ = items.by_folded, items.by_mbid, items.fame
        if items.background is not None:
            known = items.background
            _ = known.index, known.words, known.tags, known.having, known.sources, known.place


def _open_items(run: Run, kind: Kind, table: pl.DataFrame) -> ItemIndex:
    columns = table.select(
        "id",
        "name",
        pl.col("about").fill_null(""),
        pl.col("relations").fill_null(0),
        "popularity",
    )
    ids, lists = open_lists(run, kind)
    return ItemIndex(kind, run, columns, ids, lists)


def _rows(words: pl.Series) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        found.setdefault(word, []).append(row)
    return found
