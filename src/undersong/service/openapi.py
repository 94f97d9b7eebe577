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
            x.path.replace(":path", ""): {"post" if x.file else "get": _operation(x)}
            for x in OPERATIONS
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    errors = {
        str(status): {"description": meaning, "content": _content(Error)}
        for status, meaning in {**ERRORS, **operation.errors}.items()
    }
    good = {"description": "The answer.", "content": _content(operation.reply)}
    described = {
        "description": operation.summary,
        "parameters": _parameters(operation.path, operation.parameters),
        "responses": {"200": good, **errors},
    }
    return {**described, "requestBody": _upload()} if operation.file else described


def _content(reply: type[BaseModel] | str) -> dict[str, Any]:
    if isinstance(reply, str):
        return {reply: {}}
    return {"application/json": {"schema": {"$ref": PLACES.format(model=reply.__name__)}}}


def _upload() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "An audio file."}
    form = {"type": "object", "properties": {"file": file}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}}}


def _parameters(path: str, model: type[Parameters] | None) -> list[dict[str, Any]]:
    """Describe parameters; those that the path names stand in the address."""
    if model is None:
        return []
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "path" if re.search(rf"{{{name}[:}}]", path) else "query",
            "required": name in schema.get("required", ()),
            # Nothing in an address is null: what may be left out is left out.
            "schema": about["anyOf"][0] if "anyOf" in about else about,
        }
        for name, about in schema["properties"].items()
    ]
