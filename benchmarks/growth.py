"""How processor time and memory of every stage grow with the catalogue, on generated ones.

    python benchmarks/growth.py --out growth.json --plot growth.svg
    python benchmarks/growth.py --sizes 3000 30000 --stages R_U embed --out growth.json

Other sizes and stages that OUT holds already stay, and are drawn again.

Each stage of each size runs in a process of its own, which reports how long the stage took without
reading what it needs, and the most memory that the process had. An exponent is the slope of a
line through the logarithms of 10,000 artists and more: 1 is linear, 2 is quadratic, n log n has
1.09 from there to a million.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from undersong.io.files import replacing

PLAYS_OF_EACH, TRACKS_OF_EACH = 20, 0
FROM = 10_000  # artists, from which on growth is fitted: below, what is fixed weighs
STEPS = 4  # of GRM, whatever the size
LISTED = 256  # queries whose lists are gathered for the ranking; their number is bounded
K = 200
QUERIES = 1024  # that the nearest are searched for: the rest costs as much, block by block


def main() -> None:
    """Measure all stages at all sizes and write seconds, bytes and exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--plays", type=int, default=PLAYS_OF_EACH, help="Of each artist.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    measured: dict[str, list[dict[str, float]]] = {stage: [] for stage in STAGES}
    if options.out.exists():
        measured |= json.loads(options.out.read_text(encoding="utf-8"))["stages"]
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            place = Path(folder) / str(size)
            for stage in dict.fromkeys(["generate", *options.stages]):
                row = measure(stage, place, size=size, plays=options.plays)
                if stage in options.stages:
                    others = [x for x in measured[stage] if x["artists"] != size]
                    measured[stage] = sorted([*others, row], key=lambda x: x["artists"])
                seconds, memory = row["seconds"], row["bytes"] / 2**20
                print(f"{size:>9,} {stage:<12} {seconds:9.2f} s {memory:8.0f} MiB", flush=True)
    about = {
        "exponents": {
            stage: {x: exponent(rows, x) for x in ("seconds", "bytes")}
            for stage, rows in measured.items()
            if sum(row["artists"] >= FROM for row in rows) > 1
        },
        "stages": measured,
    }
    options.out.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        draw(options.plot, measured)
    for stage, slopes in about["exponents"].items():
        print(f"{stage:<12} time n^{slopes['seconds']:.2f}  memory n^{slopes['bytes']:.2f}")


