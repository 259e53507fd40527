"""The ASGI application: its routes and its middleware, in the order in which a request passes them.

It runs under any ASGI server: `server` puts it on Granian, `service` into BentoML, tests call it without a socket.
"""

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.access.admission import AdmissionMiddleware
from serving.api.access.keys import ApiKeyMiddleware, Keys
from serving.api.access.rate_limit import RateLimit
from serving.api.endpoints import images, infer
from serving.api.endpoints.generate import BODIES, Generate
from serving.api.endpoints.health import Health
from serving.api.endpoints.images import Images
from serving.api.endpoints.infer import Infer
from serving.api.endpoints.models import Models
from serving.api.http.middleware import ContextMiddleware, Observer, ProblemMiddleware
from serving.api.served_models import ServedModels
from serving.api.settings import Settings
from serving.api.telemetry import logs, tracing
from serving.api.telemetry.metrics import Metrics
from serving.api.telemetry.tracing import Tracing
from serving.api.web import pages

DRAIN_SIGNAL = signal.SIGUSR1  # from here on /readyz answers 503, and connections are closed after their reply
A_DAY = 86_400
CORS_METHODS = ("GET", "HEAD", "POST")
CORS_REQUEST_HEADERS = (
    "Accept", "Authorization", "Content-Type", "If-None-Match", "Inference-Header-Content-Length", "X-Request-Id",
    "X-Request-Timeout",
)  # fmt: skip
CORS_REPLY_HEADERS = (
    "ETag", "Inference-Header-Content-Length", "Retry-After", "Server-Timing", "X-Request-Id",
    "X-Ganymede-Model", "X-Ganymede-Model-SHA256",
    "X-Ganymede-Version", "X-Ganymede-Seed", "X-Ganymede-Start", "X-Ganymede-Addresses", "X-Ganymede-Labels",
    "X-Ganymede-Truncation",
)  # fmt: skip


class Application:
    """The ASGI application, and what BentoML's service uses of it without HTTP."""

    def __init__(self, router: Router, middleware: Sequence[Middleware], generate: Generate, models: ServedModels):
        self.router = router
        self.generate = generate
        self.models = models
        self._app: ASGIApp = router
        for cls, args, options in reversed(middleware):
            self._app = cls(self._app, *args, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # the router then raises errors, which become problem documents
        await self._app(scope, receive, send)

    @property
    def routes(self) -> list[BaseRoute]:
        return self.router.routes


def create_app(settings: Settings) -> Application:
    """Return the application. Its lifespan loads the models, and closes them once accepted requests are answered.

    Raises KeysError or TracingError where those are configured and cannot work, OSError where several workers have no
    space for their metrics.
    """
    metrics = Metrics()
    models = ServedModels(metrics, max_queue=settings.max_queue)
    rate_limit = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
    traces = Tracing() if tracing.configured() else None
    health = Health(models, metrics)
    generate = Generate(models, settings, rate_limit)
    observers: list[Observer] = [metrics.answered, logs.answered]
    if traces is not None:
        observers.append(traces.answered)

    middleware = [
        Middleware(
            ContextMiddleware, observers=observers, count=metrics.count_in_flight, draining=lambda: health.draining
        )
    ]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=CORS_METHODS,
                allow_headers=CORS_REQUEST_HEADERS,
                expose_headers=CORS_REPLY_HEADERS,
                max_age=A_DAY,
            )
        )
    middleware.append(Middleware(ProblemMiddleware))
    if settings.api_keys_file is not None:
        middleware.append(
            Middleware(
                ApiKeyMiddleware,
                keys=Keys(settings.api_keys_file),
                open_paths=(
                    "/livez",
                    "/readyz",
                    *infer.HEALTH,
                    "/",
                ),  # an orchestrator has no key, and the page is where one is typed
                open_prefixes=(pages.PLAYGROUND,),
            )
        )
    middleware.append(
        Middleware(AdmissionMiddleware, posts={body.route for body in BODIES}, gets=images.PREFIX, infer=infer.PATH)
    )

    routes = [
        *generate.routes(),
        *Images(models, settings, generate).routes(),
        *Models(models).routes(),
        *Infer(models, settings, generate, health).routes(),
        *health.routes(),
        *pages.routes(),
    ]

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        models.load(settings.models)
        # What is loaded stays: full collections that walk it would stop every request for 200 ms. The default threshold
        # of 700 objects made young collections a tenth of the event loop's work.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000)
        await health.check()
        checks = asyncio.create_task(health.check_every(settings.heartbeat))
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, health.drain)
        try:
            yield
        finally:
            health.drain()
            checks.cancel()
            with suppress(asyncio.CancelledError):
                await checks
            await models.close()
            if traces is not None:
                await asyncio.to_thread(traces.close)

    router = Router(routes, redirect_slashes=False, lifespan=lifespan)
    return Application(router, middleware, generate, models)
