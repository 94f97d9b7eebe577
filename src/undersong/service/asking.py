"""What may be asked: the parameters of each question, with their limits."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request as HttpRequest

from undersong.catalogue.tables import Kind
from undersong.errors import DataError
from undersong.retrieval.request import Request
from undersong.service.settings import MOST, TEXT

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
WORDS = 20  # genres, regions or further items of one request
STEPS = 100  # of a chain
Text = Annotated[str, Field(min_length=1, max_length=TEXT, pattern=PRINTABLE)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Year = Annotated[int, Field(ge=0, le=9999)]
Cap = Annotated[int, Field(ge=1, le=MOST)]
LISTS = frozenset({"genre", "region", "also"})  # parameters that may stand there again


class Asked(BaseModel):
    """Parameters of a question; unknown ones are refused, since a typing error would be silent."""

    # Each is built when it is first read: all of them take a tenth of the start.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class OfKind(Asked):
    """Which items are meant."""

    kind: Kind


class SuggestQuery(Asked):
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

    long_tail: Share = 0.0


class PathQuery(PairQuery):
    """Two items, and how many steps may lie between them."""

    steps: int | None = Field(None, ge=1, le=STEPS)


class SoundQuery(Asked):
    """What to compare an upload with: artists or tracks, else what the run was trained for."""

    kind: Kind | None = None
    k: int = Field(10, ge=1, le=MOST)


class OneQuery(OfKind):
    """One item by its id."""

    id: Text


class SimilarQuery(OneQuery):
    """Further items, and a wish about answers, as ``retrieval.request.Request`` explains it."""

    also: list[Text] = Field([], max_length=WORDS)
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
    long_tail: Share = 0.0
    paper: bool = False
    reasons: bool = False

    def request(self) -> Request:
        """The same as a ``Request``; DataError for wishes that no item can fulfil together."""
        return Request(
            k=self.k,
            genres=frozenset(self.genre),
            all_genres=self.all_genres,
            regions=frozenset(self.region),
            decade_from=self.decade_from,
            decade_to=self.decade_to,
            max_popularity=self.max_popularity,
            pop_begin=self.pop_begin,
            pop_end=self.pop_end,
            per_artist=self.per_artist,
            per_album=self.per_album,
            diversity=self.diversity,
            long_tail=self.long_tail or None,
            paper=self.paper,
        )


A = TypeVar("A", bound=Asked)


def read(model: type[A], request: HttpRequest) -> A:
    """Read the parameters of a request, from its path and its query.

    Raises
    ------
    DataError
        For one that is missing, unknown or beyond its limits.
    """
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in LISTS:
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    try:
        return model.model_validate(given | request.path_params)
    except ValidationError as error:
        raise DataError(_in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(x) for x in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no parameter {name[:60]!r} here; /openapi.json lists those that are"
    given = first.get("input")
    found = f", found {str(given)[:60]!r}" if isinstance(given, str | int | float) else ""
    return f"{name}: {first['msg']}{found}"
