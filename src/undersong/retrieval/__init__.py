"""Retrieval: who may be an answer, in which order, how far apart, and found how fast."""

from undersong.retrieval.filters import (
    nearer as nearer,
)
from undersong.retrieval.fusion import (
    fuse as fuse,
)
from undersong.retrieval.index import (
    BLOCK as BLOCK,
    Index as Index,
    Precomputed as Precomputed,
    TopK as TopK,
)
from undersong.retrieval.neighbours import (
    graph as graph,
    search as search,
    shortest_path as shortest_path,
    write_neighbours as write_neighbours,
)
from undersong.retrieval.playlists import (
    Rules as Rules,
    Songs as Songs,
    fill as fill,
    read_songs as read_songs,
)
from undersong.retrieval.projection import (
    read_map as read_map,
    read_regions as read_regions,
)
from undersong.retrieval.query import (
    ItemPath as ItemPath,
    Neighbour as Neighbour,
    Neighbours as Neighbours,
    PathStep as PathStep,
    Query as Query,
)
from undersong.retrieval.run_index import (
    attributes_of as attributes_of,
    has_learned_order as has_learned_order,
    has_lists as has_lists,
    open_embeddings as open_embeddings,
    open_graph as open_graph,
    open_index as open_index,
    open_lists as open_lists,
)
from undersong.retrieval.seeds import (
    Library as Library,
)
