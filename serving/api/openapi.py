"""The OpenAPI 3.1 document: every route, field, status, media type and header, with examples.

Requests are the models of `schemas`, replies those of `reply_models`. `python -m serving openapi` writes the document
to `docs/openapi.json`. The tag `pictures` and the operations keep their names: generated clients name modules and
methods after them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as METRICS
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from serving import __version__
from serving.api import reply_models as replies
from serving.api.endpoints.infer import MAX_BYTES
from serving.api.http.problems import MEDIA_TYPE as PROBLEM
from serving.api.http.responses import ANIMATIONS, EXTENSIONS, JSON, STILLS
from serving.api.schemas import Body, DigitsBody, ImageQuery, InferBody, InterpolateBody, SampleBody, StyleMixBody

SCHEMA = "#/components/schemas/{model}"
STRING = {"type": "string"}
BINARY = {"type": "string", "format": "binary"}
OBJECT = {JSON: {"type": "object"}}
PAGE = {"text/html; charset=utf-8": STRING}
PART = {"text/javascript": STRING, "text/css": STRING, "image/svg+xml": STRING}
DESCRIPTION = (
    "Images from generative adversarial networks. Every image has an address, (model, seed, index), and is the "
    "same bytes each time. Seeds and indices are unsigned 64-bit; signed 64-bit integers hold those below 2^63. "
    "`Accept` chooses the format of a reply; errors are problem documents (RFC 9457). "
    "HEAD is answered as GET is, without the content."
)
EXAMPLES: dict[type[Body], dict[str, dict[str, Any]]] = {
    SampleBody: {
        "one image": {"seed": 7},
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
INFER_EXAMPLES: dict[str, dict[str, Any]] = {
    "an address": {"inputs": [{"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [7]}]},
    "four images of a seed": {
        "inputs": [
            {"name": "seed", "datatype": "UINT64", "shape": [4, 1], "data": [7, 7, 7, 7]},
            {"name": "index", "datatype": "UINT64", "shape": [4, 1], "data": [[0], [1], [2], [3]]},
        ],
        "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
    },
}
STATUSES = {
    304: "The client holds it already.",
    401: "The server requires an API key, and the request carries none that is valid.",
    404: "There is no such model or file.",
    406: "`Accept` allows none of the formats.",
    408: "The body did not arrive in time.",
    413: "The body is larger than 64 KiB, or 16 MiB for raw latents.",
    415: "The body is not of a media type that the route takes.",
    422: "A field is invalid; `errors` points at it.",
    429: "The client is over its rate limit.",
    503: "The server is overloaded, draining, or fails its readiness check.",
    504: "The deadline passed before the images were done.",
}
IMAGE_HEADERS = {
    "X-Ganymede-Model": "Id of the model.",
    "X-Ganymede-Model-SHA256": "SHA-256 over the model's files: while it is the same, so is the image at an address.",
    "X-Ganymede-Version": "Version of the server.",
    "X-Ganymede-Seed": "Seed of a range of addresses; X-Ganymede-Start has its first index.",
    "X-Ganymede-Start": "Index of the first image.",
    "X-Ganymede-Addresses": "Of images that are no range: `seed:index` of each, empty for one without an address.",
    "X-Ganymede-Labels": "Conditional models: the class of each image.",
    "X-Ganymede-Truncation": "As it was requested.",
    "Server-Timing": "Milliseconds in the queue, of inference, and of encoding.",
}
CACHE_HEADERS = {"ETag": "Changes with the content.", "Cache-Control": "Says how long the content may be kept."}


class Schemas(GenerateJsonSchema):
    """Schemas without titles that repeat a field's name, and without some defaults.

    A default of null is left out where null is not allowed. That of a union is left out because generated Go does not
    compile with it.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        made = super().default_schema(schema)
        null = made.get("default", ...) is None and {"type": "null"} not in made.get("anyOf", ())
        if null or "oneOf" in made:
            made.pop("default", None)
        return made


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
        "tags": [
            {"name": "pictures"},
            {"name": "models"},
            {"name": "inference"},
            {"name": "operation"},
            {"name": "reference"},
        ],
        "paths": _posts() | _gets() | _inference(),
        "components": _components(),
    }


