"""The BentoML service.

bentoml serve serving.api.service:Ganymede
bentoml build && bentoml serve ganymede:latest
"""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

from typing import Annotated, Any, cast

import bentoml
from bentoml.exceptions import BentoMLException
from bentoml.validators import ContentType
from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from serving.api.access.keys import Keys
from serving.api.access.rate_limit import Quota
from serving.api.endpoints import images as routes
from serving.api.endpoints.generate import Operations
from serving.api.endpoints.health import Health
from serving.api.gate import Gate
from serving.api.http.context import Exchange
from serving.api.schemas import Body, DigitsBody, InterpolateBody, SampleBody, StyleMixBody
from serving.api.served_models import Generators, hold
from serving.api.settings import Settings
from serving.api.telemetry import logs, tracing
from serving.api.telemetry.metrics import Metrics
from serving.engine.repository import ModelError

settings = Settings.from_environment()
folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
metrics = Metrics(Path(folder) if folder else None)
health = Health(metrics)
keys = None if settings.api_keys_file is None else Keys(settings.api_keys_file)
quota = None if settings.rate_limit is None else Quota(settings.rate_limit)
traces = tracing.Tracing() if tracing.configured() else None


class Described(bentoml.IODescriptor):
    """A body as BentoML describes it to its clients."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic's own: BentoML's looks for arrays and files among the fields and loses the tags of unions."""
        return handler(source)


def described(body: type[Body]) -> type[Described]:
    return cast(type[Described], create_model(body.__name__, __base__=(Described, body)))


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
        logs.configure(settings.log_level)
        self._generators = Generators(settings.models, metrics, max_queue=settings.max_queue)
        self._operations = Operations(self._generators, quota)
        routes.app.state.operations = self._operations
        # What is loaded stays: full collections that walk it would stop every request for 200 ms.
        gc.collect()
        gc.freeze()

    @bentoml.api(route=SampleBody.route, input_spec=described(SampleBody))
    async def sample(self, **fields: Any) -> Picture:
        """Pictures at a range of addresses."""
        return await self._picture(SampleBody, fields)

    @bentoml.api(route=DigitsBody.route, input_spec=described(DigitsBody))
    async def digits(self, **fields: Any) -> Picture:
        """The digits asked for, from a conditional model."""
        return await self._picture(DigitsBody, fields)

    @bentoml.api(route=InterpolateBody.route, input_spec=described(InterpolateBody))
    async def interpolate(self, **fields: Any) -> Picture:
        """Frames on the way from one address to the next."""
        return await self._picture(InterpolateBody, fields)

    @bentoml.api(route=StyleMixBody.route, input_spec=described(StyleMixBody))
    async def style_mix(self, **fields: Any) -> Picture:
        """Every row's picture with styles taken from every column's."""
        return await self._picture(StyleMixBody, fields)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: a model that cannot be served is one line, and no server."""
        try:
            hold(settings.models)
        except ModelError as error:
            raise BentoMLException(str(error)) from None

    @bentoml.on_startup
    async def start(self) -> None:
        await health.beat(self._generators)
        self._heart = asyncio.create_task(health.watch(self._generators, settings.heartbeat))
        drain_on(signal.SIGTERM, settings.drain)
        drain_on(signal.SIGINT, 0)  # somebody waits at a terminal

    @bentoml.on_shutdown
    async def close(self) -> None:
        health.drain()
        self._heart.cancel()
        await self._generators.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    async def _picture(self, body: type[Body], fields: Mapping[str, Any]) -> bytes:
        """For a BentoML service in this process that depends on this one; what comes over HTTP the gate answers."""
        exchange = Exchange.within(body.route, settings.timeout)
        with exchange.in_time():
            response = await self._operations.answer(exchange, body.model_validate(fields), None)
        return bytes(response.body)


def drain_on(number: signal.Signals, seconds: float) -> None:
    """From the signal on this process is not ready; after `seconds` the server that it was meant for hears of it.

    A second one is not delayed. Not where no server listens to it, or it is not this thread that would.
    """
    server = signal.getsignal(number)
    here = threading.current_thread() is threading.main_thread()
    if not here or not callable(server) or server is signal.default_int_handler:
        return
    loop = asyncio.get_running_loop()

    def drain(number: int, frame: FrameType | None) -> None:
        delay = 0 if health.draining else seconds
        health.drain()
        loop.call_soon_threadsafe(loop.call_later, delay, server, number, frame)

    signal.signal(number, drain)


routes.app.state.health = health
routes.app.state.metrics = metrics
routes.app.state.cache_control = routes.PUBLIC_CACHE if keys is None else routes.PRIVATE_CACHE
Ganymede.add_asgi_middleware(
    Gate,  # pyright: ignore[reportArgumentType]  BentoML's protocol describes an instance, and takes the class
    pages=routes.app,
    bodies={body.route: body for body in (SampleBody, DigitsBody, InterpolateBody, StyleMixBody)},
    operate=lambda exchange, body, accept: routes.app.state.operations.answer(exchange, body, accept),
    crowded=lambda model, content: routes.app.state.operations.crowded(model, content),
    settings=settings,
    metrics=metrics,
    health=health,
    keys=keys,
    quota=quota,
    tracing=traces,
)
