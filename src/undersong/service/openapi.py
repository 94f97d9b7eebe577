"""What may be asked of the own API and what it replies, as OpenAPI, for clients and their makers.

Made here and not by a framework, which would read every request by it: reading the parameters of
one took longer than all else that a request takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from undersong import __version__
from undersong.service import schemas
from undersong.service.options import UPLOAD
from undersong.service.schemas import (
    Asked,
    ExplainQuery,
    OfKind,
    OneQuery,
    PathQuery,
    SimilarQuery,
    SoundQuery,
    SuggestQuery,
)

SUMMARY = "What is similar to an artist or a track, also to those that nobody has linked."
PLACES = "#/components/schemas/{model}"
WRONG = {
    400: "A parameter is wrong; the line says which.",
    401: "The token is missing or another one.",
    404: "There is no such item, with those like it.",
    414: "The address is too long.",
    429: "Too many requests in too short a time.",
    503: "Not now; try again.",
}


@dataclass(frozen=True)
class Operation:
    """One question: what it is for, its parameters, the shape of the reply, what may go wrong.

    Parameters
    ----------
    reply : shape of a good reply in JSON; or the media type of another one
    wrong : further statuses and what they mean
    file : whether an audio file is sent by POST
    """

    about: str
    asked: type[Asked] | None
    reply: type[BaseModel] | str
    wrong: Mapping[int, str] = field(default_factory=dict)
    file: bool = False


OPERATIONS = {
    "/api/items/{kind}/{id}/similar": Operation(
        "List what is similar to an item, best first; filters keep the order. Of several, further "
        "ones in also, each lists its own answers: those high in the lists of several come first, "
        "with the seeds that led to them.",
        SimilarQuery,
        schemas.Similar,
    ),
    "/api/items/{kind}/{id}": Operation(
        "Say all that is known of an item.", OneQuery, schemas.OneItem
    ),
    "/api/search": Operation(
        "List items that somebody may mean who has typed this much: those with the very name, then "
        "those whose names begin so, with it as a whole word first, then those that hold it; "
        "artists before tracks, the best known first. With kind artists or tracks alone.",
        SuggestQuery,
        schemas.Suggestions,
    ),
    "/api/explain": Operation(
        "Say why one item is similar to another.", ExplainQuery, schemas.Explanation
    ),
    "/api/path": Operation(
        "Find a chain between two items in which each step is near.", PathQuery, schemas.Chain
    ),
    "/api/map": Operation(
        "Give every item its place on the map; compressed where the client takes gzip.",
        OfKind,
        schemas.MapShape,
    ),
    "/api/genres": Operation("List what the filter genre may say.", OfKind, schemas.Genres),
    "/api/regions": Operation("List what the filter region may say.", OfKind, schemas.Regions),
    "/api/report": Operation(
        "Give the report on how good this model is, report.json of the run.",
        None,
        "application/json",
    ),
    "/api/sounds-like": Operation(
        "List what sounds most like an audio file; nothing of it is kept.",
        SoundQuery,
        schemas.Similar,
        {
            408: "The file came too slowly.",
            413: f"The file has more than {UPLOAD:,} bytes.",
            415: "The file gives no sound; the line says why.",
            501: "This service cannot hear; the line says what to install.",
        },
        file=True,
    ),
    "/media/{kind}/{id}": Operation(
        "Play a local audio file; a player may ask for parts of it.", OneQuery, "audio/*"
    ),
    "/health": Operation("Say that the process is up.", None, schemas.Health),
    "/ready": Operation("Say that a generation is open, and which.", None, schemas.Ready),
}


@cache
def describe() -> dict[str, Any]:
    """Make the OpenAPI document, version 3.1."""
    replies = {x.reply for x in OPERATIONS.values() if not isinstance(x.reply, str)}
    ordered = sorted(replies | {schemas.Error}, key=lambda x: x.__name__)
    _, made = models_json_schema([(x, "validation") for x in ordered], ref_template=PLACES)
    return {
        "openapi": "3.1.0",
        "info": {"title": "undersong", "summary": SUMMARY, "version": __version__},
        "paths": {
            path: {"post" if one.file else "get": _operation(path, one)}
            for path, one in OPERATIONS.items()
        },
        "components": {"schemas": made["$defs"]},
    }


def _operation(path: str, one: Operation) -> dict[str, Any]:
    wrong = {
        str(status): {"description": said, "content": _content(schemas.Error)}
        for status, said in {**WRONG, **one.wrong}.items()
    }
    found = {
        "description": one.about,
        "parameters": _parameters(path, one.asked) if one.asked else [],
        "responses": {
            "200": {"description": "The answer.", "content": _content(one.reply)},
            **wrong,
        },
    }
    return {**found, "requestBody": _upload()} if one.file else found


def _content(reply: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(reply, str):
        return {reply: {}}
    return {"application/json": {"schema": {"$ref": PLACES.format(model=reply.__name__)}}}


def _upload() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "An audio file."}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


def _parameters(path: str, model: type[Asked]) -> list[dict[str, Any]]:
    """Describe parameters; those that the path names stand in the address."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "path" if f"{{{name}}}" in path else "query",
            "required": name in schema.get("required", ()),
            # Nothing in an address is null: what may be left out is left out.
            "schema": about["anyOf"][0] if "anyOf" in about else about,
        }
        for name, about in schema["properties"].items()
    ]
