"""What may be asked: the parameters of each question, with their limits.

Read by ``read``, and not by FastAPI, which takes as long for these parameters as everything else
of a request takes together; it documents them all the same.
"""

from typing import Annotated, Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request as HttpRequest

from undersong.catalogue.tables import Kind
from undersong.retrieval.request import Request
from undersong.service.settings import MOST, TEXT

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
WORDS = 20  # genres or regions of one request
STEPS = 100  # of a chain
Text = Annotated[str, Field(min_length=1, max_length=TEXT, pattern=PRINTABLE)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Year = Annotated[int, Field(ge=0, le=9999)]
Cap = Annotated[int, Field(ge=1, le=MOST)]
LISTS = frozenset({"genre", "region"})  # parameters that may stand there again


class Asked(BaseModel):
    """Parameters of a question; unknown ones are refused, since a typing error would be silent."""

    model_config = ConfigDict(extra="forbid")


class OfKind(Asked):
    """Which items are meant."""

    kind: Kind


class SuggestQuery(OfKind):
    """What somebody has typed so far."""

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
    """A wish about answers, as ``retrieval.request.Request`` explains it."""

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
    RequestValidationError
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
        found = [{**x, "loc": ("query", *x["loc"])} for x in error.errors(include_url=False)]
        raise RequestValidationError(found) from error


def described(model: type[Asked], *, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe parameters for the OpenAPI; those named in ``path`` stand in the address."""
    schema = model.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "path" if name in path else "query",
            "required": name in schema.get("required", ()),
            # Nothing in an address is null: what may be left out is left out.
            "schema": about["anyOf"][0] if "anyOf" in about else about,
        }
        for name, about in schema["properties"].items()
    ]
    return {"parameters": parameters}
