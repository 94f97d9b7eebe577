"""Parameters and replies of the own API, which OpenAPI and tests go by."""

from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from undersong.catalogue import Kind
from undersong.errors import DataError
from undersong.model import QueryOptions, make_query
from undersong.retrieval import Query, Rules
from undersong.service.options import MOST, TEXT


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
    tags: list[str]
    sources: list[str]
    silent: list[str]
    listeners: int | None
    media: bool


class ContributionShape(BaseModel):
    """What one source adds to a score."""

    source: str
    share: float
    effect: float
    known_of: Literal["both", "asked", "answered", "neither"]


class TagShape(BaseModel):
    """A tag of both, and how many items have it."""

    tag: str
    items: int


class TracksShape(BaseModel):
    """The two tracks, one of each artist, that sound most alike."""

    asked: str
    asked_title: str
    answered: str
    answered_title: str
    cosine: float


class CommonShape(BaseModel):
    """What ``sentences`` say, as data; ``of``: how many users played each of the two."""

    related_by: str | None
    relations_shared: int
    through: list[str]
    tags_shared: int
    tags: list[TagShape]
    listeners_shared: int | None
    of: list[int | None]
    tracks: TracksShape | None


class ReasonsShape(BaseModel):
    """Why: ``start`` and the shares add up to the score."""

    score: float
    confidence: float | None
    candidate: bool
    start: float
    contributions: list[ContributionShape]
    sentences: list[str]
    unknown: list[str]
    common: CommonShape


class AnswerShape(BaseModel):
    """One answer; ``reasons`` if they were asked for.

    ``seeds``: of several that were asked about, the ids of those that led to it. ``taste``: of a
    recommendation, the number of the one that it is for. ``media``:
    whether the service can play it.
    """

    rank: int
    item: ItemShape
    score: float
    confidence: float | None
    media: bool
    reasons: ReasonsShape | None = None
    seeds: list[str] | None = None
    taste: int | None = None


class Reply(BaseModel):
    """Every reply says which generation it is from."""

    generation: int


class Suggestions(Reply):
    """Items whose names fit."""

    items: list[ItemShape]


class OneItem(Reply):
    """One item.

    ``learned``: whether its kind has a learned order, which ``long_tail`` and ``only_unlinked``
    need. ``ranked``: whether the popularity of any is known, which ``max_popularity`` needs.
    ``dated``: whether the decade of any is.
    """

    item: DetailsShape
    learned: bool
    ranked: bool
    dated: bool


class ListedShape(BaseModel):
    """An item of a list; ``media``: whether the service can play it."""

    item: ItemShape
    media: bool


class Listed(Reply):
    """The first of some items, and how many there are."""

    total: int
    items: list[ListedShape]


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
    """The name of a region of the map, and how near one looks (times the whole) when it helps."""

    text: str
    x: float
    y: float
    zoom: float


