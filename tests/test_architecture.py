"""Data flows one way: a module may import only modules that stand before it in ORDER."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "undersong"
# fmt: off
ORDER = [
    "errors", "files", "children", "progress", "terminal", "settings", "embeddings", "arrays",
    "catalogue.tables", "catalogue.faults", "catalogue.check", "catalogue.splits",
    "catalogue.describe", "catalogue.about", "catalogue.plays", "twin", "retrieval.facts",
    "sources.sheets", "sources.mapping", "sources.columns", "sources.readings", "sources.matrices",
    "sources.inheritance", "sources.tables",
    "audio.waveform", "audio.confine", "audio.ffmpeg", "audio.file", "audio.logmel",
    "audio.decode", "audio.shards", "audio.extract", "audio.augment",
    "relations", "sessions", "inputs", "evidence", "evidence_file", "gathering", "ranker",
    "pairwise", "losses",
    "triplets", "batches", "neighbourhoods", "metrics", "cluster.workers", "training", "weights",
    "models.content", "models.interaction", "models.general", "models.graph",
    "models.ranking", "run_settings", "stages.reading",
    "names", "additions.file", "additions.known", "additions.drift",
    "stages.pieces", "stages.tags", "stages.content", "stages.interaction", "stages.unlearned",
    "stages.general",
    "stages.graph", "stages.ranking", "stages.rehearsal",
    "runs", "explaining.background", "explaining.removal", "explaining.attribution",
    "explaining.first", "explaining.writing", "learning", "run_files", "pipeline",
    "additions.sources",
    "retrieval.request", "retrieval.filters", "retrieval.nearest", "retrieval.spread",
    "retrieval.approximate", "retrieval.order", "retrieval.hubs", "retrieval.lists",
    "retrieval.retrieve", "retrieval.agreement", "retrieval.paths", "search", "agreeing",
    "chains", "seeds", "recommending", "encoders.opening",
    "encoders.exporting",
    "explaining.reasons", "explaining.wording", "explaining.finding",
    "evaluation.ranking", "evaluation.intervals", "evaluation.methods",
    "baselines.untrained", "baselines.plays", "baselines.graph", "baselines.network",
    "evaluation.results", "evaluation.judging", "evaluation.summaries", "evaluation.protocols",
    "evaluation.directed", "evaluation.comparison",
    "report.layout", "report.terminal", "report.files", "map", "publishing", "shelf",
    "report.markup", "report.axes", "report.style", "report.findings", "report.plots",
    "report.card", "report.html",
    "exports.place", "exports.rows", "exports.parquet", "exports.arrays", "exports.spreadsheet",
    "exports.faiss_index", "exports.qdrant", "exports.qdrant_server", "exports.postgres",
    "exports.lists",
    "experiments.plan", "experiments.sets", "experiments.answers", "experiments.estimates",
    "experiments.models", "experiments.results", "experiments.tables", "experiments.olga",
    "experiments.claims", "experiments.figures", "experiments.reproduction", "experiments.page",
    "experiments.pooling", "experiments.ablations", "experiments.ablating",
    "experiments.ablation_page",
    "tuning.space", "tuning.results", "tuning.trials", "tuning.storage", "tuning.study",
    "sources.walk", "sources.tags", "sources.tag_readers", "sources.credits", "sources.path_names",
    "sources.library", "sources.keeping", "sources.known_files", "sources.known_pairs",
    "sources.folder", "sources.failures", "sources.archives", "sources.counting",
    "sources.resolving", "sources.listens", "sources.imported",
    "sources.listenbrainz", "sources.entries", "sources.spotify", "sources.lastfm",
    "sources.sqlite_files", "sources.owned", "sources.navidrome", "sources.beets",
    "sources.musicbrainz",
    "sources.separated", "sources.hetrec", "sources.olga", "sources.deezer", "sources.mlhd",
    "additions.given", "additions.embedding", "additions.adding",
    "identity.spelling", "identity.items", "identity.groups", "identity.matching",
    "identity.records", "identity.naming", "identity.combining", "identity.merging",
    "identity.services", "identity.folder",
    "cluster.connection", "cluster.streaming", "cluster.neighbours", "cluster.embedding",
    "cluster.training", "demo.styles", "demo.names", "demo.people", "demo.music", "demo.world",
    "demo.tour",
    "service.hearing", "service.generation", "service.searching", "service.answers",
    "service.settings", "service.asking", "service.replies", "service.shapes", "service.access",
    "service.addresses", "service.limits", "service.description",
    "service.metrics", "service.media", "service.picture", "service.upload", "service.api",
    "service.dialects.sent", "service.dialects.markup", "service.dialects.meaning",
    "service.dialects.lastfm", "service.dialects.opensubsonic", "service.dialects.listenbrainz",
    "service.dialects.audiomuse", "service.dialects.lidarr",
    "service.page", "service.app", "service.server",
    "commands.group", "commands.importing", "commands.importing_services", "commands.audio",
    "commands.learning", "commands.measuring",
    "commands.answering", "commands.explaining", "commands.publishing", "commands.exporting",
    "commands.adding", "commands.identifying", "commands.recommending", "commands.serving",
    "commands.showing", "commands.scaling",
    "cli", "__main__",
]
# fmt: on


@cache
def modules() -> frozenset[str]:
    files = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return frozenset(".".join(x.with_suffix("").parts) for x in files if x.stem != "__init__")


@cache
def imports_of(module: str) -> set[str]:
    """Modules of undersong that one module imports, anywhere in it."""
    known = modules()
    source = (PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    return {x for node in ast.walk(ast.parse(source)) for x in imported(node, known=known)}


def imported(node: ast.AST, *, known: frozenset[str]) -> set[str]:
    """Modules of undersong that one statement imports, whichever way it is written."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        # The name is a module itself, or something inside the module it is taken from.
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [x if x.removeprefix("undersong.") in known else node.module for x in whole]
    return {x.removeprefix("undersong.") for x in names if x.startswith("undersong.")}


