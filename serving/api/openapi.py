"""The OpenAPI 3.1 document: every route, field, status, reply type and header, with examples.

Bodies are the models of `schemas`; replies are described in `reply_schemas`. `docs/openapi.json` is this document, as
`python -m serving openapi` writes it.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from serving import __version__
from serving.api.http import problems
from serving.api.http import responses as replies
from serving.api.reply_schemas import REPLIES
from serving.api.schemas import Body, DigitsBody, InterpolateBody, PictureQuery, SampleBody, StyleMixBody
from serving.api.telemetry import metrics
from serving.api.web import site

DESCRIPTION = (
    "Pictures from generative adversarial networks. Every picture has an address, (model, seed, index), and is the "
    "same bytes each time. `Accept` chooses the format of a reply; errors are problem documents (RFC 9457). "
    "HEAD is answered as GET is, without the content."
)
SCHEMA = "#/components/schemas/{model}"

EXAMPLES: dict[type[Body], dict[str, dict[str, Any]]] = {
    SampleBody: {
        "one picture": {"seed": 7},
        "a grid of a range": {"n": 24, "seed": 7, "start": 100, "columns": 12, "scale": 2},
    },
    DigitsBody: {
        "a number, three times": {"digits": "3141592653589", "rows": 3, "seed": 7},
        "as a list": {"digits": [2, 0, 2, 6]},
    },
    InterpolateBody: {
        "a walk": {"keyframes": [7, 8, {"seed": 9, "index": 3}], "frames": 25},
        "a loop": {"keyframes": [7, 8, 9, 10], "frames": 80, "loop": True, "fps": 20, "scale": 4},
    },
    StyleMixBody: {
        "a figure": {"rows": [1, 2, 3, 4], "columns": [11, 12, {"seed": 13, "index": 5}], "styles": "coarse"},
        "chosen layers": {"rows": [1], "columns": [2], "styles": [0, 1], "truncation": 0.7},
    },
}
STATUSES = {
    401: "API keys are asked for, and the one given counts for nothing.",
    404: "There is no such model.",
    406: "`Accept` allows none of the formats.",
    408: "The body was too slow in coming.",
    413: "The body is larger than 64 KiB.",
    415: "The body is not `application/json`.",
    422: "A field is wrong; `errors` points at it.",
    429: "This client asks for more than its quota.",
    503: "Too much work is waiting, or the server is about to end.",
    504: "The deadline passed before the pictures were done.",
}
RETRY = (429, 503)  # these say when to come back


def text() -> str:
    """The document as it is committed and served."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ganymede",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "tags": [{"name": "pictures"}, {"name": "models"}, {"name": "operation"}, {"name": "reference"}],
        "paths": _pictures() | _urls() | _models() | _operation() | _reference(),
        "components": _components(),
    }


def _pictures() -> dict[str, Any]:
    """The four POST routes."""
    made = {}
    for body, name, summary in (
        (SampleBody, "sample", "Pictures at a range of addresses"),
        (DigitsBody, "digits", "The digits asked for, from a conditional model"),
        (InterpolateBody, "interpolate", "Frames on the way from one address to the next"),
        (StyleMixBody, "styleMix", "Every row's picture with styles taken from every column's"),
    ):
        formats = replies.ANIMATIONS if body is InterpolateBody else replies.STILLS
        examples = {title: {"value": value} for title, value in EXAMPLES[body].items()}
        content = {"schema": _ref(body.__name__), "examples": examples}
        statuses = (401, 404, 406, 408, 413, 415, 422, 429, 503, 504)
        made[body.route] = {
            "post": {
                "operationId": name,
                "tags": ["pictures"],
                "summary": summary,
                "description": _described(body),
                "parameters": [_parameter("RequestId"), _parameter("RequestTimeout")],
                "requestBody": {"required": True, "content": {"application/json": content}},
                "responses": {"200": _success(formats, Vary=_text("Accept"))} | _problems(*statuses),
            }
        }
    return made


