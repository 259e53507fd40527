"""The GET routes, as a Starlette application: pictures at their addresses, models, health, metrics, pages."""

import hashlib
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.endpoints.generate import Operations
from serving.api.endpoints.health import Health
from serving.api.http import responses as replies
from serving.api.http.context import SCOPE_KEY, Exchange
from serving.api.http.problems import FieldError, Problem, invalid
from serving.api.http.responses import Order
from serving.api.http.validation import parse_query
from serving.api.schemas import ImageQuery
from serving.api.served_models import Generators
from serving.api.telemetry.metrics import MEDIA_TYPE
from serving.api.web import reference as docs
from serving.api.web import site
from serving.engine import generation
from serving.engine.encoding import Layout
from serving.engine.generation import RequestError
from serving.engine.repository import Model

# A picture at an address changes only with the model's files, and then its ETag does.
PUBLIC_CACHE = "public, max-age=31536000, immutable"
PRIVATE_CACHE = "private, max-age=31536000, immutable"  # where a key is asked for, no cache in between may answer


async def picture(request: Request) -> Response:
    """`GET /v1/images/{model}/{seed}/{index}.png`, or `.jpg` or `.webp`: the picture at an address."""
    operations: Operations = request.app.state.operations
    exchange: Exchange = request.scope[SCOPE_KEY]
    path = request.path_params
    extension = request.url.path.rpartition(".")[2]
    generator = operations.generators.get(path["model"])
    media_type = replies.EXTENSIONS[extension]
    address = ("seed", path["seed"]), ("index", path["index"])
    query = parse_query(ImageQuery, [*address, *request.query_params.multi_items()])
    headers = {"ETag": etag(generator.model, query, media_type), "Cache-Control": request.app.state.cache_control}
    tags = _tags(request.headers.getlist("if-none-match"))
    if headers["ETag"] in tags:
        return Response(status_code=304, headers=headers)
    with exchange.in_time():
        try:
            plan = generation.sample(
                generator.runtime,
                seed=query.seed,
                start=query.index,
                labels=query.label,
                truncation=query.truncation,
            )
            order = Order(plan, Layout(columns=1, scale=query.scale), media_type)
            order.check_size()
        except RequestError as error:  # a URL has one `label` where a body has `labels`
            pointer, message = (text.replace("labels", "label", 1) for text in (error.pointer, error.message))
            raise invalid(FieldError(pointer, message)) from None
        if "*" in tags:  # any picture that there is, and this is one
            return Response(status_code=304, headers=headers)
        return await operations.draw(exchange, generator, order, Headers(headers).raw)


async def models(request: Request) -> Response:
    """`GET /v1/models`: every model's `model.json`, in order of id."""
    return JSONResponse({"models": [describe(model) for model in _generators(request).models]})


async def model(request: Request) -> Response:
    """`GET /v1/models/{id}`: what its `model.json` says, and the sha256 over its files that replies carry."""
    return JSONResponse(describe(_generators(request).get(request.path_params["id"]).model))


async def livez(request: Request) -> Response:
    """`GET /livez`: the process answers."""
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """`GET /readyz`: every model makes its picture, and the server is not about to end."""
    health: Health = request.app.state.health
    if health.problem is not None:
        raise health.problem
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """`GET /metrics`."""
    text = request.app.state.metrics.render(_generators(request).models)
    return Response(text, headers={"Content-Type": MEDIA_TYPE})


def _generators(request: Request) -> Generators:
    return request.app.state.operations.generators


def describe(model: Model) -> dict[str, Any]:
    return model.document | {"sha256": model.sha256}


def etag(model: Model, query: ImageQuery, media_type: str) -> str:
    """A strong validator: the model's files, the address, and how the picture is shown."""
    parts = (model.sha256, media_type, query.model_dump_json())
    return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'


def _tags(if_none_match: Sequence[str]) -> list[str]:
    """What the sender holds already (RFC 9110, section 13.1.2; weak comparison)."""
    return [tag.strip().removeprefix("W/") for line in if_none_match for tag in line.split(",")]


async def refuse(request: Request, problem: Exception) -> Response:
    """The answer that makes the gate send `problem`: it alone knows the headers and writes the document."""
    assert isinstance(problem, Problem)
    request.scope[SCOPE_KEY].problem = problem
    return Response(status_code=problem.status)


app = Starlette(
    routes=[
        *(Route(f"/v1/images/{{model}}/{{seed}}/{{index}}.{extension}", picture) for extension in replies.EXTENSIONS),
        Route("/v1/models", models),
        Route("/v1/models/{id}", model),
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/openapi.json", docs.openapi),
        Route("/docs", docs.page),
        Route("/docs/{file}", docs.part),
        Route("/", site.page),
        Route(f"{site.PREFIX}{{file}}", site.part),
    ],
    exception_handlers={Problem: refuse},
)
app.router.redirect_slashes = False
"""Its state is what `service` gives it: `operations`, `health`, `metrics` and `cache_control`."""
