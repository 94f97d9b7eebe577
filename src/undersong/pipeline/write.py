"""The files of a trained run: what its folder keeps of all that was learned."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from undersong import features, relations
from undersong.catalogue import (
    ATTRIBUTES_FILE,
    KINDS,
    Kind,
    make_attributes,
    words_about,
    write_attributes,
    write_failures,
)
from undersong.explanation import ablation as reasons
from undersong.features import CONTENT, read_items
from undersong.foldin import drift
from undersong.foldin.added import write_reference
from undersong.io.files import write_json
from undersong.io.table_files import write_table
from undersong.models.content.network import save_content
from undersong.models.general.training import save_general
from undersong.models.graph.training import save_graph
from undersong.pipeline.learn import Learned, LearnedGraph, task_of
from undersong.pipeline.run_settings import Settings
from undersong.progress import Progress, silent, watched
from undersong.ranking import context, training as ranking
from undersong.ranking.context import RankingContext
from undersong.relations import Task

FORMAT = 1


def studied(learned: Learned, settings: Settings) -> dict[Kind, NDArray[np.bool_]]:
    """Return which artists, and which tracks, something was learned from before the refit."""
    task = learned.task
    catalogue, of_tracks = task.catalogue, task.kind == "track"
    artists = task_of(catalogue, "artist", settings) if of_tracks else task
    train = artists.within("train")
    trained = set(np.array(catalogue.ids("artist"), dtype=object)[train])
    tracks = np.array([x in trained for x in catalogue.tracks["artist"]], dtype=bool)
    return {"artist": train, "track": tracks | (of_tracks and task.within("train"))}


def about(learned: Learned, studied: Mapping[Kind, NDArray[np.bool_]]) -> dict[str, Any]:
    """What the manifest says of all that was learned; ``studied`` as for ``write``."""
    return {
        "kind": learned.task.kind,
        "sources": dict(learned.coverage),
        "ears": _ears(learned),
        "failed_files": len(learned.content.failed) if learned.content else 0,
        "training": {name: asdict(x) for name, x in learned.outcomes.items() if x.steps},
        "hearing": _hearing(learned),
        "seconds": dict(learned.seconds),
        "ranking": _about_ranking(learned.ranking),
        "graph": _about_graph(learned.graph),
        "held_out": _held_out(learned, studied),
    }


def _ears(learned: Learned) -> list[dict[str, str]]:
    """Return which pretrained ears E_C reads: a new song must be heard by the same."""
    sources = [x.source for x in learned.content.models] if learned.content else []
    return [x.about for x in learned.task.catalogue.heard if x.name in sources]


def _hearing(learned: Learned) -> dict[str, dict[str, Any]]:
    """How each source of E_C is heard, and why; what was not measured is null."""
    choices = learned.content.choices if learned.content else {}
    return {
        source: {x: None if y != y else y for x, y in asdict(choice).items()}
        for source, choice in choices.items()
    }


def write(
    learned: Learned,
    home: Path,
    *,
    studied: Mapping[Kind, NDArray[np.bool_]],
    progress: Progress = silent,
) -> None:
    """Write embeddings, weights, encoders and items into the folder of a generation.

    Parameters
    ----------
    studied : (n,) bool of each kind, items that something was learned from before the refit
    """
    task = learned.task
    for (kind, name), embeddings in watched(list(learned.embeddings.items()), progress, "writing"):
        embeddings.write(home / "embeddings" / f"{kind}.{name}.parquet")
    save_general(learned.model, home / "weights" / "general.safetensors")
    if learned.content:
        save_content(learned.content.models, home / "weights" / "content.safetensors")
        if len(learned.content.failed):
            write_failures(home / "failures.csv", learned.content.failed)
    if learned.graph:
        save_graph(learned.graph.judged, home / "weights" / "graph.judged.safetensors")
        save_graph(learned.graph.answering, home / "weights" / "graph.safetensors")
    if learned.ranking:
        ranking.save(learned.ranking, home / "weights" / "ranking.safetensors")
        progress("evidence", 0, 1)
        _write_evidence(learned, home, progress)
        progress("evidence", 1, 1)
    encoders = features.to_json(learned.encoders)
    write_json(home / "encoders.json", {"format": FORMAT, "encoders": encoders})
    items = [_items(task, kind) for kind in KINDS]
    write_table(home / "items.parquet", pl.concat(items))
    write_attributes(home / ATTRIBUTES_FILE, make_attributes(task.catalogue))
    write_reference(home, task.catalogue, studied)
    reasons.write(
        home,
        task.catalogue,
        task.kind,
        sources=learned.sources,
        embeddings=learned.embeddings,
        model=learned.model,
        progress=progress,
    )


def _write_evidence(learned: Learned, home: Path, progress: Progress) -> None:
    """Write what the learned order reads of all items that can be asked about."""
    task, known = learned.task, learned.task.related()
    embeddings = learned.embeddings[(task.kind, "general")]
    vectors, missing = embeddings.align(task.catalogue.ids(task.kind))
    rows = np.flatnonzero(~missing | (known.getnnz(axis=1) > 0))
    sources = features.rows_of(learned.sources, rows)
    evidence = RankingContext(vectors[rows], sources, known[rows][:, rows].tocsr())
    context.write(home / "evidence.safetensors", evidence.looking_around(progress))


def _held_out(learned: Learned, studied: Mapping[Kind, NDArray[np.bool_]]) -> dict[str, Any]:
    """How far the items that nothing was learned from stand from the others, by kind."""
    return {
        kind: drift.held_out(
            read_items(learned.task.catalogue, kind),
            studied[kind],
            encoders=learned.encoders,
            content=learned.embeddings.get((kind, CONTENT)),
        )
        for kind, name in learned.embeddings
        if name == "general"
    }


def _about_ranking(fitted: ranking.Fitted | None) -> dict[str, Any] | None:
    """How the learned ranking did, by kind of lists; None where the cosine was not beaten."""
    if fitted is None:
        return None
    return {
        "ndcg@200": fitted.scores["cold"],
        "ndcg@200 of cosine": fitted.cosine["cold"],
        "judged": {
            name: {"ndcg@200": value, "ndcg@200 of cosine": fitted.cosine[name]}
            for name, value in fitted.scores.items()
        },
        "reliability": [list(row) for row in fitted.reliability],
        "reliability of unlinked": [list(row) for row in fitted.reliability_unlinked],
    }


def _about_graph(graph: LearnedGraph | None) -> dict[str, float] | None:
    """How validation items find each other by X_G and by E_G; None without a graph network."""
    if graph is None:
        return None
    return {"ndcg@200": graph.outcome.best_score, "ndcg@200 of GRM": graph.plain}


def _items(task: Task, kind: Kind) -> pl.DataFrame:
    """What answers need to know of each item: name, what it is, split, relations, popularity."""
    catalogue, own = task.catalogue, kind == task.kind
    related = task.related() if own else relations.known(catalogue, kind)
    table = catalogue.items(kind)
    role = catalogue.role(kind, "popularity")
    column = role.name if role else "popularity"
    known = table[column] if column in table.columns else pl.Series([None] * len(table))
    return pl.DataFrame(
        {
            "kind": pl.repeat(kind, len(table), dtype=pl.String, eager=True),
            "id": table["id"],
            "name": pl.Series(catalogue.names(kind), dtype=pl.String),
            "about": words_about(catalogue, kind),
            "part": pl.Series(task.splits if own else [None] * len(table), dtype=pl.String),
            "relations": pl.Series(related.getnnz(axis=1)).cast(pl.Int64),
            "popularity": known.cast(pl.Float64),
        }
    )