def _urls() -> dict[str, Any]:
    """The URLs of pictures, one route for each format."""
    query = PictureQuery.model_json_schema(ref_template=SCHEMA)["properties"]
    path = [_in("path", "model", {"type": "string"}, "An id of `GET /v1/models`.", example="stylegan-lite-critters")]
    path += [_in("path", name, _bare(query[name]), example=7) for name in ("seed", "index")]
    asked = [
        _in("query", name, _bare(query[name]), query[name]["description"]) for name in ("label", "truncation", "scale")
    ]
    held = _in("header", "If-None-Match", {"type": "string"}, "ETags of what the sender holds.")
    cached = {"ETag": _text("The model's files, the address and how it is shown."), "Cache-Control": _text("For ever.")}
    made = {}
    for extension, media_type in replies.EXTENSIONS.items():
        made[f"/v1/images/{{model}}/{{seed}}/{{index}}.{extension}"] = {
            "get": {
                "operationId": f"picture{extension.capitalize()}",
                "tags": ["pictures"],
                "summary": f"The picture at an address, as {media_type}",
                "description": "It never changes while the model's files do not.",
                "parameters": [*path, *asked, held, _parameter("RequestId"), _parameter("RequestTimeout")],
                "responses": {
                    "200": _success([media_type], **cached),
                    "304": {"description": "The sender holds it.", "headers": _headers(**cached)},
                    **_problems(401, 404, 422, 429, 503, 504),
                },
            }
        }
    return made


def _models() -> dict[str, Any]:
    id = _in("path", "id", {"type": "string"}, example="stylegan-lite-critters")
    return {
        "/v1/models": _get("models", "models", "Every model", _json("Models"), _problems(401, 429)),
        "/v1/models/{id}": _get("models", "model", "One model", _json("Model"), _problems(401, 404, 429), [id]),
    }


def _operation() -> dict[str, Any]:
    text = _reply("Prometheus' text format.", {metrics.MEDIA_TYPE: {"schema": {"type": "string"}}})
    refused = {"503": _problem("A model makes no pictures, or the server is about to end.", retry=True)}
    ready = _get("operation", "ready", "Whether this process should be sent requests", _json("Status"), refused)
    alive = _get("operation", "alive", "Whether this process answers", _json("Status"), {})
    for path in (ready, alive):
        path["get"]["security"] = []
    counted = _get("operation", "metrics", "What the service counts of itself", text, _problems(401))
    return {"/livez": alive, "/readyz": ready, "/metrics": counted}


def _reference() -> dict[str, Any]:
    page = _reply("An interactive page.", {"text/html; charset=utf-8": {"schema": {"type": "string"}}})
    part = {media_type: {"schema": {"type": "string"}} for media_type in ("text/javascript", "text/css")}
    anything = _reply("A document.", {"application/json": {"schema": {"type": "object"}}})
    file = _in("path", "file", {"type": "string"}, example="docs.css")
    unknown = {"404": _problem("There is no such file.")}
    refused = _problems(401)
    return _playground() | {
        "/docs": _get("reference", "docs", "This document as a page", page, refused),
        "/docs/{file}": _get(
            "reference", "docsPart", "What the page is made of", _reply("A part.", part), refused | unknown, [file]
        ),
        "/openapi.json": _get("reference", "openapi", "This document", anything, refused),
        "/schema.json": _get("reference", "schema", "What BentoML's clients read first", anything, refused),
    }


def _playground() -> dict[str, Any]:
    """The page and its parts, which ask for no key: the page is where one is entered."""
    string = {"schema": {"type": "string"}}
    page = _reply("An interactive page.", {site.MEDIA_TYPES[".html"]: string})
    part = _reply(
        "A part.", {kind.partition(";")[0]: string for kind in site.MEDIA_TYPES.values() if "html" not in kind}
    )
    held = _in("header", "If-None-Match", {"type": "string"}, "The ETag of what the sender holds.")
    file = _in("path", "file", {"type": "string"}, example="main.js")
    cached = _headers(ETag=_text("Of its content."), **{"Cache-Control": _text("Asked for again each time.")})
    for success in (page, part):
        success["headers"] = cached
    answers = {"304": {"description": "The sender holds it.", "headers": cached}}
    unknown = {"404": _problem("There is no such file.")}
    made = {
        "/": _get("reference", "playground", "The playground: the models, with one's hands", page, answers, [held]),
        "/playground/{file}": _get(
            "reference", "playgroundPart", "What the playground is made of", part, answers | unknown, [file, held]
        ),
    }
    for path in made.values():
        path["get"]["security"] = []
    return made


