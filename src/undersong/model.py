"""One way to ask: the command line, the service, the report and notebooks all ask a ``Model``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong import features, runs
from undersong.catalogue import KINDS, Attributes, Catalogue, Item, Kind, Names, read_catalogue
from undersong.embeddings import Embeddings
from undersong.errors import DataError, Unavailable, UnknownItem
from undersong.explanation import (
    Background,
    Reasons,
    explain_pairs,
    open_background,
    read_background,
)
from undersong.features import Modality
from undersong.foldin import Encoders, audio_unavailable, ears_of, open_encoders
from undersong.progress import Progress, silent
from undersong.retrieval import (
    Index,
    ItemPath,
    Library,
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
    open_embeddings,
    open_graph,
    open_index,
    open_lists,
    read_map,
    read_regions,
    read_songs,
    search,
    shortest_path,
)
from undersong.runs import Run

if TYPE_CHECKING:
    from undersong.foldin.add import Result
    from undersong.foldin.described import Vocabulary
    from undersong.foldin.embed import FoldIn
    from undersong.retrieval.recommend import Seeds

FROM_CATALOGUE = ("path", "seconds", "duration", "tempo", "bpm", "mood", "moods")


class QueryOptions(TypedDict, total=False):
    """The fields of a ``Query``, as keyword arguments."""

    k: int
    genres: Collection[str]
    all_genres: bool
    regions: Collection[str]
    decade_from: int | None
    decade_to: int | None
    library: Collection[str] | None
    closed: bool
    exclude: Collection[str]
    pop_begin: float
    pop_end: float
    max_popularity: float
    per_artist: int | None
    per_album: int | None
    diversity: float
    long_tail: float | None
    only_unlinked: bool
    paper: bool
    graph: bool


def make_query(query: Query | None = None, **options: Unpack[QueryOptions]) -> Query:
    """Return a query, or make one of its fields; a single word stands for a set of one.

    Raises
    ------
    DataError
        If both are given; or as ``Query``.
    """
    if query is not None:
        if options:
            raise DataError(f"give query or {', '.join(options)}, not both: a query holds them all")
        return query
    fields: dict[str, Any] = {**options, "long_tail": options.get("long_tail") or None}
    for name in ("genres", "regions", "library", "exclude"):
        if (words := fields.get(name)) is not None:
            fields[name] = frozenset((words,) if isinstance(words, str) else words)
    return Query(**fields)


def load(folder: str | Path, *, progress: Progress = silent) -> Model:
    """Open a run, or a folder that runs are published to; nothing is read before it is needed.

    Raises
    ------
    ArtifactError
        If the folder is neither, or its format is of another version.
    """
    return Model(runs.read(Path(folder)), progress)


@dataclass(frozen=True)
class Model:
    """One version of a trained run, and all that can be asked of it.

    Items are named by id or by name. ``kind`` is "artist" or "track"; by default that of the items,
    or what the run was trained for. Each part is read when it is first asked for, so many threads
    may share a model.
    """

    run: Run
    progress: Progress = field(default=silent, compare=False)
    _indexes: dict[Kind, ItemIndex] = field(default_factory=dict, repr=False, compare=False)
    _heard: dict[Kind, scipy.sparse.csr_matrix] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __repr__(self) -> str:
        counts = " and ".join(f"{len(self.of(x).names.table):,} {x}s" for x in self.kinds)
        return f"model {self.run.folder}, version {self.run.generation}: {counts}"

    @property
    def kind(self) -> Kind:
        """The kind of item that the run was trained for."""
        kind: Kind = self.run.manifest["kind"]
        return kind

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of items that the run has."""
        return tuple(x for x in KINDS if len(self._index(x).names.table))

    def of(self, kind: Kind | None = None) -> ItemIndex:
        """Return what is asked of the items of one kind.

        Raises
        ------
        DataError
            If the run has none, or there is no such kind.
        """
        kind = self.kind if kind is None else kind
        if kind not in KINDS:
            raise DataError(f"kind is {kind!r}; choose 'artist' or 'track'")
        if not len(self._index(kind).names.table):
            raise DataError(
                f"{self.run.folder} holds no {kind}s; train on a catalogue that has them"
            )
        return self._index(kind)

    def _index(self, kind: Kind) -> ItemIndex:
        if kind not in self._indexes:
            self._indexes.setdefault(kind, ItemIndex(kind, self.run, self.progress))
        return self._indexes[kind]

    def items(self, kind: Kind | None = None) -> pl.DataFrame:
        """Return a table of id, name, about, part, relations and popularity of all items."""
        return self.run.items(self.of(kind).kind)

    def find(self, name: str, *, kind: Kind | None = None) -> tuple[Item, ...]:
        """Return the items that an id or a name may mean, the best known first.

        Raises
        ------
        UnknownItem
            If there is none, with the names that look most like it.
        """
        return self.of(kind).names.find(name)

    def embeddings(self, kind: Kind | None = None) -> Embeddings:
        """Return E_G of all items that have one: ids and unit vectors, (n, d) float32."""
        return open_embeddings(self.run, self.of(kind).kind)

    def similar(
        self,
        items: str | Item | Sequence[str | Item],
        *,
        kind: Kind | None = None,
        unlike: str | Item | Sequence[str | Item] = (),
        agree: Sequence[Model] = (),
        query: Query | None = None,
        **options: Unpack[QueryOptions],
    ) -> Neighbours:
        """Return what is similar to an item, best first; or to several, by reciprocal rank fusion.

        Parameters
        ----------
        unlike : no answer is nearer to one of these than to any item that is asked about
        agree : models of the same catalogue whose answers are fused with these
        query, options : how many answers and which (``Query``), as one object or by its fields

        Raises
        ------
        UnknownItem
            If no item fits a name.
        DataError
            If nothing but its name is known of one; or as ``search`` and ``Query``.
        """
        query = make_query(query, **options)
        index, queries = self._items(items, kind)
        if unlike:
            _, others = self._items(unlike, index.kind)
            query = index.away_from([x.id for x in others], [x.id for x in queries], query)
        if len(queries) == 1 and not agree:
            return index.similar(queries[0], query)
        return index.agreed(queries, query, [x.of(index.kind) for x in agree])

    def explain(
        self,
        a: str | Item,
        b: str | Item,
        *,
        kind: Kind | None = None,
        long_tail: float = 0.0,
        paper: bool = False,
    ) -> Reasons:
        """Return why b is, or is not, an answer to a.

        Raises
        ------
        UnknownItem
            If no item fits a name.
        DataError
            If both mean the same item, one was added later or is known by name alone, or the run
            was trained on the other kind.
        ArtifactError
            If the run was published before there were reasons.
        """
        index, (first, second) = self._items([a, b], kind)
        if index.background is None:
            read_background(self.run, index.kind)  # raises an error that says why
        query = Query(long_tail=long_tail or None, paper=paper)
        return index.explain(first, [second], query)[0]

    def path(
        self, a: str | Item, b: str | Item, *, kind: Kind | None = None, steps: int | None = None
    ) -> ItemPath:
        """Return the path from a to b in which each step is near (``undersong.retrieval.paths``).

        Parameters
        ----------
        steps : at most so many, 1 or more; None for any number

        Raises
        ------
        UnknownItem
            If no item fits a name.
        DataError
            If nothing but its name is known of one, or ``steps`` is less than 1.
        """
        index, ends = self._items([a, b], kind)
        return index.path(*ends, steps=steps)

    def recommend(
        self,
        plays: Mapping[str, float] | Seeds,
        *,
        unlike: str | Item | Sequence[str | Item] = (),
        kind: Kind | None = None,
        catalogue: Catalogue | None = None,
        tastes: int = 1,
        query: Query | None = None,
        **options: Unpack[QueryOptions],
    ) -> Neighbours:
        """Return what somebody may like and does not play yet (``undersong.retrieval.recommend``).

        Parameters
        ----------
        plays : how often they play each item, by id or name; unknown ones are left out and noted
        unlike : no answer is nearer to one of these than to any item that is played
        catalogue : who else listens to what; by default the one that the run was trained on
        tastes : most groups of what is played that take turns

        Raises
        ------
        UnknownItem
            If no item is known.
        DataError
            If nothing but names is known of the items; or as ``search`` and ``Query``.
        """
        from undersong.retrieval import recommend

        index, query = self.of(kind), make_query(query, **options)
        seeds = (
            recommend.seeds_of_plays(plays, index.names) if isinstance(plays, Mapping) else plays
        )
        vectors = index.cosine_index
        if unlike:
            away = [x.id for x in self._items(unlike, index.kind)[1]]
            known = [x for x in seeds.ids if x in vectors.embeddings.index]
            query = index.away_from(away, known, query)
        answers = recommend.recommend(
            vectors,
            seeds,
            query=query,
            attributes=index.cosine_attributes,
            heard=self._listeners(index, catalogue),
            tastes=tastes,
        )
        ids = vectors.embeddings.ids
        missing = f"left out, since nobody is called so: {', '.join(map(repr, seeds.unknown))}"
        neighbours = index.neighbours(
            [index.names.get(x) for x in seeds.ids],
            [ids[x] for x in answers.rows],
            answers.scores.tolist(),
            seeds=[(ids[x],) for x in answers.seeds],
            note=answers.note or (missing if seeds.unknown and isinstance(plays, Mapping) else ""),
        )
        turns = zip(neighbours, answers.tastes.tolist(), strict=True)
        return replace(neighbours, neighbours=tuple(replace(x, taste=t + 1) for x, t in turns))

    def _listeners(
        self, index: ItemIndex, catalogue: Catalogue | None
    ) -> scipy.sparse.csr_matrix | None:
        """Return who plays the items of an index; of the run's own catalogue it is kept."""
        from undersong.retrieval.recommend import listeners_of

        ids, known = index.cosine_index.embeddings.ids, catalogue or self.catalogue
        if known is None or index.kind in self._heard and catalogue is None:
            return self._heard.get(index.kind)
        heard = listeners_of(known, index.kind, ids)
        if catalogue is None:
            self._heard[index.kind] = heard
        return heard

    def playlist(
        self,
        like: str | Item | Sequence[str | Item] = (),
        *,
        unlike: str | Item | Sequence[str | Item] = (),
        plays: Mapping[str, float] | None = None,
        path: tuple[str | Item, str | Item] | None = None,
        after: Sequence[str | Item] = (),
        never: Sequence[str | Item] = (),
        kind: Kind | None = None,
        tastes: int = 1,
        rules: Rules | None = None,
        query: Query | None = None,
        **options: Unpack[QueryOptions],
    ) -> Neighbours:
        """Return k songs in the order to hear them (``undersong.retrieval.playlists``).

        It begins with ``like`` or ``after`` or both, with ``plays``, or with ``path``. Artists and
        tracks may stand for each other: an artist for its five best-known tracks, a track for its
        artist.

        Parameters
        ----------
        like : what the songs are like; items of ``kind`` among these are no part of it. Of more
            than 100, so many count, evenly chosen; of ``after`` likewise
        unlike : no song is nearer to one of these than to any that is liked or played
        plays : how often somebody plays each item, as of ``recommend``
        path : the first and the last song; on the way each is near a step of ``Model.path``
        after : a playlist that this one goes on: rules count its songs, and none comes again
        never : artists and tracks that do not come; what is unknown of these, of ``plays`` and of
            ``after`` is left out and noted
        kind : of the songs; by default tracks, if more than their names is known
        tastes : as of ``recommend``, for ``plays``
        rules : on the order (``undersong.retrieval.playlists.Rules``)
        query, options : how many (k) and whose; ``per_artist`` and ``per_album`` of all of them

        Raises
        ------
        UnknownItem
            If no item fits a name.
        DataError
            If nothing but its name is known of one; for no beginning or several; if minutes are
            asked for and no length is known; or as ``similar``.
        """
        library, query = self._library(kind), make_query(query, **options)
        index, rules = self._index(library.kind), rules or Rules()
        begin = library.begin(
            like=_several(like),
            unlike=_several(unlike),
            plays=plays or {},
            path=path or (),
            after=after,
            never=never,
        )
        query = replace(query, exclude=query.exclude | begin.gone)
        if begin.away:
            query = index.away_from(begin.away, list(begin.named), query)
        ends, parts = [index.names.get(x) for x in begin.ends], [begin.weights]
        if path:
            if len(ends) != 2 or query.k < 3:
                raise DataError("a path needs two different ends and a k of 3 or more")
            way = index.path(ends[0], ends[1])
            if not way:
                return Neighbours(tuple(ends), (), way.note, index.names.linked)
            parts = [dict.fromkeys(x, 1.0) for x in pairwise(way.ids)]
            query = replace(query, k=query.k - 2)

        def answers(wide: Query) -> list[Neighbours]:
            if plays:
                from undersong.retrieval.recommend import seeds_of

                listened = seeds_of(begin.plays)
                return [self.recommend(listened, kind=index.kind, tastes=tastes, query=wide)]
            share = replace(wide, k=-(-wide.k // len(parts)))
            return [
                begin.in_turns(
                    index.agreed([index.names.get(y) for y in x], share, weights=x, seeds_too=True)
                )
                for x in parts
            ]

        songs, lacking = fill(
            answers,
            lambda ids: self._songs(index, ids),
            query=query,
            rules=rules,
            before=[*begin.before, *begin.ends[:1]],
            most=len(index.ids),
        )
        first, last = ([Neighbour(0, x, 1.0) for x in some] for some in (ends[:1], ends[1:]))
        queries = tuple(dict.fromkeys(begin.named.values()))
        numbered = tuple(
            replace(
                x, rank=rank, seeds=begin.owners(x.seeds) if len(queries) > 1 and not path else ()
            )
            for rank, x in enumerate([*first, *songs, *last], start=1)
        )
        note = "; ".join(filter(None, (begin.note, lacking)))
        return Neighbours(queries, numbered, note, index.names.linked)

    def _library(self, kind: Kind | None) -> Library:
        """Return what songs of a playlist are named by; by default of tracks, if they are known."""
        tracks = self._index("track")
        if kind is None and tracks.ids:
            kind = "track"
        index = self.of(kind)
        names = {x: self._index(x).names for x in self.kinds}
        return Library(index.kind, names, tracks.by_artist, index.row)

    def attributes(self, ids: Sequence[str], *, kind: Kind | None = None) -> pl.DataFrame:
        """Return what is known of some items, a row each in their order.

        Columns are those of ``undersong.catalogue.attributes`` and, where the run's catalogue is
        there and has them, path, seconds, tempo and mood (``FROM_CATALOGUE``).
        """
        index = self.of(kind)
        table = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
        known = [index.attributes.table] if index.attributes is not None else []
        if self.catalogue is not None:
            items = self.catalogue.items(index.kind)
            known.append(items.select("id", *(x for x in FROM_CATALOGUE if x in items.columns)))
        for more in known:
            table = table.join(more, on="id", how="left", maintain_order="left")
        absent = [x for x in ("artist", "album", "mbid", "path") if x not in table.columns]
        return table.with_columns(pl.lit(None, pl.String).alias(x) for x in absent)

    def _songs(self, index: ItemIndex, ids: Sequence[str]) -> Songs:
        """Read what rules of playlists need to know of some items."""
        artists = self._index("artist").names
        linked, key = (artists, "artist") if artists.linked else (index.names, "id")
        relations = linked.table.select(pl.col("id").alias(key), pl.col("relations"))
        table = self.attributes(ids, kind=index.kind)
        table = table.join(relations, on=key, how="left", maintain_order="left")
        table = table.with_columns(unlinked=pl.col("relations").fill_null(0) == 0)
        return read_songs(table, index.cosine_index.embeddings.align(tuple(ids))[0])

    @cached_property
    def catalogue(self) -> Catalogue | None:
        """The catalogue that the run was trained on; None where it is no longer there."""
        name: str | None = self.run.manifest.get("catalogue_folder")
        there = name and (Path(name) / "catalogue.json").exists()
        return read_catalogue(Path(name)) if name and there else None

    def add(
        self, items: Iterable[str | Path | Mapping[str, Any]], *, kind: Kind = "artist"
    ) -> tuple[Result, ...]:
        """Add new items to the run, without training; they have neighbours at once.

        Parameters
        ----------
        items : audio files with tags, tables (CSV, Parquet or TOML), or rows with the columns of
            such a table: ``name`` and the fields of the catalogue, of a track ``title`` and
            ``artist``
        kind : of rows and tables

        Returns
        -------
        What became of each: an ``Addition``, or a ``Failure`` with the reason and what to do.

        Raises
        ------
        DataError
            For a mistake in a table or a row.
        """
        from undersong.foldin.add import add_entries

        results = add_entries(self.run, items, kind=kind)
        self._indexes.clear()
        self._heard.clear()
        return results

    def sounds_like(self, file: str | Path, *, kind: Kind | None = None, k: int = 10) -> Neighbours:
        """Return what sounds most like an audio file, by the cosine of E_C; nothing is kept.

        The file is decoded in a child process that may write nothing, has no network, and is
        limited in memory and time.

        Raises
        ------
        Unavailable
            If the run knows no sound, or what decodes or embeds it is not installed.
        DataError
            If there is no such file.
        Undecodable
            If the file gives no sound.
        """
        if self.audio_unavailable:
            raise Unavailable(self.audio_unavailable)
        index = self._index(kind or self.kind)
        if index.content is None:
            raise Unavailable(f"this run learned the sound of no {index.kind}; use an id")
        if not Path(file).is_file():
            raise DataError(f"there is no file {file}; give an audio file")
        # Imported when first needed: it would double the time that the service takes to start.
        from undersong.foldin.embed import embed_file

        cosines = index.content.vectors @ embed_file(Path(file), self.encoders, ears_of(self.run))
        best = np.argsort(-cosines, kind="stable")[:k]
        ids = [index.content.ids[x] for x in best]
        return index.neighbours((), ids, cosines[best].tolist())

    def described_as(
        self,
        *words: str,
        kind: Kind | None = None,
        query: Query | None = None,
        **options: Unpack[QueryOptions],
    ) -> Neighbours:
        """Return what is most like a description, by the cosine of E_G; nothing is kept.

        Parameters
        ----------
        words : "genre=dark ambient", "region=NO", "decade=1990", with any field of the catalogue;
            or a phrase, "dark ambient from NO, 1990s" (``undersong.foldin.described``)
        query, options : as of ``similar``; no dial, since no learned order takes part

        Raises
        ------
        Unavailable
            If what embeds metadata is not installed.
        DataError
            If nothing of it is known; or as ``search`` and ``Query``.
        """
        # Imported when first needed: it would double the time that the service takes to start.
        from undersong.foldin.described import NEEDED, embed_description, read_description

        if not all(map(self.run.has, NEEDED)):
            raise Unavailable(f"{self.run.folder} holds nothing that embeds metadata; train again")
        index, query = self.of(kind), make_query(query, **options)
        description = read_description(words, self._vocabulary)
        sources, vectors = self._trained_sources
        vector = embed_description(description, self._fold_in, sources=sources, vectors=vectors)
        neighbours = index.near(vector, query)
        note = ". ".join(filter(None, (description.text, neighbours.note)))
        return replace(neighbours, note=note)

    @cached_property
    def _fold_in(self) -> FoldIn:
        from undersong.foldin.embed import FoldIn

        return FoldIn(self.run)

    @cached_property
    def _trained_sources(self) -> tuple[Sequence[Modality], NDArray[np.float32]]:
        """What GRM reads of the run's items, and E_G of these; metadata where no order reads more.

        None of tracks then, whose metadata no run keeps.
        """
        trained = self._index(self.kind).index
        if trained.evidence is not None:
            return trained.evidence.sources, trained.embeddings.vectors
        if self.kind == "track":
            return (), trained.embeddings.vectors
        artists = self._fold_in.known.artists
        sources = features.read(artists, self._vocabulary.encoders, {})
        return sources, trained.embeddings.align(tuple(artists["id"]))[0]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        from undersong.foldin.added import read_encoders
        from undersong.foldin.described import Vocabulary

        return Vocabulary(self._fold_in.known.fields, read_encoders(self.run))

    @cached_property
    def audio_unavailable(self) -> str | None:
        """What keeps audio files from being embedded, in a sentence; None where nothing does."""
        return audio_unavailable(self.run)

    @cached_property
    def encoders(self) -> Encoders:
        """What embeds a sound."""
        return open_encoders(self.run)

    def _items(
        self, items: str | Item | Sequence[str | Item], kind: Kind | None
    ) -> tuple[ItemIndex, tuple[Item, ...]]:
        named: list[str | Item]
        if isinstance(items, str | Item) or not isinstance(items, Iterable):
            named = [items]
        else:
            named = list(items)
        if not named:
            raise DataError("no item is named; give an id or a name")
        index = self.of(kind or next((x.kind for x in named if isinstance(x, Item)), None))
        names = index.names
        try:
            return index, tuple(x if isinstance(x, Item) else names.find(x)[0] for x in named)
        except UnknownItem as error:
            tracks = self._index("track").names
            if index.kind == "artist" and all(
                isinstance(x, str) and tracks.knows(x) for x in named
            ):
                raise UnknownItem(f"{error} A track is called so; add --tracks.") from error
            whole = " ".join(str(x) for x in named)
            if len(named) == 1 or not names.knows(whole):
                raise
            raise UnknownItem(f"{error} Or is it {whole!r}? Put one name in quotes.") from error


@dataclass(frozen=True)
class ItemIndex:
    """The items of one kind of a run, and all that answers about them are made from."""

    kind: Kind
    run: Run
    progress: Progress = field(default=silent, compare=False)

    @cached_property
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

    @cached_property
    def _listed(self) -> tuple[tuple[str, ...], Precomputed | None]:
        return open_lists(self.run, self.kind)

    @cached_property
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

    @cached_property
    def row(self) -> dict[str, int]:
        """Row in the index of each of ``ids``."""
        return {item: row for row, item in enumerate(self.ids)}

    @cached_property
    def name_rows(self) -> NDArray[np.int64]:
        """Row in ``names`` of each row of the index."""
        return np.array([self.names.row[x] for x in self.ids], dtype=np.int64)

    @cached_property
    def index(self) -> Index:
        """What finds answers that are in no list."""
        return open_index(self.run, self.kind)

    @cached_property
    def cosine_index(self) -> Index:
        """The same by the cosine of E_G alone; where ``index`` is open, over its vectors."""
        if "index" in vars(self):
            index = replace(self.index, ranker=None, evidence=None, lists=None)
        else:
            index = open_index(self.run, self.kind, paper=True)
        return self._with_links(index)

    @cached_property
    def graph_index(self) -> Index:
        """The same by the graph network behind GRM."""
        return self._with_links(open_graph(self.run, self.kind))

    def _with_links(self, index: Index) -> Index:
        rows = [self.names.row[x] for x in index.embeddings.ids]
        return replace(index, linked=self.names.table["relations"].to_numpy()[rows] > 0)

    @cached_property
    def without_vector(self) -> frozenset[str]:
        """Ids in ``cosine_index`` of which only relations are known: they have no cosine."""
        embeddings = self.cosine_index.embeddings
        if not self._shares_vectors or self.index.ranker is None:
            return frozenset()
        empty = np.flatnonzero(~embeddings.vectors.any(axis=1))
        return frozenset(embeddings.ids[x] for x in empty)

    @cached_property
    def attributes(self) -> Attributes | None:
        """What filters ask for, in the order of ``index``; None for a run from before filters."""
        ids = self.index.embeddings.ids if "index" in vars(self) else self.ids
        return attributes_of(self.run, self.kind, ids)

    @cached_property
    def cosine_attributes(self) -> Attributes | None:
        """The same in the order of ``cosine_index``."""
        if self._shares_vectors:
            return self.attributes
        return attributes_of(self.run, self.kind, self.cosine_index.embeddings.ids)

    @cached_property
    def graph_attributes(self) -> Attributes | None:
        """The same in the order of ``graph_index``."""
        return attributes_of(self.run, self.kind, self.graph_index.embeddings.ids)

    @cached_property
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

    @cached_property
    def background(self) -> Background | None:
        """What reasons are made from; None where the run has none for this kind."""
        return open_background(self.run, self.kind)

    @cached_property
    def content(self) -> Embeddings | None:
        """E_C of the items whose sound is known; None where there are none."""
        there = self.run.has_embeddings(self.kind, "content")
        return self.run.embeddings(self.kind, "content") if there else None

    @cached_property
    def links(self) -> scipy.sparse.csr_matrix:
        """Steps of paths (``undersong.retrieval.paths.graph``)."""
        return graph(self.index, progress=self.progress)

    @cached_property
    def places(self) -> pl.DataFrame | None:
        """The map: id, x, y; None before `undersong publish` has drawn it."""
        return read_map(self.run, self.kind)

    @cached_property
    def regions(self) -> pl.DataFrame | None:
        """Regions of the map: genre, x, y, items; None before it is drawn."""
        return read_regions(self.run)

    @cached_property
    def positions(self) -> NDArray[np.floating]:
        """Place on the map of each row of ``names``, (n, 2); NaN where it has none."""
        if self.places is None:
            return np.full((len(self.names.table), 2), np.nan)
        ids = self.names.table.select("id")
        places = ids.join(self.places, on="id", how="left", maintain_order="left")
        return places.select("x", "y").to_numpy()

    @cached_property
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
        return self._neighbours(
            (item,),
            self.name_rows[rows[rows >= 0]].tolist(),
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
        rows = [self.names.row[x] for x in ids]
        return self._neighbours(queries, rows, scores, confidence, seeds=seeds, note=note)

    def _neighbours(
        self,
        queries: Sequence[Item],
        rows: Sequence[int],
        scores: Sequence[float],
        confidence: Sequence[float] = (),
        *,
        seeds: Sequence[tuple[str, ...]] = (),
        note: str = "",
    ) -> Neighbours:
        chances = [None if x != x else round(x, 4) for x in confidence] or [None] * len(rows)
        columns = zip(
            map(self.names.item, rows), scores, chances, seeds or [()] * len(rows), strict=False
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


def _several(items: str | Item | Sequence[str | Item]) -> Sequence[str | Item]:
    return (items,) if isinstance(items, str | Item) else items


def _no_path(start: str, end: str, steps: int | None, *, longer: int) -> str:
    if longer > 0:
        return (
            f"no chain of {steps} steps or fewer leads from {start!r} to {end!r}; the nearest way "
            f"has {longer}"
        )
    return f"no chain leads from {start!r} to {end!r}: nothing near the one is near the other"
