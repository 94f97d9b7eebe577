"""What is related to what: R_A, R_C, R_U and R_P as pairs (sections 2.1 to 2.4)."""

from undersong.relations.colistening import listeners, listening_scores, shared_listeners
from undersong.relations.similarity import (
    EQUAL,
    LEARNED,
    META_ROLES,
    RelationSource,
    Task,
    among_some,
    at_one_remove,
    block,
    codes,
    held_out,
    known,
    meta_agreement,
    meta_codes,
    meta_consistent,
    read_reliability,
    relation_sources,
    reliability,
    same_or_similar_artist,
    weighed,
)