@pytest.mark.parametrize("module", sorted(modules()))
def test_every_module_has_its_place(module):
    assert module in ORDER, (
        f"module {module} has no place: add it to ORDER after what it imports, which is "
        f"{', '.join(sorted(imports_of(module))) or 'nothing'}"
    )


def test_the_order_names_no_module_that_is_gone_or_stands_twice():
    assert sorted(ORDER) == sorted(set(ORDER))
    assert set(ORDER) - modules() == set()


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_backwards(module):
    later = imports_of(module) - set(ORDER[: ORDER.index(module)])
    assert not later, f"{module} imports {', '.join(sorted(later))}, which stand after it in ORDER"


def test_no_import_is_relative():
    relative = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("from undersong.losses import cosine", {"losses"}),
        ("from undersong import losses, relations", {"losses", "relations"}),
        ("from undersong.catalogue import tables as known", {"catalogue.tables"}),
        ("import undersong.losses", {"losses"}),
        ("import numpy", set()),
    ],
)
def test_every_way_to_import_is_seen(statement, found):
    assert imported(ast.parse(statement).body[0], known=modules()) == found


LIGHT = {"errors", "files", "progress", "settings", "embeddings", "search", "runs", "cli"}
HEAVY = {"torch", "implicit", "matplotlib", "soundfile", "soxr"}


@pytest.mark.parametrize(
    "module",
    sorted(m for m in modules() if m in LIGHT or m.startswith(("catalogue.", "commands."))),
)
def test_answers_start_fast_because_nothing_heavy_is_imported_at_the_top(module):
    source = (PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {
        alias.name.split(".")[0] for x in top for alias in x.names if isinstance(x, ast.Import)
    }
    roots |= {(x.module or "").split(".")[0] for x in top if isinstance(x, ast.ImportFrom)}
    assert roots & HEAVY == set()
