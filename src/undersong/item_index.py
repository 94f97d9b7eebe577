"""The items of one kind of a run: what is similar, why, by which path, and in which playlists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong.catalogue import Attributes, Item, Kind, Names
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.explanation.data import Background, open_background
from undersong.explanation.explain import explain_pairs
from undersong.explanation.reasons import Reasons
from undersong.processors import computed_once
from undersong.progress import Progress, silent
from undersong.retrieval import (
    Index,
    ItemPath,
    Neighbour,
    Neighbours,
    PathStep,
    Precomputed,
    Query,
    Rules,
    Songs,
    attributes_of,
    fill,
    fuse,
    graph,
    has_learned_order,
    has_lists,
    nearer,
    open_graph,
    open_index,
    open_lists,
    read_map,
    read_regions,
    search,
    shortest_path,
)
from undersong.retrieval.seeds import Beginning
from undersong.runs import Run


@dataclass(frozen=True)
class ItemIndex:
    """The items of one kind of a run, and all that answers about them are made from."""

    kind: Kind
    run: Run
    progress: Progress = field(default=silent, compare=False)

    @computed_once
    def names(self) -> Names:
        """All items, in the order of the catalogue."""
        table = self.run.items(self.kind).select(
            "id",
            "name",
            pl.col("about").fill_null(""),
            pl.col("relations").fill_null(0),
            "popularity",
        )
        return Names(table, self.kind)

    @computed_once
    def _listed(self) -> tuple[tuple[str, ...], Precomputed | None]:
        return open_lists(self.run, self.kind)

    @computed_once
    def _has_lists(self) -> bool:
        return has_lists(self.run, self.kind)

    @property
    def learned(self) -> bool:
        """Whether answers are in a learned order; by the cosine of E_G else."""
        return has_learned_order(self.run, self.kind)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the items of which more than the name is known, in the order of the index."""
        return self._listed[0]

    @property
    def lists(self) -> Precomputed | None:
        """The first answers of each of ``ids``; None where they were not computed."""
        return self._listed[1]

    @computed_once
    def row(self) -> dict[str, int]:
        """Row in the index of each of ``ids``."""
        return {item: row for row, item in enumerate(self.ids)}

    @computed_once
    def name_rows(self) -> NDArray[np.int64]:
        """Row in ``names`` of each row of the index."""
        return np.array([self.names.row[x] for x in self.ids], dtype=np.int64)

    @computed_once
    def index(self) -> Index:
        """What finds answers that are in no list."""
        return open_index(self.run, self.kind)

    @computed_once
    def cosine_index(self) -> Index:
        """The same by the cosine of E_G alone; where ``index`` is open, over its vectors."""
        if "index" in vars(self):
            index = replace(self.index, ranker=None, evidence=None, lists=None)
        else:
            index = open_index(self.run, self.kind, paper=True)
        return self._with_links(index)

    @computed_once
    def graph_index(self) -> Index:
        """The same by the graph network behind GRM."""
        return self._with_links(open_graph(self.run, self.kind))

    def _with_links(self, index: Index) -> Index:
        rows = [self.names.row[x] for x in index.embeddings.ids]
        return replace(index, linked=self.names.table["relations"].to_numpy()[rows] > 0)

    @computed_once
    def without_vector(self) -> frozenset[str]:
        """Ids in ``cosine_index`` of which only relations are known: they have no cosine."""
        embeddings = self.cosine_index.embeddings
        if not self._shares_vectors or self.index.ranker is None:
            return frozenset()
        empty = np.flatnonzero(~embeddings.vectors.any(axis=1))
        return frozenset(embeddings.ids[x] for x in empty)

    @computed_once
    def attributes(self) -> Attributes | None:
        """What filters ask for, in the order of ``index``; None for a run from before filters."""
        ids = self.index.embeddings.ids if "index" in vars(self) else self.ids
        return attributes_of(self.run, self.kind, ids)

    @computed_once
    def cosine_attributes(self) -> Attributes | None:
        """The same in the order of ``cosine_index``."""
        if self._shares_vectors:
            return self.attributes
        return attributes_of(self.run, self.kind, self.cosine_index.embeddings.ids)

    @computed_once
    def graph_attributes(self) -> Attributes | None:
        """The same in the order of ``graph_index``."""
        return attributes_of(self.run, self.kind, self.graph_index.embeddings.ids)

    @computed_once
    def by_artist(self) -> dict[str, tuple[str, ...]]:
        """Ids of what each artist has, of which more than the name is known, best known first."""
        if self.attributes is None:
            return {}
        table = self.attributes.table.select("id", "artist", fame=self.names.fame[self.name_rows])
        own = table.drop_nulls().sort("fame").group_by("artist").agg("id")
        return {artist: tuple(ids) for artist, ids in own.iter_rows()}

    @property
    def _shares_vectors(self) -> bool:
        return "index" in vars(self) and self.index.embeddings is self.cosine_index.embeddings

    @computed_once
    def background(self) -> Background | None:
        """What reasons are made from; None where the run has none for this kind."""
        return open_background(self.run, self.kind)

    @computed_once
    def content(self) -> Embeddings | None:
        """E_C of the items whose sound is known; None where there are none."""
        there = self.run.has_embeddings(self.kind, "content")
        return self.run.embeddings(self.kind, "content") if there else None

    @computed_once
    def links(self) -> scipy.sparse.csr_matrix:
        """Steps of paths (``undersong.retrieval.neighbours.graph``)."""
        return graph(self.index, progress=self.progress)

    @computed_once
    def places(self) -> pl.DataFrame | None:
        """The map: id, x, y; None before `undersong publish` has drawn it."""
        return read_map(self.run, self.kind)

    @computed_once
    def regions(self) -> pl.DataFrame | None:
        """Regions of the map: genre, x, y, items; None before it is drawn."""
        return read_regions(self.run)

    @computed_once
    def positions(self) -> NDArray[np.floating]:
        """Place on the map of each row of ``names``, (n, 2); NaN where it has none."""
        if self.places is None:
            return np.full((len(self.names.table), 2), np.nan)
        ids = self.names.table.select("id")
        places = ids.join(self.places, on="id", how="left", maintain_order="left")
        return places.select("x", "y").to_numpy()

    @computed_once
    def by_mbid(self) -> dict[str, list[int]]:
        """Rows in ``names`` of each MusicBrainz id, in lower case."""
        rows: dict[str, list[int]] = {}
        if self.attributes is not None and "mbid" in self.attributes.table.columns:
            table = self.attributes.table.select("mbid", row=pl.Series(self.name_rows))
            for mbid, row in table.drop_nulls().iter_rows():
                rows.setdefault(mbid.lower(), []).append(row)
        return rows

    def with_mbid(self, mbid: str) -> tuple[Item, ...]:
        """Return all items with a MusicBrainz id, as their field ``mbid`` or their own id says."""
        row = self.names.row
        own = [row[x] for x in (mbid, mbid.lower()) if x in row][:1]
        return self.names.best_known(self.by_mbid.get(mbid.lower(), []) or own)

    def look_up(self, item: Item, query: Query) -> Neighbours | None:
        """Return the same as ``similar``, in microseconds, if it was computed before; else None."""
        k = query.k
        if not self._has_lists or query != Query(k=k):
            return None
        lists, row = self.lists, self.row.get(item.id)
        if lists is None or row is None or k > lists.rows.shape[1]:
            return None
        rows = lists.rows[row, :k]
        return self.neighbours(
            (item,),
            [self.ids[x] for x in rows[rows >= 0].tolist()],
            lists.scores[row, :k].tolist(),
            lists.confidence[row, :k].tolist(),
        )

    def unanswerable(self, item: Item, query: Query) -> str:
        """Return why nothing can be answered about an item, in a sentence; else nothing."""
        embedded = self.run.has_embeddings(self.kind, "general")
        if embedded and query.paper and item.id in self.without_vector:
            return f"of {item.name} only relations are known, no cosine"
        index = self.searched(query)[0] if embedded else None
        if index is not None and item.id in index.embeddings.index:
            return ""
        return (
            f"nothing is known about {item.name!r} ({item.id}) but its name: no audio, plays or "
            "metadata"
        )

    def similar(self, item: Item, query: Query) -> Neighbours:
        """Return what is similar to an item, best first; errors as ``Model.similar``."""
        if (listed := self.look_up(item, query)) is not None:
            return listed
        (row,) = self._rows([item], query)
        index, attributes, query = self.searched(query)
        block = next(search(index, np.array([row]), query=query, attributes=attributes))
        ids = [index.embeddings.ids[x] for x in block.neighbours[0] if x >= 0]
        scores, confidence = block.scores[0].tolist(), block.confidence[0].tolist()
        return self.neighbours((item,), ids, scores, confidence, note=block.note)

    def away_from(self, away: Sequence[str], seeds: Sequence[str], query: Query) -> Query:
        """Return a query that leaves out what is nearer to one of some ids than to any seed."""
        near = nearer(self.cosine_index.embeddings, seeds, away)
        return replace(query, exclude=query.exclude | near)

    def agreed(
        self,
        items: Sequence[Item],
        query: Query,
        others: Sequence[ItemIndex] = (),
        *,
        weights: Mapping[str, float] | None = None,
        seeds_too: bool = False,
    ) -> Neighbours:
        """Return what several items, or several runs, agree on (``undersong.retrieval.fusion``)."""
        self._rows(items, query)
        searched = [x.searched(query) for x in (self, *others)]
        fused = fuse(
            [index for index, _, _ in searched],
            [x.id for x in items],
            query=searched[0][2],
            attributes=[attributes for _, attributes, _ in searched],
            weights=weights,
            seeds_too=seeds_too,
        )
        return self.neighbours(
            tuple(dict.fromkeys(items)),
            fused.ids,
            fused.scores.tolist(),
            fused.confidence.tolist(),
            seeds=fused.seeds if len(items) > 1 else (),
            note=fused.note,
        )

    def near(self, vector: NDArray[np.float32], query: Query) -> Neighbours:
        """Return what is nearest to a unit vector, (d,), by the cosine of E_G."""
        index = replace(self.cosine_index, approximate=None, asking=vector)
        query = replace(query, exclude=query.exclude | self.without_vector)
        itself = np.array([-1])
        (block,) = search(index, itself, query=query, attributes=self.cosine_attributes)
        found = [index.embeddings.ids[x] for x in block.neighbours[0] if x >= 0]
        return self.neighbours((), found, block.scores[0].tolist(), note=block.note)

    def explain(self, item: Item, answers: Sequence[Item], query: Query) -> tuple[Reasons, ...]:
        """Return why each of some items is, or is not, an answer to one.

        Raises
        ------
        DataError
            As ``explanation.explain_pairs``, or if one is the item itself, or nothing but its
            name is known.
        """
        row, *others = self._rows([item, *answers], query)
        if row in others:
            raise DataError(f"{item.id!r} is not compared with itself; name two items")
        if self.background is None:
            raise DataError(f"this run has no reasons for {self.kind}s; train again to have them")
        if query.graph:
            raise DataError("reasons are of E_G, not of the graph network; leave graph out")
        index, _, query = self.searched(query)
        long_tail = query.long_tail or 0.0
        return explain_pairs(index, self.background, row, np.array(others), long_tail=long_tail)

    def path(self, start: Item, end: Item, *, steps: int | None = None) -> ItemPath:
        """Return the path between two items; errors as ``Model.path``."""
        rows = self._rows([start, end], Query())
        way = shortest_path(self.links, rows[0], rows[1], steps=steps)
        if not way.rows:
            longer = shortest_path(self.links, rows[0], rows[1]).rows if steps else ()
            return ItemPath((), _no_path(start.name, end.name, steps, longer=len(longer) - 1))
        cosines = [None, *(round(x, 4) for x in way.similarity.tolist())]
        ids = [self.index.embeddings.ids[x] for x in way.rows]
        pairs = enumerate(zip(ids, cosines, strict=True), start=1)
        return ItemPath(tuple(PathStep(n, self.names.get(x), y) for n, (x, y) in pairs))

    def neighbours(
        self,
        queries: Sequence[Item],
        ids: Sequence[str],
        scores: Sequence[float],
        confidence: Sequence[float] = (),
        *,
        seeds: Sequence[tuple[str, ...]] = (),
        note: str = "",
    ) -> Neighbours:
        """Return answers with their names, scores and confidence rounded; NaN is not known."""
        chances = [None if x != x else round(x, 4) for x in confidence] or [None] * len(ids)
        columns = zip(
            map(self.names.get, ids), scores, chances, seeds or [()] * len(ids), strict=False
        )
        neighbours = tuple(
            Neighbour(rank, item, round(score, 4), chance, own)
            for rank, (item, score, chance, own) in enumerate(columns, start=1)
        )
        return Neighbours(tuple(queries), neighbours, note, self.names.linked)

    def searched(self, query: Query) -> tuple[Index, Attributes | None, Query]:
        """What a query is asked of; with ``paper`` items without a cosine are no answers."""
        if query.graph:
            return self.graph_index, self.graph_attributes, query
        if not query.paper:
            return self.index, self.attributes, query
        exclude = query.exclude | self.without_vector
        return self.cosine_index, self.cosine_attributes, replace(query, exclude=exclude)

    def _rows(self, items: Sequence[Item], query: Query) -> list[int]:
        """Rows in the index of some items; DataError for one of which only the name is known."""
        for item in items:
            if why := self.unanswerable(item, query):
                raise DataError(f"{why}; add some to the catalogue and train again")
        index = self.searched(query)[0].embeddings.index
        return [index[x.id] for x in items]


