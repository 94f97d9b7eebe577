"""Why two items are similar: what each source adds, what they share, what is not known."""

from undersong.explanation.data import Background, open_background, read_background
from undersong.explanation.explain import explain_pairs, known
from undersong.explanation.reasons import Reasons, shared, unknown

__all__ = [
    "Background",
    "Reasons",
    "explain_pairs",
    "known",
    "open_background",
    "read_background",
    "shared",
    "unknown",
]
