"""What is related to what: R_A, R_C, R_U and R_P as pairs (sections 2.1 to 2.4)."""

from undersong.relations.colistening import listeners, shared_listeners
from undersong.relations.similarity import (
    META_ROLES,
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
    same_or_similar_artist,
)

__all__ = [
    "META_ROLES",
    "Task",
    "among_some",
    "at_one_remove",
    "block",
    "codes",
    "held_out",
    "known",
    "listeners",
    "meta_agreement",
    "meta_codes",
    "meta_consistent",
    "same_or_similar_artist",
    "shared_listeners",
]