class MapShape(Reply):
    """A place for every item, the best known first; ``genre`` counts in ``genres``, -1 for none.

    ``hears``, ``describes``: whether /api/sounds-like and /api/described can answer.
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
    describes: bool


class Genres(Reply):
    """What the filter genre may say."""

    genres: list[str]


class Regions(Reply):
    """What the filter region may say."""

    regions: list[str]


class RefreshShape(BaseModel):
    """What became of a refresh; times are ISO 8601."""

    started: str
    finished: str
    next: str
    new: dict[str, int]
    trained: str
    failed: dict[str, str]


class Status(Reply):
    """The last refresh; null where nothing is refreshed."""

    refreshed: RefreshShape | None


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


PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
WORDS = 20  # genres, regions or further items of one request
SEEDS = 10_000  # items that one question may name in its body
STEPS = 100  # of a chain
DAY = 1440  # minutes
Text = Annotated[str, Field(min_length=1, max_length=TEXT, pattern=PRINTABLE)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dial = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Year = Annotated[int, Field(ge=0, le=9999)]
Plays = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Cap = Annotated[int, Field(ge=1, le=MOST)]
LISTS = frozenset(
    {"genre", "region", "also", "unlike", "words"}
)  # parameters that may stand there again


class Parameters(BaseModel):
    """Parameters of a question; unknown ones are refused, since a typing error would be silent."""

    # Each is built when it is first read: all of them take a tenth of the start.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class OfKind(Parameters):
    """Which items are meant."""

    kind: Kind


class SuggestQuery(Parameters):
    """What somebody has typed so far, and which items are meant; both kinds, unless it says."""

    kind: Kind | None = None
    q: Text
    limit: int = Field(10, ge=1, le=100)


class PairQuery(OfKind):
    """Two items by their ids."""

    a: Text
    b: Text


class ExplainQuery(PairQuery):
    """Two items, and how far to forget what relations tell."""

    long_tail: Dial = 0.0


class PathQuery(PairQuery):
    """Two items, and how many steps may lie between them."""

    steps: int | None = Field(None, ge=1, le=STEPS)


class SoundQuery(Parameters):
    """What to compare an upload with: artists or tracks, else what the run was trained for."""

    kind: Kind | None = None
    k: int = Field(10, ge=1, le=MOST)


class OneQuery(OfKind):
    """One item by its id."""

    id: Text


class Filtered(Parameters):
    """The fields of a query (``undersong.retrieval.query``)."""

    k: int = Field(10, ge=1, le=MOST)
    genre: list[Text] = Field([], max_length=WORDS)
    all_genres: bool = False
    region: list[Text] = Field([], max_length=WORDS)
    decade_from: Year | None = None
    decade_to: Year | None = None
    max_popularity: Share = 1.0
    pop_begin: Share = 0.0
    pop_end: Share = 1.0
    per_artist: Cap | None = None
    per_album: Cap | None = None
    diversity: Share = 0.0
    long_tail: Dial = 0.0
    only_unlinked: bool = False
    paper: bool = False
    graph: bool = False

    def query(self) -> Query:
        """Return the same as a ``Query``; DataError for one that no item can fulfil."""
        values = vars(self)
        options: Any = {name: values[name] for name in QUERY_FIELDS}
        return make_query(genres=self.genre, regions=self.region, **options)


class SimilarQuery(OneQuery, Filtered):
    """Further items, and those that no answer is nearer to."""

    also: list[Text] = Field([], max_length=WORDS)
    unlike: list[Text] = Field([], max_length=WORDS)
    reasons: bool = False


class DescribedQuery(OfKind, Filtered):
    """Somebody who exists in words alone."""

    words: list[Text] = Field(min_length=1, max_length=WORDS)


class RecommendQuery(OfKind, Filtered):
    """What somebody plays."""

    plays: dict[Text, Plays] = Field(min_length=1, max_length=SEEDS)
    unlike: list[Text] = Field([], max_length=WORDS)
    tastes: int = Field(1, ge=1, le=WORDS)


class PlaylistQuery(Filtered):
    """What a playlist begins with, and its rules (``Model.playlist``)."""

    kind: Kind | None = None
    k: int = Field(50, ge=1, le=MOST)
    like: list[Text] = Field([], max_length=SEEDS)
    unlike: list[Text] = Field([], max_length=SEEDS)
    plays: dict[Text, Plays] = Field({}, max_length=SEEDS)
    tastes: int = Field(1, ge=1, le=WORDS)
    path: tuple[Text, Text] | None = None
    after: list[Text] = Field([], max_length=SEEDS)
    never: list[Text] = Field([], max_length=SEEDS)
    minutes: float | None = Field(None, gt=0, le=DAY, allow_inf_nan=False)
    apart: int = Field(5, ge=1, le=MOST)
    smooth: float = Field(0.5, ge=0, le=100, allow_inf_nan=False)
    unlinked: Share = 0.0
    shuffle: int | None = Field(None, ge=0, le=2**53)

    def rules(self) -> Rules:
        """Return the rules on the order of the songs."""
        values = vars(self)
        return Rules(**{x.name: values[x.name] for x in fields(Rules)})


class ListQuery(OfKind):
    """What the items of a list have in common."""

    k: int = Field(50, ge=1, le=MOST)
    tag: Text | None = None
    genre: list[Text] = Field([], max_length=WORDS)
    region: list[Text] = Field([], max_length=WORDS)
    decade_from: Year | None = None
    decade_to: Year | None = None
    only_unlinked: bool = False


QUERY_FIELDS = tuple(
    x for x in Filtered.model_fields if x in QueryOptions.__annotations__
)  # those of one name in both
A = TypeVar("A", bound=Parameters)


def read(model: type[A], request: Request) -> A:
    """Read the parameters of a request, from its path and its query.

    Raises
    ------
    DataError
        For one that is missing, unknown or beyond its limits.
    """
    values: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in LISTS:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    try:
        return model.model_validate(values | request.path_params)
    except ValidationError as error:
        raise DataError(_in_words(error)) from error


def read_body(model: type[A], content: bytes) -> A:
    """Read the parameters of a request from its body, which is JSON; errors as ``read``."""
    try:
        return model.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise DataError(f"the body is no JSON ({error}); send an object of parameters") from error
    except ValidationError as error:
        raise DataError(_in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(x) for x in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no parameter {name[:60]!r} here; /openapi.json lists those that are"
    value = first.get("input")
    shown = f", found {str(value)[:60]!r}" if isinstance(value, str | int | float) else ""
    return f"{name}: {first['msg']}{shown}"
