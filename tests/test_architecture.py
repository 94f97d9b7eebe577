"""Packages import one way: each only those before it, and no modules of one in a circle."""

import ast
import importlib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "undersong"
# fmt: off
ORDER = [
    "errors", "processors", "progress", "io", "servers", "sandbox", "metrics",
    "settings", "embeddings", "products", "losses", "catalogue", "runs", "relations", "training",
    "features", "audio", "models", "ranking", "importers", "foldin", "retrieval", "explanation",
    "item_index", "model", "evaluation", "report", "export", "pipeline", "api", "linkage", "lab",
    "cluster", "service", "cli", "__main__",
]
# fmt: on


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name below undersong; a package is the module of its face."""
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in named.items() if name}


@cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of undersong that one module imports, anywhere in it."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    names = frozenset(x for node in ast.walk(tree) for x in imported(node, modules=set(modules())))
    return names - {module}


def imported(node: ast.AST, *, modules: set[str]) -> set[str]:
    """Modules of undersong that one statement imports, whichever way it is written."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        # The name is a module itself, or something inside the module it is taken from.
        whole = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [x if x.removeprefix("undersong.") in modules else node.module for x in whole]
    return {x.removeprefix("undersong.") for x in names if x.startswith("undersong.")}


def package_of(module: str) -> str:
    return module.partition(".")[0]


def test_the_order_names_every_package_once():
    assert sorted(ORDER) == sorted({package_of(x) for x in modules()})


@pytest.mark.parametrize("package", ORDER)
def test_packages_import_only_those_before_them(package):
    before = {*ORDER[: ORDER.index(package)], package}
    later = {
        f"{module} imports {other}"
        for module in modules()
        if package_of(module) == package
        for other in imports_of(module)
        if package_of(other) not in before
    }
    assert later == set()


@pytest.mark.parametrize("package", ORDER)
def test_no_modules_of_a_package_import_each_other_in_a_circle(package):
    graph = {x: imports_of(x) for x in modules() if package_of(x) == package}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("package", ["lab", "cli"])
def test_the_lab_and_the_commands_are_imported_by_the_command_line_alone(package):
    importing = {
        package_of(x) for x in modules() for y in imports_of(x) if package_of(y) == package
    }
    assert importing <= {package, "cli", "__main__"}


def test_what_benchmarks_import_exists():
    for path in (PACKAGE.parent.parent / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("undersong."):
                module = importlib.import_module(str(node.module))
                for name in (x.name for x in node.names):
                    there = hasattr(module, name) or f"{node.module}.{name}"[10:] in modules()
                    assert there, f"{path}:{node.lineno}: {node.module} has no {name}"


def test_no_import_is_relative():
    relative = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("from undersong.losses import cosine", {"losses"}),
        ("from undersong import losses, relations", {"losses", "relations"}),
        ("from undersong.catalogue import tables as read", {"catalogue.tables"}),
        ("import undersong.losses", {"losses"}),
        ("import numpy", set()),
    ],
)
def test_every_way_to_import_is_seen(statement, expected):
    assert imported(ast.parse(statement).body[0], modules=set(modules())) == expected


LIGHT = {"errors", "progress", "settings", "embeddings", "io", "runs", "catalogue"}
LIGHT |= {"item_index", "model", "cli"}
HEAVY = {"torch", "implicit", "matplotlib", "soundfile", "soxr"}


@pytest.mark.parametrize("module", sorted(x for x in modules() if package_of(x) in LIGHT))
def test_answers_start_fast_because_nothing_heavy_is_imported_at_the_top(module):
    source = modules()[module].read_text(encoding="utf-8")
    top = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {
        alias.name.split(".")[0] for x in top for alias in x.names if isinstance(x, ast.Import)
    }
    roots |= {(x.module or "").split(".")[0] for x in top if isinstance(x, ast.ImportFrom)}
    assert roots & HEAVY == set()
