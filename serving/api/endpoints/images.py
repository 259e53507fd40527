"""`GET /v1/images/{model}/{seed}/{index}.png`, `.jpg` or `.webp`: the image at an address, as a URL.

The image at an address changes only with the model's files, and then its ETag changes too.
"""

import hashlib

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.api.endpoints.generate import Generate
from serving.api.http import responses
from serving.api.http.context import SCOPE_KEY, RequestContext
from serving.api.http.problems import FieldError, invalid
from serving.api.http.responses import Order
from serving.api.http.validation import parse_query
from serving.api.schemas import ImageQuery, edit
from serving.api.served_models import ServedModels
from serving.api.settings import Settings
from serving.engine import generation
from serving.engine.encoding import Layout
from serving.engine.generation import RequestError
from serving.engine.repository import Model

PREFIX = "/v1/images/"


class Images:
    """Answers with the image at an address."""

    def __init__(self, models: ServedModels, settings: Settings, generate: Generate):
        self._models = models
        self._settings = settings
        self._generate = generate
        # Where keys are required, no shared cache may answer.
        scope = "public" if settings.api_keys_file is None else "private"
        self._cache_control = f"{scope}, max-age=31536000, immutable"

    def routes(self) -> list[Route]:
        paths = [f"{PREFIX}{{model}}/{{seed}}/{{index}}.{extension}" for extension in responses.EXTENSIONS]
        return [Route(path, self.get) for path in paths]

    async def get(self, request: Request) -> Response:
        context: RequestContext = request.scope[SCOPE_KEY]
        context.set_deadline(self._settings.timeout)
        path = request.path_params
        served = self._models.get(path["model"])
        media_type = responses.EXTENSIONS[request.url.path.rpartition(".")[2]]
        address = ("seed", path["seed"]), ("index", path["index"])
        query = parse_query(ImageQuery, [*address, *request.query_params.multi_items()])
        headers = {"ETag": etag(served.model, query, media_type), "Cache-Control": self._cache_control}
        tags = _tags(context.headers.get("if-none-match", ""))
        if headers["ETag"] in tags:
            return Response(status_code=304, headers=headers)
        with context.until_deadline():
            try:
                plan = generation.sample(
                    served.runtime,
                    seed=query.seed,
                    start=query.index,
                    labels=query.label,
                    truncation=query.truncation,
                    edits=[edit(each) for each in query.edit],
                )
                order = Order(plan, Layout(columns=1, scale=query.scale), media_type)
                order.check_size()
            except RequestError as error:  # a URL has `label`, `edit` and `index` where a body has `labels` and so on
                pointer, message = (
                    text.replace("labels", "label", 1).replace("edits", "edit", 1)
                    for text in (error.pointer, error.message)
                )
                pointer = "/index" if pointer == "/start" else pointer
                raise invalid(FieldError(pointer, message)) from None
            if "*" in tags:  # any image that exists, and this one does
                return Response(status_code=304, headers=headers)
            return await self._generate.fulfil(context, served, order, Headers(headers).raw)


def etag(model: Model, query: ImageQuery, media_type: str) -> str:
    """Return a strong validator: the model's files, the address, and how the image is encoded."""
    parts = (model.sha256, media_type, query.model_dump_json())
    return f'"{hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]}"'


def _tags(if_none_match: str) -> list[str]:
    """Return the ETags that the client holds (RFC 9110, section 13.1.2; weak comparison)."""
    return [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