def _get(
    tag: str,
    name: str,
    summary: str,
    success: Mapping[str, Any],
    refusals: Mapping[str, Any],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "tags": [tag],
            "summary": summary,
            "parameters": [*(parameters or []), _parameter("RequestId")],
            "responses": {"200": success, **refusals},
        }
    }


def _components() -> dict[str, Any]:
    bodies = (SampleBody, DigitsBody, InterpolateBody, StyleMixBody)
    _, definitions = models_json_schema([(body, "validation") for body in bodies], ref_template=SCHEMA)
    schemas = {name: _untitled(schema) for name, schema in definitions["$defs"].items()}
    request_id = _in(
        "header", "X-Request-Id", {"type": "string"}, "Echoed; made where it is absent or unfit for a log."
    )
    request_timeout = _in(
        "header",
        "X-Request-Timeout",
        {"type": "number", "exclusiveMinimum": 0},
        "Seconds the sender will wait, at most; the server's own limit (30 unless set) stands where it asks for more.",
        example=5,
    )
    return {
        "schemas": schemas | REPLIES,
        "parameters": {"RequestId": request_id, "RequestTimeout": request_timeout},
        "headers": {
            "RequestId": _text("The sender's, or one that was made; it stands in the server's log."),
            "RetryAfter": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
        },
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "Where API keys are asked for."}
        },
    }


def _success(media_types: tuple[str, ...] | list[str], **headers: dict[str, Any]) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    schemas = {kind: {"schema": _ref("Pictures") if kind == replies.JSON else binary} for kind in media_types}
    told = {
        "X-Ganymede-Model": _text("The id of the model."),
        "X-Ganymede-Model-SHA256": _text("Over its files: where it is the same, an address is the same picture."),
        "X-Ganymede-Version": _text("Of the server."),
        "X-Ganymede-Seed": _text("Of a range of addresses, with the first index in X-Ganymede-Start."),
        "X-Ganymede-Start": _text("The index of the first picture."),
        "X-Ganymede-Addresses": _text("Of what is no range: `seed:index` of each, nothing for what has none."),
        "X-Ganymede-Labels": _text("The class of each picture, of a conditional model."),
        "Server-Timing": _text("Milliseconds in the queue, computed, and encoded."),
    }
    return {"description": "Pictures.", "headers": _headers(**told, **headers), "content": schemas}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _problem(STATUSES[status], retry=status in RETRY) for status in statuses}


def _problem(description: str, *, retry: bool = False) -> dict[str, Any]:
    headers = {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}} if retry else {}
    return {
        "description": description,
        "headers": _headers(**headers),
        "content": {problems.MEDIA_TYPE: {"schema": _ref("Problem")}},
    }


def _json(schema: str) -> dict[str, Any]:
    return _reply("As it is.", {"application/json": {"schema": _ref(schema)}})


def _reply(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "headers": _headers(), "content": dict(content)}


def _headers(**headers: dict[str, Any]) -> dict[str, Any]:
    return {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}, **headers}


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _in(place: str, name: str, schema: dict[str, Any], description: str = "", *, example: Any = None) -> dict[str, Any]:
    made = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return (
        made | ({"description": description} if description else {}) | ({} if example is None else {"example": example})
    )


def _parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": SCHEMA.format(model=schema)}


def _described(body: type[Body]) -> str:
    """The first sentence of its docstring after the route."""
    text = (body.__doc__ or "").partition(": ")[2]
    return text[0].upper() + text[1:]


def _bare(field: Mapping[str, Any]) -> dict[str, Any]:
    """A field of a body as a parameter: what is absent from a URL is absent, and never null."""
    schema = {key: value for key, value in field.items() if key not in ("title", "description", "default")}
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    return schema | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _untitled(schema: Any) -> Any:
    """Without the titles that repeat the names of fields."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _untitled(value) for key, value in schema.items()}
    if isinstance(made.get("title"), str) and made.get("type") != "object":
        del made["title"]
    return made
