"""One way to ask: the command line, the service, the report and notebooks all ask a ``Model``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np
import polars as pl
import scipy
from numpy.typing import NDArray

from undersong import features, runs
from undersong.catalogue import KINDS, Catalogue, Item, Kind, read_catalogue
from undersong.embeddings import Embeddings
from undersong.errors import DataError, Unavailable, UnknownItem
from undersong.explanation.data import read_background
from undersong.explanation.reasons import Reasons
from undersong.features import Modality
from undersong.foldin.encoders import Encoders, audio_unavailable, ears_of, open_encoders
from undersong.item_index import ItemIndex, compose_playlist
from undersong.progress import Progress, silent
from undersong.retrieval import (
    ItemPath,
    Library,
    Neighbours,
    Query,
    Rules,
    Songs,
    open_embeddings,
    read_songs,
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
        """Return the path from a to b in which each step is near.

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
        index = self._index(library.kind)
        begin = library.begin(
            like=_several(like),
            unlike=_several(unlike),
            plays=plays or {},
            path=path or (),
            after=after,
            never=never,
        )

        def recommended(wide: Query) -> Neighbours:
            from undersong.retrieval.recommend import seeds_of

            listened = seeds_of(begin.plays)
            return self.recommend(listened, kind=index.kind, tastes=tastes, query=wide)

        return compose_playlist(
            index,
            begin,
            by_path=bool(path),
            recommended=recommended if plays else None,
            songs_of=lambda ids: self._songs(index, ids),
            rules=rules or Rules(),
            query=query,
        )

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


def _several(items: str | Item | Sequence[str | Item]) -> Sequence[str | Item]:
    return (items,) if isinstance(items, str | Item) else items
