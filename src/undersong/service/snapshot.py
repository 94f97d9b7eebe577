"""One version of a model as the service answers with it: by ids, and all of it in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import polars as pl

from undersong.catalogue import Attributes, Item, Kind
from undersong.errors import ArtifactError, DataError, UnknownItem, nearest_known
from undersong.explanation.data import Background
from undersong.explanation.explain import known
from undersong.explanation.reasons import Reasons, unknown
from undersong.item_index import ItemIndex
from undersong.model import Model
from undersong.report import formats, layout
from undersong.retrieval import ItemPath, Neighbours, Query
from undersong.retrieval.filters import check, passing
from undersong.runs import Run
from undersong.service.schemas import PlaylistQuery

LARGEST_LINKED = 20_000  # items whose paths are found without lists made by `undersong publish`
SHARED = 3  # items that have a tag, for it to tell something of one of them
TELLING = 8  # tags that are told of an item
ATTRIBUTES = ("region", "decade", "artist", "album", "mbid", "percentile")


@dataclass(frozen=True)
class Details:
    """All that is known of one item; None where nothing is.

    Parameters
    ----------
    decade : first year of it
    artist, album, mbid : of a track the artist's id; a MusicBrainz id
    percentile : in (0, 1), share of the items of known popularity that are less popular
    x, y : in [-1, 1], its place on the map
    unknown : a sentence on what is not known of it; None if nothing is lacking, or no reasons are
    tags : the most telling of it, the rarest first
    sources, silent : groups of sources that tell something of it, and those that do not
    listeners : how many users played it; None where the run knows of no plays
    """

    item: Item
    genres: tuple[str, ...] = ()
    region: str | None = None
    decade: int | None = None
    artist: str | None = None
    album: str | None = None
    mbid: str | None = None
    percentile: float | None = None
    x: float | None = None
    y: float | None = None
    unknown: str | None = None
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    listeners: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """One version. Who is similar is in memory once it is opened, the rest once it is warm.

    Parameters
    ----------
    model : its files may be gone after it was warmed
    maps : maps that were asked for, as replies (``service.page.map_reply``)
    """

    model: Model
    maps: dict[Kind, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """Number of the version."""
        return int(self.model.run.generation)

    @cached_property
    def describes(self) -> bool:
        """Whether somebody described in words can be embedded here."""
        # Imported when first needed: it would double the time that the service takes to start.
        from undersong.foldin.described import NEEDED
        from undersong.foldin.encoders import engine_of

        run = self.model.run
        return all(map(run.has, NEEDED)) and engine_of(run) is not None

    @cached_property
    def kinds(self) -> dict[Kind, ItemIndex]:
        """Artists and tracks, those that the run has."""
        return {kind: self.model.of(kind) for kind in self.model.kinds}

    @cached_property
    def report(self) -> bytes | None:
        """``report.json`` with the generation, and how often confident answers were right.

        None where the run was not evaluated.
        """
        path = formats.path_of(self.model.run)
        if path is None:
            return None
        # Rows of (mean confidence, share that was right, answers); none without a learned order.
        rows = layout.reliability(self.model.run.manifest.get("ranking"))
        content = {"generation": self.generation, **orjson.loads(path.read_bytes())}
        return orjson.dumps({**content, "reliability": rows})

    def of(self, kind: Kind) -> ItemIndex:
        """Return what is asked of the items of one kind.

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

    def item(self, kind: Kind, item_id: str) -> Item:
        """Return the item with an id; UnknownItem, with those like it, if there is none."""
        return self.of(kind).names.get(item_id)

    def items(self, kind: Kind, ids: Sequence[str], query: Query) -> list[Item]:
        """Return the items with some ids, for a question about all of them.

        Raises
        ------
        UnknownItem
            If there is no such item.
        DataError
            If nothing but its name is known of one, or with ``paper`` only relations.
        """
        items = [self.item(kind, x) for x in ids]
        for item in items:
            if why := self.of(kind).unanswerable(item, query):
                raise DataError(why)
        return items

    def look_up(self, kind: Kind, item_id: str, query: Query) -> Neighbours | None:
        """Return the same as ``similar``, in microseconds, if it was computed before; else None."""
        index = self.of(kind)
        return index.look_up(index.names.get(item_id), query)

    def similar(self, kind: Kind, item_id: str, query: Query) -> Neighbours:
        """Return what is similar to an item, best first.

        An item of which nothing but the name is known has no answers; the note says so.

        Raises
        ------
        UnknownItem
            If no item has this id.
        DataError, ArtifactError
            As ``retrieval.search``.
        """
        index, item = self.of(kind), self.item(kind, item_id)
        if why := index.unanswerable(item, query):
            return Neighbours((item,), (), why)
        return index.similar(item, query)

    def agreed(self, kind: Kind, ids: Sequence[str], query: Query) -> Neighbours:
        """Return what is similar to several items; errors as ``items`` and ``retrieval.search``."""
        return self.of(kind).agreed(self.items(kind, ids, query), query)

    def path(self, kind: Kind, a: str, b: str, *, steps: int | None = None) -> ItemPath:
        """Return the path between two items.

        Raises
        ------
        UnknownItem
            If there is no such item.
        DataError
            If nothing but its name is known of one, or paths of so many need a published run.
        """
        index, (start, end) = self.of(kind), self.items(kind, (a, b), Query())
        _check_linked(index)
        return index.path(start, end, steps=steps)

    def playlist(self, query: PlaylistQuery) -> Neighbours:
        """Return a playlist; errors as ``Model.playlist`` and ``path``."""
        if query.kind is not None:
            self.of(query.kind)
        if query.path:
            for index in self.kinds.values():
                _check_linked(index)
        return self.model.playlist(
            query.like,
            unlike=query.unlike,
            plays=query.plays,
            path=query.path,
            after=query.after,
            never=query.never,
            kind=query.kind,
            tastes=query.tastes,
            rules=query.rules(),
            query=query.query(),
        )

    def explain(self, kind: Kind, a: str, b: str, *, long_tail: float = 0.0) -> Reasons:
        """Return why one item is similar to another; errors as ``items`` and ``Model.explain``."""
        query = Query(long_tail=long_tail or None)
        first, second = self.items(kind, (a, b), query)
        return self.of(kind).explain(first, [second], query)[0]

    def reasons(
        self, kind: Kind, neighbours: Neighbours, query: Query
    ) -> tuple[list[Reasons | None], str]:
        """Return the reasons of the answers about an item, or in a sentence why some have none."""
        index, (item,) = self.of(kind), neighbours.queries
        nothing: list[Reasons | None] = [None] * len(neighbours)
        if not neighbours:
            return nothing, ""
        if query.graph:
            return nothing, "Reasons are of E_G, not of the graph network."
        if index.background is None:
            if kind != self.model.kind:
                return nothing, f"Reasons are available for {self.model.kind}s only."
            return nothing, "This run has no reasons; train again with `undersong train`."
        trained = index.background.index
        if item.id not in trained:
            return nothing, "reasons are told of trained items; this one was added since"
        explained = [x.item for x in neighbours if x.item.id in trained]
        all_reasons = iter(index.explain(item, explained, query) if explained else ())
        lacking = len(explained) < len(neighbours)
        return (
            [next(all_reasons) if x.item.id in trained else None for x in neighbours],
            "items added since training have no reasons yet" if lacking else "",
        )

    def details(self, kind: Kind, item_id: str) -> Details:
        """Return all that is known of an item; UnknownItem if there is none."""
        index, item = self.of(kind), self.item(kind, item_id)
        x, y = (None if z != z else z for z in index.positions[index.names.row[item_id]].tolist())
        row, background = index.row.get(item_id), index.background
        if row is None:
            return Details(item, x=x, y=y, unknown=f"nothing is known of {item.name} but its name")
        facts: dict[str, Any] = {"x": x, "y": y}
        if background is not None and item_id in background.index:
            place = background.index[item_id]
            counts = known(background, place)
            facts |= {
                "unknown": unknown(counts, background.groups),
                "tags": _telling(background, place),
                "sources": counts.sources,
                "silent": tuple(x for x in background.groups if x not in counts.sources),
                "listeners": counts.listeners,
            }
        if index.attributes is not None:
            values = index.attributes.table.row(row, named=True)
            facts |= {name: values[name] for name in ATTRIBUTES}
            facts["genres"] = tuple(values["genres"] or ())
        return Details(item, **facts)

    def listed(self, kind: Kind, query: Query, *, tag: str | None = None) -> tuple[int, list[Item]]:
        """Return how many items pass a query and have a tag, and the ``query.k`` best known.

        Raises
        ------
        UnknownItem
            If the run has none of this kind.
        DataError, ArtifactError
            For a genre, region or tag that no item has, or if the run holds no facts of items.
        """
        index = self.of(kind)
        passes = np.ones(len(index.ids), dtype=bool)
        if index.attributes is not None or query.asks_facts:
            check(query, index.attributes)
            passes = passing(query, index.attributes or Attributes.bare(index.ids))
        table = index.names.table.with_row_index("row")[index.name_rows[passes]]
        if tag is not None:
            table = table.filter(pl.col("id").is_in(self._tagged(index, tag)))
        if query.only_unlinked:
            table = table.filter(pl.col("relations") == 0)
        return len(table), [index.names.item(x) for x in best_known(table)["row"].head(query.k)]

    def _tagged(self, index: ItemIndex, tag: str) -> list[str]:
        background = index.background
        words = background.words if background else ()
        if background is None or tag not in words:
            raise DataError(f"no {index.kind} has the tag {tag!r}; {nearest_known(tag, words)}")
        has = pl.col("tags").list.contains(tag)
        return background.table.filter(has)["id"].to_list()


