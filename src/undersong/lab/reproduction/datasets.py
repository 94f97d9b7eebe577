"""Data sets of the reproduction, each with a split; what models are asked, and their answers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import relations
from undersong.catalogue import RELATIONS, Catalogue, Kind, split, write_catalogue
from undersong.errors import ArtifactError, DataError, SettingsError, nearest_known
from undersong.evaluation.baselines.classical import visible_edges
from undersong.evaluation.method import Method, Ties, make_ties
from undersong.evaluation.protocols import EvaluationSettings, judge_all, pools_of
from undersong.evaluation.scoring import Judged, Pool, Traits, Whole, traits
from undersong.importers.tables.conversion import import_tables
from undersong.io.files import read_json, sha256, write_json
from undersong.io.table_files import read_metadata, read_table, write_table
from undersong.pipeline.run_settings import Settings, read_settings
from undersong.relations import Task

FORMAT = 1
SEED = 0  # of the split, the same for every training seed, so that the same items always ask


@dataclass(frozen=True)
class DataSet:
    """One set of artists or tracks.

    Parameters
    ----------
    name : as the command line calls it
    mapping, settings : files in the folder of examples; no settings file, the defaults
    folder : where its tables lie within the data
    table : 1 for artists, 2 for tracks, as in the paper; 0 for OLGA's own table
    models : rows of its table, each also with ``_G``
    about : what a reader of the tables should know of it
    trained : whether there is anything but relations to train CbRM, UiRM and GRM on
    by_artist : whether tracks are related when their artists are the same or similar, for a set
        in which nobody says which tracks are alike
    """

    name: str
    mapping: str
    folder: str
    table: int
    models: tuple[str, ...]
    about: str
    settings: str = ""
    trained: bool = True
    by_artist: bool = False


ARTIST_MODELS = ("RdRM", "UiRM", "CbRM", "GRM")
TRACK_MODELS = ("RdRM", "CbRM", "GRM")
ABOUT = {
    "A": "5,289 artists of whom every source is known",
    "B": "8,365 artists with audio descriptors; plays of 70 %",
    "T": "6,592 tracks; most of the relations lie between 848 of them",
    "lieder": "446 rendered songs heard as audio; related when their composers are the same or "
    "similar, so it tests the way, not the quality",
    "olga": "17,673 artists with the official split; relations, and tags of some",
}
MULTI, TRACKS = "multisource", "tracks.toml"
SETS: Mapping[str, DataSet] = {
    x.name: x
    for x in (
        DataSet("A", "multisource-A.toml", MULTI, 1, ARTIST_MODELS, ABOUT["A"]),
        DataSet("B", "multisource-B.toml", MULTI, 1, ARTIST_MODELS, ABOUT["B"]),
        DataSet("T", "multisource-T.toml", MULTI, 2, TRACK_MODELS, ABOUT["T"], TRACKS),
        DataSet(
            "lieder",
            "lieder.toml",
            "lieder",
            2,
            TRACK_MODELS,
            ABOUT["lieder"],
            TRACKS,
            by_artist=True,
        ),
        DataSet("olga", "olga.toml", "olga", 0, ("RdRM", "GRM"), ABOUT["olga"]),
    )
}


def named(names: str) -> tuple[DataSet, ...]:
    """Return the data sets of a list such as ``A,B,T``, each once.

    Raises
    ------
    SettingsError
        For a name that no set has, or none at all.
    """
    chosen = dict.fromkeys(x.strip() for x in names.split(",") if x.strip())
    for name in chosen:
        if name not in SETS:
            raise SettingsError(f"no data set {name!r}; {nearest_known(name, SETS)}")
    if not chosen:
        raise SettingsError(f"no data set is named; known: {', '.join(SETS)}")
    return tuple(SETS[x] for x in chosen)


def settings_of(data_set: DataSet, examples: Path) -> Settings:
    """Read the settings that a set is trained with."""
    return read_settings(examples / data_set.settings if data_set.settings else None)


def kind_of(settings: Settings) -> Kind:
    """Return the kind whose relations are learned."""
    return cast(Kind, settings.run.kind)


def prepare(
    data_set: DataSet, folder: Path, *, settings: Settings, data: Path, examples: Path
) -> None:
    """Import a set into ``folder`` and fix its split; what is there already stays.

    The split is drawn once, with seed 0, and written into the catalogue: training seeds differ,
    and yet the same items ask.

    Raises
    ------
    DataError
        If the data is not there.
    ArtifactError
        If ``folder`` holds a catalogue of another mapping or other data.
    """
    mapping, home = examples / data_set.mapping, data / data_set.folder
    if not home.is_dir():
        raise DataError(
            f"there is no data for set {data_set.name} in {home}; name the folder that holds "
            f"{data_set.folder} with --from"
        )
    stamp = folder.with_name("catalogue-made.json")
    made = {"format": FORMAT, "mapping": sha256(mapping), "data": str(home.resolve())}
    if (folder / "catalogue.json").exists():
        if _recorded(stamp) == made:
            return
        raise ArtifactError(
            f"{folder} was imported by another mapping or from another folder than {mapping} and "
            f"{home}; give another OUT, or delete {folder.parent} to make it again"
        )
    catalogue, _ = import_tables(mapping, data=home)
    if data_set.by_artist:
        catalogue = _related_by_artist(catalogue)
    write_json(stamp, made)  # first: a catalogue without one is somebody else's
    write_catalogue(with_fixed_split(catalogue, kind_of(settings), settings), folder)


def with_fixed_split(catalogue: Catalogue, kind: Kind, settings: Settings) -> Catalogue:
    """Write the parts that seed 0 gives into the catalogue: of artists, and of tracks if asked."""
    parts = split(catalogue, "artist", settings.split, seed=SEED)
    artists = catalogue.artists.with_columns(pl.Series("split", parts.tolist()))
    catalogue = replace(catalogue, artists=artists)
    if kind == "track":
        parts = split(catalogue, "track", settings.split, seed=SEED)
        tracks = catalogue.tracks.with_columns(pl.Series("split", parts.tolist()))
        catalogue = replace(catalogue, tracks=tracks)
    return catalogue


def _related_by_artist(catalogue: Catalogue) -> Catalogue:
    """Relate tracks of the same artist and of two similar artists (R_C), in place of R_A."""
    row = {item: place for place, item in enumerate(catalogue.ids("artist"))}
    artist = catalogue.tracks["artist"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
    similar = relations.known(catalogue, "artist")
    pairs = relations.same_or_similar_artist(artist, similar).tocoo()
    ids = catalogue.ids("track")
    related = [
        ("track", *sorted((ids[a], ids[b])), "composer")
        for a, b in zip(pairs.row, pairs.col, strict=True)
        if a < b
    ]
    table = pl.DataFrame(related, schema=RELATIONS, orient="row")
    return replace(catalogue, relations=pl.concat([catalogue.relations, table]))


def _recorded(stamp: Path) -> dict[str, object]:
    """Return what a stamp records; nothing if it is not there or another version wrote it."""
    try:
        return read_json(stamp, version=FORMAT, hint="make it again")
    except ArtifactError:
        return {}


ACCURACY, ANSWERS, WHOLE = "accuracy", "answers", "whole"
COLUMNS = {
    "pool": pl.String(),
    "sort": pl.String(),
    "metric": pl.String(),
    "values": pl.List(pl.Float64()),
}
METADATA = {"undersong.answers": "1"}

# Hubness asks 2,000 random items, not all: it costs most, and is a column beside the others.
JUDGING = EvaluationSettings(hub_queries=2000)


@dataclass(frozen=True)
class Questions:
    """All that every model of one data set is asked.

    Parameters
    ----------
    pools : by name of the protocol: "cold, labelled", "cold", "found", "paper", and for tracks
        each with ", other artists"
    degree : (q,) relations to training items that ``linked`` shows, of each query
    """

    pools: Mapping[str, Pool]
    traits: Traits
    ties: Ties
    degree: NDArray[np.int64]
    settings: EvaluationSettings

    @property
    def long_tail(self) -> NDArray[np.bool_]:
        """Queries without any relation, (q,)."""
        return self.traits.long_tail[self.pools["paper"].queries]


@dataclass(frozen=True)
class ModelAnswers:
    """How one model of one seed answered: in each pool, and a note about the model."""

    pools: Mapping[str, Judged]
    note: str


def make_questions(task: Task, split: str, *, settings: EvaluationSettings = JUDGING) -> Questions:
    """Return the questions: items of ``split`` ask the catalogue and each other, and are sought."""
    pools = pools_of(task, split, settings=settings)
    edges = visible_edges(task, split)
    return Questions(
        pools=pools,
        traits=traits(task),
        ties=make_ties(len(task.splits), seed=settings.seed),
        degree=np.diff(edges.indptr)[pools["paper"].queries].astype(np.int64),
        settings=settings,
    )


def ask(method: Method, questions: Questions) -> ModelAnswers:
    """Judge one method in every pool that it may take part in."""
    judged = judge_all(
        [method],
        questions.pools,
        traits=questions.traits,
        ties=questions.ties,
        settings=questions.settings,
    )
    return ModelAnswers(judged[method.name], method.note)


def write_answers(answers: ModelAnswers, path: Path) -> None:
    """Write a row per pool and metric with its value for each query, as Parquet.

    A number of all answers together has its value first, then those without one group.
    """
    rows = []
    for pool, judged in answers.pools.items():
        rows += [(pool, ACCURACY, name, x.tolist()) for name, x in judged.accuracy.items()]
        rows += [(pool, ANSWERS, name, x.tolist()) for name, x in judged.answers.items()]
        rows += [(pool, WHOLE, n, [x.value, *x.left_out]) for n, x in judged.whole.items()]
    table = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    write_table(path, table, metadata=METADATA | {"note": answers.note})


def read_answers(path: Path) -> ModelAnswers:
    """Read what ``write_answers`` wrote.

    Raises
    ------
    ArtifactError
        If the file is damaged or of another format.
    """
    hint = "delete it and run `undersong reproduce` again"
    table = read_table(path, hint=hint, metadata=METADATA)
    pools: dict[str, Judged] = {}
    for (pool,), rows in table.group_by(["pool"], maintain_order=True):
        sorts: dict[str, dict[str, NDArray[np.float64]]] = {ACCURACY: {}, ANSWERS: {}, WHOLE: {}}
        for sort, metric, values in rows.select("sort", "metric", "values").iter_rows():
            sorts[sort][metric] = np.array(values, dtype=np.float64)
        whole = {name: Whole(float(x[0]), x[1:]) for name, x in sorts[WHOLE].items()}
        pools[str(pool)] = Judged(sorts[ACCURACY], sorts[ANSWERS], whole)
    return ModelAnswers(pools, read_metadata(path, hint=hint)["note"])
