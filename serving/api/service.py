"""The BentoML service.

bentoml serve serving.api.service:Ganymede
bentoml build && bentoml serve ganymede:latest
"""

import gc
import os

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

from typing import Annotated, Any, Self, cast

import bentoml
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema
from starlette.requests import Request

from serving.api import operations, routes
from serving.api.gate import BODY_KEY, Gate
from serving.api.generators import Generators, load_runtimes
from serving.api.problems import Problem, refusal
from serving.api.schemas import Body, DigitsBody, InterpolateBody, SampleBody, StyleMixBody
from serving.api.settings import Settings
from serving.engine.repository import ModelError

settings = Settings.from_environment()


class FromGate(bentoml.IODescriptor):
    """A body that the gate has parsed, in the place of BentoML's own reading of the request."""

    @classmethod
    async def from_http_request(cls, request: Request, serde: object) -> Self:
        return request.scope[BODY_KEY]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic's own: BentoML's looks for arrays and files among the fields and loses the tags of unions."""
        return handler(source)


def spec(body: type[Body]) -> type[FromGate]:
    """The body of a route as BentoML describes it to its clients."""
    return cast(type[FromGate], create_model(body.__name__, __base__=(FromGate, body)))


Picture = Annotated[bytes, ContentType("image/png")]
"""What BentoML's clients take a reply for; the `Accept` header chooses among the formats."""


@bentoml.service(
    name="ganymede",
    workers=settings.workers,
    # BentoML's own share of a request is mostly these three.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
class Ganymede:
    """Pictures from generative adversarial networks."""

    def __init__(self) -> None:
        self._generators = Generators(settings.models)
        routes.app.state.generators = self._generators
        # What is loaded stays: full collections that walk it would stop every request for 200 ms.
        gc.collect()
        gc.freeze()

    @bentoml.api(route=SampleBody.route, input_spec=spec(SampleBody))
    async def sample(self, ctx: bentoml.Context, **fields: Any) -> Picture:
        """Pictures at a range of addresses."""
        return await self._answer(ctx, SampleBody.model_construct(**fields))

    @bentoml.api(route=DigitsBody.route, input_spec=spec(DigitsBody))
    async def digits(self, ctx: bentoml.Context, **fields: Any) -> Picture:
        """The digits asked for, from a conditional model."""
        return await self._answer(ctx, DigitsBody.model_construct(**fields))

    @bentoml.api(route=InterpolateBody.route, input_spec=spec(InterpolateBody))
    async def interpolate(self, ctx: bentoml.Context, **fields: Any) -> Picture:
        """Frames on the way from one address to the next."""
        return await self._answer(ctx, InterpolateBody.model_construct(**fields))

    @bentoml.api(route=StyleMixBody.route, input_spec=spec(StyleMixBody))
    async def style_mix(self, ctx: bentoml.Context, **fields: Any) -> Picture:
        """Every row's picture with styles taken from every column's."""
        return await self._answer(ctx, StyleMixBody.model_construct(**fields))

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: a model that cannot be served is one line, and no server."""
        try:
            load_runtimes(settings.models)
        except ModelError as error:
            raise BentoMLException(str(error)) from None
        load_runtimes.cache_clear()

    @bentoml.on_shutdown
    async def close(self) -> None:
        await self._generators.close()

    async def _answer(self, ctx: bentoml.Context, body: Body) -> Any:
        request = ctx.request
        try:
            response = await operations.answer(self._generators, body, request.headers.get("accept"))
        except Problem as problem:
            response = refusal(request.scope, problem)
        ctx.response.status_code = response.status_code  # BentoML puts its own in the place of the response's
        return response


routes.app.state.service = Ganymede
Ganymede.mount_asgi_app(routes.app)
Ganymede.add_asgi_middleware(
    Gate,  # pyright: ignore[reportArgumentType]  BentoML's protocol describes an instance, and takes the class
    bodies={body.route: body for body in (SampleBody, DigitsBody, InterpolateBody, StyleMixBody)},
)
