"""What replies of the own API look like, for the OpenAPI and for tests."""

from typing import Literal

from pydantic import BaseModel


class ItemShape(BaseModel):
    """What is said of an item wherever it is listed."""

    id: str
    kind: Literal["artist", "track"]
    name: str
    about: str
    relations: int
    popularity: float | None
    long_tail: bool


class DetailsShape(ItemShape):
    """All that is known of an item; null where nothing is."""

    genres: list[str]
    region: str | None
    decade: int | None
    artist: str | None
    album: str | None
    mbid: str | None
    percentile: float | None
    x: float | None
    y: float | None
    unknown: str | None
    media: bool


class ContributionShape(BaseModel):
    """What one source adds to a score."""

    source: str
    share: float
    effect: float
    known_of: Literal["both", "asked", "answered", "neither"]


class ReasonsShape(BaseModel):
    """Why: ``start`` and the shares add up to the score."""

    score: float
    confidence: float | None
    candidate: bool
    start: float
    contributions: list[ContributionShape]
    sentences: list[str]
    unknown: list[str]


class AnswerShape(BaseModel):
    """One answer; ``reasons`` if they were asked for.

    ``seeds``: of several that were asked about, the ids of those that led to it.
    """

    rank: int
    item: ItemShape
    score: float
    confidence: float | None
    reasons: ReasonsShape | None = None
    seeds: list[str] | None = None


class Reply(BaseModel):
    """Every reply says which generation it is from."""

    generation: int


class Suggestions(Reply):
    """Items whose names fit."""

    items: list[ItemShape]


class OneItem(Reply):
    """One item."""

    item: DetailsShape


class Similar(Reply):
    """Answers; ``note`` says why there are none, or no reasons. ``item`` is null of an upload.

    ``also``: what else was asked about.
    """

    item: ItemShape | None
    also: list[ItemShape] | None = None
    answers: list[AnswerShape]
    note: str | None = None


class Explanation(Reply):
    """Why one item is similar to another."""

    asked: ItemShape
    answered: ItemShape
    reasons: ReasonsShape


class StepShape(BaseModel):
    """One item of a chain and the cosine to the one before."""

    item: ItemShape
    similarity: float | None


class Chain(Reply):
    """A chain; ``note`` says why there is none."""

    steps: list[StepShape]
    note: str | None = None


class LabelShape(BaseModel):
    """The name of a region of the map."""

    text: str
    x: float
    y: float


class MapShape(Reply):
    """A place for every item; ``genre`` counts in ``genres``, -1 for none.

    ``hears``: whether /api/sounds-like can answer.
    """

    count: int
    ids: list[str]
    names: list[str]
    x: list[float]
    y: list[float]
    long_tail: list[int]
    genre: list[int]
    genres: list[str]
    labels: list[LabelShape]
    hears: bool


class Genres(Reply):
    """What the filter genre may say."""

    genres: list[str]


class Regions(Reply):
    """What the filter region may say."""

    regions: list[str]


class Health(BaseModel):
    """The process is up."""

    status: Literal["up"]


class Ready(Reply):
    """A generation is open."""

    status: Literal["ready"]


class Error(BaseModel):
    """What is wrong and what to do, in one line."""

    error: str
    status: int
