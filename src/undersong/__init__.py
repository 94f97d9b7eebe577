"""One embedding for every artist and every track, also for the long tail.

``import undersong as us`` gives the twelve names below, each loaded when it is first used, so that
nothing heavy is imported before it is needed; docs/python.md shows them at work. Whatever else is
of use is imported from the packages, each a box or an arrow of the paper's figure 2.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from undersong.api import evaluate, import_tables, load, train
    from undersong.catalogue import Catalogue
    from undersong.embeddings import Embeddings
    from undersong.model import Model
    from undersong.pipeline.run_settings import RunSettings, Settings
    from undersong.report.formats import Report
    from undersong.retrieval import Neighbours, Query

__version__ = "0.1.0"
__all__ = [
    "Catalogue",
    "Embeddings",
    "Model",
    "Neighbours",
    "Query",
    "Report",
    "RunSettings",
    "Settings",
    "evaluate",
    "import_tables",
    "load",
    "train",
]
_MODULES = {
    "Catalogue": "undersong.catalogue",
    "Embeddings": "undersong.embeddings",
    "Model": "undersong.model",
    "Neighbours": "undersong.retrieval",
    "Query": "undersong.retrieval",
    "Report": "undersong.report.formats",
    "RunSettings": "undersong.pipeline.run_settings",
    "Settings": "undersong.pipeline.run_settings",
}

if not TYPE_CHECKING:  # else a name that is not there would have any type

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'undersong' has no attribute {name!r}")
        return getattr(import_module(_MODULES.get(name, "undersong.api")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