def _no_path(start: str, end: str, steps: int | None, *, longer: int) -> str:
    if longer > 0:
        return (
            f"no chain of {steps} steps or fewer leads from {start!r} to {end!r}; the nearest way "
            f"has {longer}"
        )
    return f"no chain leads from {start!r} to {end!r}: nothing near the one is near the other"


def compose_playlist(
    index: ItemIndex,
    begin: Beginning,
    *,
    by_path: bool,
    recommended: Callable[[Query], Neighbours] | None,
    songs_of: Callable[[Sequence[str]], Songs],
    rules: Rules,
    query: Query,
) -> Neighbours:
    """Return the songs of a playlist in the order to hear them; errors as ``Model.playlist``.

    Parameters
    ----------
    by_path : whether its ends are given, and the songs lie between
    recommended : what somebody may like, for a query; None where it begins with no plays
    songs_of : what rules need to know of some ids
    """
    query = replace(query, exclude=query.exclude | begin.gone)
    if begin.away:
        query = index.away_from(begin.away, list(begin.named), query)
    ends, parts = [index.names.get(x) for x in begin.ends], [begin.weights]
    if by_path:
        if len(ends) != 2 or query.k < 3:
            raise DataError("a path needs two different ends and a k of 3 or more")
        way = index.path(ends[0], ends[1])
        if not way:
            return Neighbours(tuple(ends), (), way.note, index.names.linked)
        parts = [dict.fromkeys(x, 1.0) for x in pairwise(way.ids)]
        query = replace(query, k=query.k - 2)

    def answers(wide: Query) -> list[Neighbours]:
        if recommended:
            return [recommended(wide)]
        share = replace(wide, k=-(-wide.k // len(parts)))
        return [
            begin.in_turns(
                index.agreed([index.names.get(y) for y in x], share, weights=x, seeds_too=True)
            )
            for x in parts
        ]

    songs, lacking = fill(
        answers,
        songs_of,
        query=query,
        rules=rules,
        before=[*begin.before, *begin.ends[:1]],
        most=len(index.ids),
    )
    first, last = ([Neighbour(0, x, 1.0) for x in some] for some in (ends[:1], ends[1:]))
    queries = tuple(dict.fromkeys(begin.named.values()))
    numbered = tuple(
        replace(
            x, rank=rank, seeds=begin.owners(x.seeds) if len(queries) > 1 and not by_path else ()
        )
        for rank, x in enumerate([*first, *songs, *last], start=1)
    )
    note = "; ".join(filter(None, (begin.note, lacking)))
    return Neighbours(queries, numbered, note, index.names.linked)