def draw(path: Path, measured: dict[str, list[dict[str, float]]]) -> None:
    """Draw seconds and bytes of every stage by the number of artists, beside n log n."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (name, label, unit) in zip(
        panels,
        (("seconds", "processor time, s", 1.0), ("bytes", "peak memory, MiB", 2.0**20)),
        strict=True,
    ):
        drawn = {stage: rows for stage, rows in measured.items() if rows}
        for (stage, rows), mark in zip(drawn.items(), "os^vDP*X<", strict=False):
            axes.plot(
                [x["artists"] for x in rows],
                [x[name] / unit for x in rows],
                mark + "-",
                markersize=4,
                label=stage,
            )
        axes.set(xscale="log", yscale="log", xlabel="artists", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    sizes = np.array(
        sorted({x["artists"] for rows in measured.values() for x in rows}), dtype=float
    )
    bound = sizes * np.log(sizes)
    panels[0].plot(sizes, 0.01 * bound / bound[0], ":", color="black", label="n log n")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def measure(stage: str, place: Path, *, size: int, plays: int) -> dict[str, float]:
    """Run one stage in a process of its own."""
    ended = subprocess.run(
        [sys.executable, __file__, "--only", stage, str(place), str(size), str(plays)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {"artists": size, **json.loads(ended.stdout.splitlines()[-1])}


def exponent(rows: list[dict[str, float]], name: str) -> float:
    """Slope of the logarithm of a cost by that of the number of artists, of many artists."""
    rows = [x for x in rows if x["artists"] >= FROM]
    sizes = np.log([x["artists"] for x in rows])
    return float(np.polyfit(sizes, np.log([x[name] for x in rows]), 1)[0])


def generate(place: Path, size: int, plays: int) -> Callable[[], object]:
    """Write a twin."""
    from undersong.lab.synthetic.twin import make_twin

    return lambda: make_twin(
        place, artists=size, tracks=TRACKS_OF_EACH * size, plays=plays * size, seed=1
    )


def read(place: Path, size: int, plays: int) -> Callable[[], object]:
    """Read the catalogue."""
    from undersong.catalogue import tables

    return lambda: tables.read_catalogue(place)


def listening(place: Path, size: int, plays: int) -> Callable[[], object]:
    """R_U of artists."""
    from undersong import relations
    from undersong.catalogue import tables

    matrix = relations.listeners(tables.read_catalogue(place), "artist")
    return lambda: relations.shared_listeners(matrix, threshold=1, top=20)


def factors(place: Path, size: int, plays: int) -> Callable[[], object]:
    """E_U before it is fine-tuned."""
    from undersong import relations
    from undersong.catalogue import tables
    from undersong.models.interaction import factorise

    matrix = relations.listeners(tables.read_catalogue(place), "artist")
    matrix = matrix[:, np.flatnonzero(matrix.getnnz(axis=0))]
    return lambda: factorise(matrix, 64, seed=1)


def general_of(place: Path):
    """Catalogue, sources and settings of GRM on metadata alone."""
    from undersong import features
    from undersong.catalogue import splits, tables
    from undersong.catalogue.splits import SplitSettings

    catalogue = tables.read_catalogue(place)
    parts = splits.split(catalogue, "artist", SplitSettings(), seed=1)
    encoders = features.fit(catalogue, "artist", parts == "train")
    return catalogue, parts, features.read(catalogue.artists, encoders, {})


def evidence_of(place: Path):
    """Catalogue, parts, and what an order of the answers reads, of artists by metadata."""
    from undersong import relations
    from undersong.ranking.context import RankingContext

    catalogue, parts, sources = general_of(place)
    related = relations.known(catalogue, "artist", parts == "train")
    return catalogue, parts, RankingContext(untrained(sources)(), sources, related)


def gathered(place: Path, size: int, plays: int) -> Callable[[], object]:
    """What ranking learns from: who is near whom among all artists, and lists of some."""
    from undersong import relations
    from undersong.ranking.training import make_lists

    catalogue, parts, evidence = evidence_of(place)
    queries, truth = relations.held_out(catalogue, "artist", parts)
    labelled = truth.getnnz(axis=1) > 0
    return lambda: make_lists(evidence, queries[:LISTED], truth, labelled=labelled, count=400)


def listed(place: Path, size: int, plays: int) -> Callable[[], object]:
    """Answers of up to 1,024 artists in a learned order, by a network that learned nothing."""
    from undersong.embeddings import Embeddings
    from undersong.retrieval.index import Index
    from undersong.retrieval.neighbours import search
    from undersong.retrieval.query import Query

    catalogue, _, evidence = evidence_of(place)
    ranker = order_of(evidence).ranker
    index = Index(Embeddings(catalogue.ids("artist"), evidence.vectors), ranker, evidence)
    every = np.arange(size)
    rows = every[evidence.cells.in_turn(every)][size // 3 :][:QUERIES]  # as lists are made
    # Cells, who is near whom, and where walks lead from who has relations: as in a run.
    next(search(index, rows[:32], query=Query(k=K)))
    return lambda: [None for _ in search(index, rows, query=Query(k=K))]


def order_of(evidence):
    """A learned order, by a network that learned nothing."""
    import torch

    from undersong.ranking.network import RankingModel, RankingSettings
    from undersong.ranking.ranker import Ranker
    from undersong.ranking.training import Fitted
    from undersong.training import History

    torch.manual_seed(1)
    settings = RankingSettings()
    model = RankingModel(len(evidence.names), settings)
    arrays = {name: x.numpy() for name, x in model.state_dict().items()}
    ranker = Ranker(evidence.names, arrays, (1.0, 0.0), settings.candidates)
    return Fitted(ranker, model, History(), {}, {}, (), ())


def write_run(place: Path) -> Path:
    """Write a run that learned nothing, with all that a learned order and reasons read of it.

    E_G without a source is E_G here: what it costs to keep and to read is the same.
    """
    import polars as pl

    from undersong import runs
    from undersong.catalogue import attributes
    from undersong.embeddings import Embeddings
    from undersong.explanation import data
    from undersong.io.tensors import write_array
    from undersong.ranking import context, training

    catalogue, _, evidence = evidence_of(place)
    sources, ids = evidence.sources, catalogue.ids("artist")
    groups = data.groups_of([x.name for x in sources], catalogue.fields_of("artist"))
    about = {"kind": "artist", "settings": {"run": {"seed": 0}}}
    with runs.publishing(place / "run", about) as home:
        Embeddings(ids, evidence.vectors).write(home / "embeddings" / "artist.general.parquet")
        training.save(order_of(evidence), home / "weights" / "ranking.safetensors")
        context.write(home / "evidence.safetensors", evidence)
        facts = attributes.make_attributes(catalogue)
        attributes.write_attributes(home / attributes.ATTRIBUTES_FILE, facts)
        items = catalogue.artists.select(
            pl.lit("artist").alias("kind"),
            "id",
            "name",
            about=pl.lit(""),
            part=pl.lit("train"),
            relations=pl.Series(evidence.degree),
            popularity=pl.col("popularity").cast(pl.Float64),
        )
        items.write_parquet(home / "items.parquet")
        shared = data.make(catalogue, "artist", sources, groups=groups, heard=())
        data.write(home / data.ITEMS, shared, groups)
        shape = (len(ids), len(groups), evidence.vectors.shape[1])
        known = evidence.embedded
        without = np.broadcast_to(evidence.vectors[:, None], shape)[known].astype(np.float16)
        write_array(home / data.WITHOUT, without)
    return place / "run"


def publish(place: Path, size: int, plays: int) -> Callable[[], object]:
    """From a run with a learned order to a shelf: map, answers of few, vectors, reasons of few."""
    from undersong.pipeline import publish as publishing

    folder = write_run(place)
    return lambda: publishing.publish(folder, place / "shelf")


def evaluate(place: Path, size: int, plays: int) -> Callable[[], object]:
    """All of `evaluate`: every baseline, E_G and a learned order by networks that learned nothing.

    Each is asked the same whatever it answers, so nothing needs to be trained.
    """
    import polars as pl
    import torch

    from undersong import features, runs
    from undersong.catalogue import fingerprint
    from undersong.embeddings import Embeddings
    from undersong.evaluation.compare import compare
    from undersong.io.files import write_json
    from undersong.io.tensors import write_tensors
    from undersong.pipeline.run_settings import Settings
    from undersong.ranking import network, ranker

    catalogue, parts, sources = general_of(place)
    encoders = features.to_json(features.fit(catalogue, "artist", parts == "train"))
    folder, settings, names = (
        place / "judged",
        network.RankingSettings(),
        evidence_of(place)[2].names,
    )
    torch.manual_seed(1)
    model = network.RankingModel(len(names), settings).state_dict()
    about = {"names": json.dumps(names), "calibration": "[1.0, 0.0]"}
    about |= {"candidates": str(settings.candidates)}
    chosen = {"run": {"seed": 0}, "split": asdict(Settings().split)}
    manifest = {"kind": "artist", "settings": chosen, "training": {"general": {"steps": 1}}}
    manifest |= {"catalogue": fingerprint(place), "catalogue_folder": str(place)}
    with runs.publishing(folder, manifest) as home:
        embedded = Embeddings(catalogue.ids("artist"), untrained(sources)())
        embedded.write(home / "embeddings" / "artist.judged.parquet")
        write_tensors(
            home / "weights/ranking.safetensors", model, version=ranker.FORMAT, about=about
        )
        write_json(home / "encoders.json", {"format": 1, "encoders": encoders})
        items = catalogue.artists.select(pl.lit("artist").alias("kind"), "id", "name")
        items.with_columns(part=pl.Series(parts)).write_parquet(home / "items.parquet")
    return lambda: compare(runs.read(folder), split="validation")


def untrained(sources):
    """E_G of all items by a GRM that has not learned yet, as something to do."""
    from undersong.models.general import training
    from undersong.models.general.network import GeneralModel, GeneralSettings

    model = GeneralModel([x.width for x in sources], GeneralSettings()).eval()
    return lambda: training.embed(model, sources, device="cpu")


def steps(place: Path, size: int, plays: int) -> Callable[[], object]:
    """Steps of GRM, without validation in between."""
    from undersong.models.general.network import GeneralSettings
    from undersong.models.general.training import train_general
    from undersong.relations import Task
    from undersong.training import Compute, Schedule

    catalogue, parts, sources = general_of(place)
    everything = np.full_like(parts, "train")
    schedule = Schedule(steps=STEPS, validate_every=STEPS)
    return lambda: train_general(
        Task(catalogue, "artist", everything),
        sources,
        settings=GeneralSettings(training=schedule),
        compute=Compute(1, "cpu", place),
    )


def embed(place: Path, size: int, plays: int) -> Callable[[], object]:
    """E_G of all artists."""
    _, _, sources = general_of(place)
    return untrained(sources)


def nearest(place: Path, size: int, plays: int) -> Callable[[], object]:
    """The nearest of up to 1,024 artists among all, exactly."""
    from undersong.embeddings import Embeddings, unit
    from undersong.retrieval.index import Index
    from undersong.retrieval.neighbours import search
    from undersong.retrieval.query import Query

    vectors = unit(np.random.default_rng(1).normal(size=(size, 128)).astype(np.float32))
    index = Index(Embeddings(tuple(map(str, range(size))), vectors))
    rows = np.arange(min(size, QUERIES))
    return lambda: [None for _ in search(index, rows, query=Query(k=K))]


STAGES: dict[str, Callable[[Path, int, int], Callable[[], object]]] = {
    "generate": generate,
    "read": read,
    "R_U": listening,
    "factorise": factors,
    "GRM steps": steps,
    "embed": embed,
    "ranking": gathered,
    "lists": listed,
    "nearest": nearest,
    "publish": publish,
    "evaluate": evaluate,
}
SIZES = [1000, 3000, 10000, 30000, 100000, 1000000]


def only(stage: str, place: str, size: str, plays: str) -> None:
    """Time one stage, as the child process."""
    work = STAGES[stage](Path(place), int(size), int(plays))
    started = time.process_time()
    work()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak}))


if __name__ == "__main__":
    only(*sys.argv[2:]) if sys.argv[1:2] == ["--only"] else main()
