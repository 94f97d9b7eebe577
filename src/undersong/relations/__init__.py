"""What is related to what: R_A, R_C, R_U and R_P as pairs (sections 2.1 to 2.4)."""

from undersong.relations.colistening import (
    listeners as listeners,
    listening_scores as listening_scores,
    shared_listeners as shared_listeners,
)
from undersong.relations.similarity import (
    EQUAL as EQUAL,
    LEARNED as LEARNED,
    META_ROLES as META_ROLES,
    RelationSource as RelationSource,
    Task as Task,
    among_some as among_some,
    at_one_remove as at_one_remove,
    block as block,
    codes as codes,
    held_out as held_out,
    known as known,
    meta_agreement as meta_agreement,
    meta_codes as meta_codes,
    meta_consistent as meta_consistent,
    read_reliability as read_reliability,
    relation_sources as relation_sources,
    reliability as reliability,
    same_or_similar_artist as same_or_similar_artist,
    weighed as weighed,
)
