"""What may be asked of the own API and what it replies, as OpenAPI, for clients and their makers.

Made here and not by a framework, which would read every request by it: reading the parameters of
one took longer than all else that a request takes.
"""

import re
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from undersong import __version__
from undersong.service.routes import OPERATIONS, Operation
from undersong.service.schemas import Error, Parameters

SUMMARY = "What is similar to an artist or a track, also to those that nobody has linked."
PLACES = "#/components/schemas/{model}"
ERRORS = {
    400: "A parameter is wrong; the line says which.",
    401: "The token is missing or another one.",
    404: "There is no such item, with those like it.",
    414: "The address is too long.",
    429: "Too many requests in too short a time.",
    503: "Not now; try again.",
}

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "token": {"type": "apiKey", "in": "query", "name": "token"},
}
# Of every parameter, which means the same wherever it is.
MEANINGS = {
    "a": "Id of the first item.",
    "after": "A playlist that this one goes on, by ids: rules count its songs, none comes again.",
    "all_genres": "Whether an answer must have every genre, not only one.",
    "also": "Id of a further item that is asked about; may be given again.",
    "apart": "No artist comes twice among so many songs in a row; 1: no such rule.",
    "b": "Id of the second item.",
    "decade_from": "First year of the first decade of an answer.",
    "decade_to": "First year of the last decade of an answer.",
    "diversity": "0: the order itself. 1: answers as unlike as can be.",
    "genre": "A genre of the answers (/api/genres); may be given again.",
    "graph": "Whether to answer by the graph network behind GRM, of a run that trained one.",
    "id": "Id of an item.",
    "k": "How many answers.",
    "kind": "Artists or tracks.",
    "like": "Artists and tracks, by id or name, that the songs are like.",
    "limit": "How many items.",
    "long_tail": "From -1, as lists do, over 0, all evidence, to 1, as if nobody were linked.",
    "max_popularity": "Share of the popularity that no answer exceeds.",
    "minutes": "How long a playlist lasts, instead of k songs.",
    "never": "Artists and tracks, by id or name, that do not come.",
    "only_unlinked": "Whether only items come of which no relation is known.",
    "paper": "Whether to answer by the cosine of E_G alone, as the paper does.",
    "path": "The first and the last song of a playlist.",
    "per_album": "At most so many answers of one album.",
    "per_artist": "At most so many answers of one artist.",
    "plays": "How often somebody plays each item, by id or name.",
    "pop_begin": "Share of the popularity from which answers come.",
    "pop_end": "Share of the popularity up to which answers come.",
    "q": "What somebody has typed so far.",
    "reasons": "Whether each answer comes with its reasons.",
    "region": "A region of the answers (/api/regions); may be given again.",
    "shuffle": "Number of another playlist of the same kind, the same each time.",
    "smooth": "What being near to the song before is worth beside relevance.",
    "steps": "At most so many steps.",
    "tag": "A tag that the items of a list have.",
    "tastes": "Most groups of what is played that take turns.",
    "unlike": "Items that no answer is nearer to than to one that is asked about.",
    "unlinked": "At least this share of songs is by artists whom nobody has linked.",
    "words": "NAME=VALUE, or a phrase; may be given again.",
}


@cache
def describe() -> dict[str, Any]:
    """Make the OpenAPI document, version 3.1."""
    replies = {x.reply for x in OPERATIONS if not isinstance(x.reply, str)}
    ordered = sorted(replies | {Error}, key=lambda x: x.__name__)
    _, schemas = models_json_schema([(x, "validation") for x in ordered], ref_template=PLACES)
    return {
        "openapi": "3.1.0",
        "info": {"title": "undersong", "summary": SUMMARY, "version": __version__},
        "paths": {
            x.path.replace(":path", ""): {"post" if x.file or x.body else "get": _operation(x)}
            for x in OPERATIONS
        },
        "components": {"schemas": schemas["$defs"], "securitySchemes": SECURITY},
        # A service without a token wants none.
        "security": [*({x: []} for x in SECURITY), {}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    errors = {
        str(status): {"description": meaning, "content": _content(Error)}
        for status, meaning in {**ERRORS, **operation.errors}.items()
    }
    good = {"description": "The answer.", "content": _content(operation.reply)}
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__.strip("_"),
        "description": operation.summary,
        "parameters": [] if operation.body else _parameters(operation.path, operation.parameters),
        "responses": {"200": good, **errors},
    }
    if not operation.guarded:
        described["security"] = []
    if operation.file:
        described["requestBody"] = _upload()
    if operation.body and operation.parameters:
        content = {"application/json": {"schema": _described(operation.parameters)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _content(reply: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(reply, str):
        return {reply: {}}
    return {"application/json": {"schema": {"$ref": PLACES.format(model=reply.__name__)}}}


def _upload() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "An audio file."}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


def _described(model: type[Parameters]) -> dict[str, Any]:
    """Return the shape of parameters, each with its meaning."""
    schema = model.model_json_schema()
    for name, about in schema["properties"].items():
        about["description"] = MEANINGS[name]
    return schema


def _parameters(path: str, model: type[Parameters] | None) -> list[dict[str, Any]]:
    """Describe parameters; those that the path names stand in the address."""
    if model is None:
        return []
    schema = _described(model)
    return [
        {
            "name": name,
            "description": about["description"],
            "in": "path" if re.search(rf"{{{name}[:}}]", path) else "query",
            "required": name in schema.get("required", ()),
            # Nothing in an address is null: what may be left out is left out.
            "schema": about["anyOf"][0] if "anyOf" in about else about,
        }
        for name, about in schema["properties"].items()
    ]
