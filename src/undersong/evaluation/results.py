"""What an evaluation found: numbers with their intervals, nothing to compute."""

from collections.abc import Mapping
from dataclasses import dataclass

FORMAT = 1
SAME_ARTIST = "same artist"  # the protocol that needs no relations (``same_artist``)
RANKED = "undersong"  # the default answers of a run, among the methods
DEPTHS = (20, 100, 200)  # where the lists of the protocol ``directed`` are cut


@dataclass(frozen=True)
class Interval:
    """A number and the bounds that hold it with 95 %; None where they cannot be known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Number:
    """One metric of one method, and how far it is above the reference method (paired).

    ``difference`` is None for the reference itself and where the reference takes no part.
    """

    mean: Interval
    difference: Interval | None = None


@dataclass(frozen=True)
class Slice:
    """Some of the queries.

    Parameters
    ----------
    name : such as "all", "long tail", "visible degree 1-2"
    queries : how many items ask
    answerable : how many of them have a relevant candidate
        Accuracy is a mean over these, everything else over all that ask.
    numbers : method -> metric -> number; empty where nobody asks
    """

    name: str
    queries: int
    answerable: int
    numbers: Mapping[str, Mapping[str, Number]]


@dataclass(frozen=True)
class Protocol:
    """One way to ask and to judge (docs/evaluation.md).

    Parameters
    ----------
    name : "cold", "paper" or "linked"; for tracks also with ", other artists"; "directed"; or
        "same artist"
    meaning : the same in plain words
    candidates : how many items may be an answer
    skipped : queries without a relevant candidate, left out of accuracy
    hub_queries : how many items asked for the hubness numbers
    slices : the first is "all", the second "long tail"
    """

    name: str
    meaning: str
    candidates: int
    skipped: int
    hub_queries: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Evaluation:
    """All that an evaluation found.

    Parameters
    ----------
    kind, part : whose answers, and which split asked
    k : length of the short list
    resamples, seed : of the bootstrap
    reference : name of the method that differences are taken to
    methods : names and notes, in the order given
    fields : metadata fields of consistent@k
    withheld : fields of withheld_consistent@k
    popularity : by what popularity is measured
    protocols : the lead result first
    content : hash of the run that was judged (``runs.Run.content``); "" where that is not known
    """

    kind: str
    part: str
    k: int
    resamples: int
    seed: int
    reference: str
    methods: tuple[tuple[str, str], ...]
    fields: tuple[str, ...]
    withheld: tuple[str, ...]
    popularity: str
    protocols: tuple[Protocol, ...]
    content: str = ""
