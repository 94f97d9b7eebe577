"""Retrieval: who may be an answer, in which order, how far apart, and found how fast."""

from undersong.retrieval.fusion import (
    fuse,
)
from undersong.retrieval.index import (
    BLOCK,
    Index,
    Precomputed,
    TopK,
    nothing,
)
from undersong.retrieval.neighbours import (
    dial,
    search,
)
from undersong.retrieval.paths import (
    ItemPath,
    graph,
    shortest_path,
)
from undersong.retrieval.query import (
    Query,
)

__all__ = [
    "BLOCK",
    "Index",
    "ItemPath",
    "Precomputed",
    "Query",
    "TopK",
    "dial",
    "fuse",
    "graph",
    "nothing",
    "search",
    "shortest_path",
]
