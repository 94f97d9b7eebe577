"""Retrieval: who may be an answer, in which order, how far apart, and found how fast."""

from undersong.retrieval.filters import nearer
from undersong.retrieval.fusion import fuse
from undersong.retrieval.index import BLOCK, Index, Precomputed, TopK
from undersong.retrieval.neighbours import graph, search, shortest_path, write_neighbours
from undersong.retrieval.playlists import Rules, Songs, fill, read_songs
from undersong.retrieval.projection import read_map, read_regions
from undersong.retrieval.query import ItemPath, Neighbour, Neighbours, PathStep, Query
from undersong.retrieval.run_index import (
    attributes_of,
    has_learned_order,
    has_lists,
    open_embeddings,
    open_graph,
    open_index,
    open_lists,
)
from undersong.retrieval.seeds import Library