def _posts() -> dict[str, Any]:
    routes: tuple[tuple[type[Body], str, str, tuple[str, ...]], ...] = (
        (SampleBody, "sample", "Images at a range of addresses", STILLS),
        (DigitsBody, "digits", "The given digits, from a conditional model", STILLS),
        (InterpolateBody, "interpolate", "Frames on the way from one address to the next", ANIMATIONS),
        (StyleMixBody, "styleMix", "Every row's image with styles of every column's image", STILLS),
    )
    paths = {}
    for body, name, summary, media_types in routes:
        content = dict.fromkeys(media_types, BINARY) | {JSON: _ref(replies.Images)}
        operation = _operation("pictures", name, summary, content, (401, 404, 406, 408, 413, 415, 422, 429, 503, 504))
        description = (body.__doc__ or "").partition(": ")[2]
        operation["description"] = description[0].upper() + description[1:]
        examples = {title: {"value": value} for title, value in EXAMPLES[body].items()}
        request = {"schema": _ref(body), "examples": examples}
        operation["requestBody"] = {"required": True, "content": {JSON: request}}
        paths[body.route] = {"post": operation}
    return paths


def _gets() -> dict[str, Any]:
    fields = ImageQuery.model_json_schema(schema_generator=Schemas)["properties"]
    ids = "An id of `GET /v1/models`."
    image, id = (_parameter("path", name, STRING, ids, "stylegan-lite-critters") for name in ("model", "id"))
    address = [image, *(_parameter("path", name, fields[name], example=7) for name in ("seed", "index"))]
    query = [_parameter("query", name, fields[name]) for name in ("label", "truncation", "edit", "scale")]
    script, style = (_parameter("path", "file", STRING, example=name) for name in ("main.js", "docs.css"))
    models, model, status = ({JSON: _ref(reply)} for reply in (replies.Models, replies.Model, replies.Status))
    operations = {
        f"/v1/images/{{model}}/{{seed}}/{{index}}.{extension}": _operation(
            "pictures",
            f"picture{extension.capitalize()}",
            f"The image at an address, as {media_type}",
            {media_type: BINARY},
            (304, 401, 404, 422, 429, 503, 504),
            *address,
            *query,
        )
        | {"description": "It changes only with the model's files."}
        for extension, media_type in EXTENSIONS.items()
    } | {
        "/v1/models": _operation("models", "models", "Every model", models, (401, 429)),
        "/v1/models/{id}": _operation("models", "model", "One model", model, (401, 404, 429), id),
        "/livez": _operation("operation", "alive", "Liveness of this process", status, ()),
        "/readyz": _operation("operation", "ready", "Readiness of this process for requests", status, (503,)),
        "/metrics": _operation("operation", "metrics", "Metrics of the service", {METRICS: STRING}, (401,)),
        "/": _operation("reference", "playground", "The playground", PAGE, (304,)),
        "/playground/{file}": _operation(
            "reference", "playgroundPart", "A file of the playground", PART, (304, 404), script
        ),
        "/docs": _operation("reference", "docs", "This document as a page", PAGE, (401,)),
        "/docs/{file}": _operation("reference", "docsPart", "A file of the docs page", PART, (401, 404), style),
        "/openapi.json": _operation("reference", "openapi", "This document", OBJECT, (401,)),
        "/schema.json": _operation("reference", "schema", "The schema for BentoML's clients", OBJECT, (401,)),
    }
    return {path: {"get": operation} for path, operation in operations.items()}


def _inference() -> dict[str, Any]:
    """The Open Inference Protocol, version 2, with the binary tensor extension."""
    model = _parameter("path", "model", STRING, "An id of `GET /v1/models`.", "stylegan-lite-critters")
    length = _parameter(
        "header",
        "Inference-Header-Content-Length",
        {"type": "integer", "minimum": 1, "maximum": MAX_BYTES},
        "Bytes of the JSON, where binary tensors follow it.",
    )
    content = {JSON: _ref(replies.InferReply), "application/octet-stream": BINARY}
    statuses = (401, 404, 408, 413, 415, 422, 429, 503, 504)
    infer = _operation("inference", "infer", "Raw latents in, images and styles out", content, statuses, model, length)
    infer["responses"]["200"]["headers"]["Inference-Header-Content-Length"] = {
        "description": "Bytes of the JSON, where binary tensors follow it.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_BYTES},
    }
    examples = {title: {"value": value} for title, value in INFER_EXAMPLES.items()}
    media = {JSON: {"schema": _ref(InferBody), "examples": examples}, "application/octet-stream": {"schema": BINARY}}
    infer["requestBody"] = {"required": True, "content": media}
    server, about = ({JSON: _ref(reply)} for reply in (replies.ServerMetadata, replies.ModelMetadata))
    live, ready = ({JSON: _ref(reply)} for reply in (replies.Alive, replies.Ready))
    gets = {
        "/v2": _operation("inference", "inferenceServer", "The server", server, (401,)),
        "/v2/health/live": _operation("inference", "inferenceLive", "Liveness of this process", live, ()),
        "/v2/health/ready": _operation("inference", "inferenceReady", "Readiness of this process", ready, (503,)),
        "/v2/models/{model}": _operation("inference", "inferenceModel", "Tensors of a model", about, (401, 404), model),
        "/v2/models/{model}/ready": _operation(
            "inference", "inferenceModelReady", "Readiness of a model", ready, (401, 404, 503), model
        ),
    }
    return {path: {"get": operation} for path, operation in gets.items()} | {
        "/v2/models/{model}/infer": {"post": infer}
    }


