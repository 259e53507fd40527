"""The BentoML service around the application.

    bentoml serve serving.api.service:Ganymede
    bentoml build && bentoml serve ganymede:latest

The four routes are `@bentoml.api` methods, so that BentoML describes them to its clients and other services in the same
process can call them. Over HTTP the application answers all routes itself, as BentoML's outermost middleware: through
BentoML's own layers each request costs three times as much.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Mapping
from functools import cache
from types import FrameType
from typing import Annotated, Any, cast

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.app import DRAIN_SIGNAL, Application, create_app
from serving.api.http.context import RequestContext
from serving.api.schemas import Body, DigitsBody, InterpolateBody, SampleBody, StyleMixBody
from serving.api.served_models import load_runtimes, pin
from serving.api.settings import Settings
from serving.api.telemetry import logs
from serving.engine.repository import ModelError


class Described(bentoml.IODescriptor):
    """A body as BentoML describes it to its clients."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return pydantic's own schema: BentoML's looks for arrays and files and loses the tags of unions."""
        return handler(source)


def described(body: type[Body]) -> type[Described]:
    return cast(type[Described], create_model(body.__name__, __base__=(Described, body)))


Image = Annotated[bytes, ContentType("image/png")]
"""The type of a reply for BentoML's clients; the `Accept` header chooses among the formats."""


@cache
def application() -> Application:
    """Return the application of this process."""
    return create_app(Settings.from_environment())


class Forward:
    """Middleware that leaves to BentoML only its lifespan, and all requests to the application."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = application() if scope["type"] == "http" else self.app
        await app(scope, receive, send)


@bentoml.service(
    name="ganymede",
    workers=Settings.from_environment().workers,
    # Most of BentoML's own cost of a request.
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"excluded_urls": ".*"},
)
class Ganymede:
    """Images from generative adversarial networks."""

    def __init__(self) -> None:
        self._settings = Settings.from_environment()
        logs.configure(self._settings.log_level)
        self._app = application()
        self._app.models.load(self._settings.models)  # a service in the same process has no lifespan

    @bentoml.api(route=SampleBody.route, input_spec=described(SampleBody))
    async def sample(self, **fields: Any) -> Image:
        """Generate the images at a range of addresses."""
        return await self._answer(SampleBody, fields)

    @bentoml.api(route=DigitsBody.route, input_spec=described(DigitsBody))
    async def digits(self, **fields: Any) -> Image:
        """Generate the requested digits with a conditional model."""
        return await self._answer(DigitsBody, fields)

    @bentoml.api(route=InterpolateBody.route, input_spec=described(InterpolateBody))
    async def interpolate(self, **fields: Any) -> Image:
        """Generate frames from one address to the next."""
        return await self._answer(InterpolateBody, fields)

    @bentoml.api(route=StyleMixBody.route, input_spec=described(StyleMixBody))
    async def style_mix(self, **fields: Any) -> Image:
        """Generate each row's image with styles of each column's."""
        return await self._answer(StyleMixBody, fields)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Load the models before any worker starts: one that cannot be served is one line, and no server."""
        try:
            pin(runtime.model for runtime in load_runtimes(Settings.from_environment().models))
        except ModelError as error:
            raise BentoMLException(str(error)) from None
        load_runtimes.cache_clear()

    @bentoml.on_startup
    async def start(self) -> None:
        self._lifespan = self._app.router.lifespan_context(self._app)
        await self._lifespan.__aenter__()
        drain_on(signal.SIGTERM, self._settings.drain)
        drain_on(signal.SIGINT, 0)  # of a person at a terminal, who waits

    @bentoml.on_shutdown
    async def close(self) -> None:
        await self._lifespan.__aexit__(None, None, None)

    async def _answer(self, body: type[Body], fields: Mapping[str, Any]) -> bytes:
        """Answer a BentoML service in this process that depends on this one."""
        context = RequestContext.internal(body.route, self._settings.timeout)
        with context.until_deadline():
            response = await self._app.generate.answer(context, body.model_validate(fields), None)
        return bytes(response.body)


def drain_on(number: signal.Signals, seconds: float) -> None:
    """Drain on a signal, and leave it to the server's handler only after `seconds`; a second signal is not delayed.

    Does nothing where no server handles the signal, or not in this thread.
    """
    handler = signal.getsignal(number)
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or not callable(handler) or handler is signal.default_int_handler:
        return
    stop: Callable[[int, FrameType | None], Any] = handler
    loop, drains = asyncio.get_running_loop(), False

    def drain(number: int, frame: FrameType | None) -> None:
        nonlocal drains
        delay, drains = 0 if drains else seconds, True
        os.kill(os.getpid(), DRAIN_SIGNAL)
        loop.call_soon_threadsafe(loop.call_later, delay, stop, number, frame)

    signal.signal(number, drain)


Ganymede.add_asgi_middleware(Forward)  # pyright: ignore[reportArgumentType]  BentoML's protocol describes an instance
