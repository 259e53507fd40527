"""The GET routes, as a Starlette application that the service mounts: pictures at their addresses, models, the docs."""

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api import docs, replies
from serving.api.generators import Generators
from serving.api.problems import FieldError, Problem, invalid, refusal
from serving.api.schemas import STRICT, Between, Label, Seed, Truncation
from serving.api.validation import parse_query
from serving.engine import generation
from serving.engine.encoding import Layout
from serving.engine.generation import RequestError
from serving.engine.repository import Model

EXTENSIONS = {"png": replies.PNG, "jpg": replies.JPEG, "webp": replies.WEBP}
# A picture at an address changes only with the model's files, and then its ETag does.
CACHE = "public, max-age=31536000, immutable"


class PictureQuery(BaseModel):
    """The path and the query of a picture's URL."""

    model_config = STRICT

    seed: Seed
    index: Seed
    label: Label | None = None
    truncation: Truncation | None = None
    scale: Annotated[int, Between(1, 16)] = Field(1)


async def picture(request: Request) -> Response:
    """`GET /v1/images/{model}/{seed}/{index}.png`, or `.jpg` or `.webp`: the picture at an address."""
    generators: Generators = request.app.state.generators
    path = request.path_params
    index, _, extension = path["file"].rpartition(".")
    if extension not in EXTENSIONS:
        raise Problem(404, "unknown-route", f"`{path['file'][:60]}` must end in .png, .jpg or .webp.")
    generator = generators.get(path["model"])
    media_type = EXTENSIONS[extension]
    address = ("seed", path["seed"]), ("index", index)
    query = parse_query(PictureQuery, [*address, *request.query_params.multi_items()])
    layout = Layout(columns=1, scale=query.scale)
    try:
        plan = generation.sample(
            generator.runtime,
            seed=query.seed,
            start=query.index,
            labels=query.label,
            truncation=query.truncation,
        )
        replies.check_size(plan, layout, media_type)
    except RequestError as error:  # a URL has one `label` where a body has `labels`
        pointer, message = (text.replace("labels", "label", 1) for text in (error.pointer, error.message))
        raise invalid(FieldError(pointer, message)) from None
    headers = replies.headers(plan) | {"ETag": etag(generator.model, query, media_type), "Cache-Control": CACHE}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    content = await replies.encode(plan, await generator.draw(plan.inputs), None, layout, media_type)
    return Response(content, media_type=media_type, headers=headers)


async def models(request: Request) -> Response:
    """`GET /v1/models`: every model's `model.json`, in order of id."""
    generators: Generators = request.app.state.generators
    return JSONResponse({"models": [describe(model) for model in generators.models]})


async def model(request: Request) -> Response:
    """`GET /v1/models/{id}`: what its `model.json` says, and the sha256 over its files that replies carry."""
    generators: Generators = request.app.state.generators
    return JSONResponse(describe(generators.get(request.path_params["id"]).model))


def describe(model: Model) -> dict[str, Any]:
    return model.document | {"sha256": model.sha256}


def etag(model: Model, query: PictureQuery, media_type: str) -> str:
    """A strong validator: the model's files, the address, and how the picture is shown."""
    parts = (model.sha256, media_type, query.model_dump_json())
    return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the sender holds what it asks for (RFC 9110, section 13.1.2; weak comparison)."""
    held = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in held or etag in held


async def refuse(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return refusal(request.scope, problem)


app = Starlette(
    routes=[
        Route("/", docs.page),
        Route("/docs", docs.page),
        Route("/openapi.json", docs.openapi),
        Route("/v1/models", models),
        Route("/v1/models/{id}", model),
        Route("/v1/images/{model}/{seed}/{file}", picture),
    ],
    exception_handlers={Problem: refuse},
)