def _operation(
    tag: str, name: str, summary: str, content: Mapping[str, Any], statuses: Sequence[int], *parameters: Any
) -> dict[str, Any]:
    """An operation that answers 200 with `content`, or one of `statuses`, which say the rest.

    304: an ETag and If-None-Match. 406: a choice by Accept. 504: a deadline. No 401: no API key is needed.
    """
    caching = CACHE_HEADERS if 304 in statuses else {}
    headers = (IMAGE_HEADERS if tag == "pictures" else {}) | ({"Vary": "Accept"} if 406 in statuses else {}) | caching
    responses = {"200": _response(summary, content, headers)}
    for status in statuses:
        problem = {PROBLEM: _ref(replies.Problem)}
        responses[str(status)] = _response(STATUSES[status], *(({}, caching) if status == 304 else (problem, {})))
        if status in (429, 503):
            responses[str(status)]["headers"]["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    shared = ["IfNoneMatch"] * (304 in statuses) + ["RequestId"] + ["RequestTimeout"] * (504 in statuses)
    operation = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": [*parameters, *({"$ref": f"#/components/parameters/{key}"} for key in shared)],
        "responses": responses,
    }
    return operation if 401 in statuses else operation | {"security": []}


def _response(description: str, content: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """A response with the schema of each media type and the description of each header."""
    described = {name: {"description": text, "schema": STRING} for name, text in headers.items()}
    response = {
        "description": description,
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}, **described},
        "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
    }
    return {key: value for key, value in response.items() if value}


def _parameter(place: str, name: str, schema: Mapping[str, Any], text: str = "", example: Any = None) -> dict[str, Any]:
    """A parameter. It may be absent but is never null, so the null in the schema of an optional field is left out.

    A maximum above that of its format is left out as well: generated Go compares the parameter with it, and does not
    compile.
    """
    bare = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "description")}
    for kind in schema.get("anyOf", ()):
        bare |= kind if kind != {"type": "null"} else {}
    if bare.get("maximum", 0) >= 2**63:
        del bare["maximum"]
    parameter = {"name": name, "in": place, "required": place == "path", "schema": bare}
    more = {"description": text or schema.get("description"), "example": example}
    return parameter | {key: value for key, value in more.items() if value is not None}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": SCHEMA.format(model=model.__name__)}


def _components() -> dict[str, Any]:
    made = (replies.Images, replies.Models, replies.Status, replies.Problem)
    inference = (
        InferBody,
        replies.ServerMetadata,
        replies.ModelMetadata,
        replies.InferReply,
        replies.Alive,
        replies.Ready,
    )
    models: list[type[BaseModel]] = [*EXAMPLES, *made, *inference]
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template=SCHEMA, schema_generator=Schemas
    )
    timeout = {"type": "number", "exclusiveMinimum": 0}
    limit = "Seconds that the client will wait. It can only lower the server's own limit (30 by default)."
    return {
        "schemas": schemas["$defs"],
        "parameters": {
            "IfNoneMatch": _parameter("header", "If-None-Match", STRING, "ETags of what the client holds."),
            "RequestId": _parameter("header", "X-Request-Id", STRING, "Echoed; replaced if it does not fit a log."),
            "RequestTimeout": _parameter("header", "X-Request-Timeout", timeout, limit, example=5),
        },
        "headers": {
            "RequestId": {"description": "The client's, or one the server made; also in its log.", "schema": STRING},
            "RetryAfter": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}},
        },
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "Where keys are required."}},
    }
