"""The JSON schemas of what is answered in JSON: pictures, models, health, problems. `openapi` shows them."""

from typing import Any

from serving.engine.model_json import GRAPHS

TEXT: dict[str, Any] = {"type": "string"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
ADDRESS = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**64 - 1}


def _object(title: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }


def _list(of: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{of}"}}


REPLIES = {
    "Picture": _object(
        "Picture",
        {
            "seed": ADDRESS | {"description": "null with `index`: it lies between addresses, or is a mix of two."},
            "index": ADDRESS,
            "png": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"},
        },
        {
            "label": {"type": "integer", "minimum": 0, "description": "The class, of a conditional model."},
            "class": {"type": "string", "description": "Its name."},
        },
    ),
    "Pictures": _object(
        "Pictures",
        {
            "model": TEXT,
            "model_sha256": SHA256 | {"description": "Over its files."},
            "version": {"type": "string", "description": "Of the server."},
            "images": _list("Picture"),
        },
        {"truncation": {"type": "number", "minimum": 0, "maximum": 1}},
    ),
    "Model": _object(
        "Model",
        {
            "schema_version": {"type": "integer", "const": 1},
            "id": TEXT,
            "name": TEXT,
            "family": {"type": "string", "enum": [*GRAPHS]},
            "licence": TEXT,
            "dataset": {"type": "object", "additionalProperties": True},
            "image": _object(
                "Image", {name: {"type": "integer", "minimum": 1} for name in ("height", "width", "channels")}
            ),
            "latent_size": {"type": "integer", "minimum": 1},
            "files": {"type": "object", "additionalProperties": True},
            "training": {"type": "object", "additionalProperties": True},
            "metrics": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
            "sha256": SHA256 | {"description": "Over its files."},
        },
        {
            "classes": {"type": ["array", "null"], "items": TEXT},
            "style": {"type": ["object", "null"], "additionalProperties": True},
        },
    ),
    "Models": _object("Models", {"models": _list("Model")}),
    "Status": _object("Status", {"status": {"type": "string", "enum": ["alive", "ready"]}}),
    "FieldError": _object(
        "FieldError",
        {
            "pointer": {"type": "string", "description": "A JSON pointer (RFC 6901); `/name` for a query parameter."},
            "detail": TEXT,
        },
    ),
    "Problem": _object(
        "Problem",
        {
            "type": {"type": "string", "format": "uri"},
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What was wrong, and what would be right."},
            "instance": {"type": "string", "description": "The path that was asked for."},
            "code": {"type": "string", "description": "For programs; it does not change."},
            "request_id": TEXT,
        },
        {"errors": _list("FieldError")},
    ),
}
