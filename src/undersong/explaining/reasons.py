"""What reasons say, as data: the command line, the service and pages show them."""

from dataclasses import dataclass
from typing import Literal

Whose = Literal["both", "asked", "answered", "neither"]


@dataclass(frozen=True)
class Contribution:
    """What one source adds to a score.

    Parameters
    ----------
    source : "audio", "listeners", "genres and tags", "relations", or the role or name of a field
    share : with ``Reasons.start`` the shares add up to the score; negative speaks against
    effect : how far the score would fall if both items were silent here; negative if it would rise
    known_of : of which of the two it says anything
    """

    source: str
    share: float
    effect: float
    known_of: Whose


@dataclass(frozen=True)
class SharedTag:
    """A genre or tag of both items, in lower case, and how many items have it."""

    tag: str
    items: int


@dataclass(frozen=True)
class TrackPair:
    """The two tracks, one of each artist, that sound most alike: ids, titles, cosine of E_C."""

    asked: str
    asked_title: str
    answered: str
    answered_title: str
    cosine: float


@dataclass(frozen=True)
class Known:
    """What is known of one item.

    Parameters
    ----------
    item, name : id and name
    sources : that say something of it, as in ``Contribution.source``
    tags, relations : how many
    listeners : how many users played it; None where the run knows of no plays at all
    """

    item: str
    name: str
    sources: tuple[str, ...]
    tags: int
    relations: int
    listeners: int | None


@dataclass(frozen=True)
class Reasons:
    """Why one item is, or is not, similar to another.

    Parameters
    ----------
    asked, answered : what is known of each
    score : what orders answers: of the learned order, or the cosine of E_G, in [-1, 1]
    confidence : in [0, 1], the chance that a list of similar items names it; None for the cosine
    candidate : whether it is among those that are weighed at all; others have a score here, but
        are no answers
    start : score of a pair of which nothing is known, and what no source can be credited with
    contributions : the source whose absence would change the score most first
    related_by : who says that the two are similar, such as "editors, fans"; None if nobody does
    tags : the rarest few in common; ``tags_shared`` counts them all
    listeners_shared : users who played both; None where the run knows of no plays at all
    relations_shared : how many items are related to both
    through : names of a few of those, with the fewest relations first
    tracks : the closest pair; None unless tracks of both were heard
    unknown : sentences on what is not known of either; empty if all is
    """

    asked: Known
    answered: Known
    score: float
    confidence: float | None
    candidate: bool
    start: float
    contributions: tuple[Contribution, ...]
    related_by: str | None
    tags: tuple[SharedTag, ...]
    tags_shared: int
    listeners_shared: int | None
    relations_shared: int
    through: tuple[str, ...]
    tracks: TrackPair | None
    unknown: tuple[str, ...]