def best_known(table: pl.DataFrame) -> pl.DataFrame:
    """Return rows of names, the best known first: by popularity and by relations alike.

    Either alone puts an artist of one popular track, or of one keen editor, in front of all.
    """
    popular, linked = pl.col("popularity").rank().fill_null(0), pl.col("relations").rank()
    return table.sort(popular + linked, "id", descending=[True, False])


def _telling(background: Background, row: int) -> tuple[str, ...]:
    codes = background.tags.of(row)
    having = background.having[codes]
    shared = codes[having >= SHARED]
    rarest = shared[np.argsort(background.having[shared], kind="stable")]
    return tuple(background.words[x] for x in rarest[:TELLING])


def _check_linked(index: ItemIndex) -> None:
    """Refuse paths between so many items that finding them would take too long."""
    if index.lists is None and len(index.ids) > LARGEST_LINKED:
        raise DataError(
            f"chains of {len(index.ids):,} {index.kind}s need answers that `undersong publish` "
            "computes; serve a published shelf"
        )


def open_answers(run: Run) -> Snapshot:
    """Read what a version answers with at once: who is similar, by id.

    Raises
    ------
    ArtifactError
        If a file is damaged, or the run holds no item.
    """
    snapshot = Snapshot(Model(run))
    if not snapshot.kinds:
        raise ArtifactError(f"{run.home} holds no items; train again with `undersong train`")
    for index in snapshot.kinds.values():
        _ = index.ids, index.lists
    return snapshot


def warm(snapshot: Snapshot) -> None:
    """Read all else into memory, but for what hears uploads, which few ever need.

    Raises
    ------
    ArtifactError
        If a file is damaged.
    """
    _ = snapshot.report, snapshot.model.audio_unavailable, snapshot.describes
    for index in snapshot.kinds.values():
        _ = index.ids and index.index, index.attributes, index.regions, index.positions
        _ = index.names.by_folded, index.by_mbid, index.names.fame
        if index.ids and index.lists is None:  # what the first question would wait for
            index.similar(index.names.get(index.ids[0]), Query(k=1))
        if index.background is not None:
            known = index.background
            _ = known.index, known.words, known.tags, known.having, known.place
