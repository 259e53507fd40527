"""`GET /livez`, `/readyz` and `/metrics`.

A process is ready while each of its models passes an inference and it is not about to stop.
"""

import asyncio
import logging
import time

import numpy as np
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.http.problems import Problem, draining, not_ready
from serving.api.served_models import ServedModel, ServedModels
from serving.api.telemetry.metrics import Metrics
from serving.engine import generation
from serving.engine.batcher import Closed, DeadlineExceeded, Overloaded

CHECK_SECONDS = 5  # a micro-batch takes a hundredth of a second: an inference that takes this long hangs ...
CHECK_FACTOR = 10  # ... unless one image takes more than a tenth of it, as of 1024 px: then so many times as long
SLOW_SECONDS = 0.25  # for an image: such a model is verified less often, ...
SLOW_SHARE = 0.05  # ... in at most this share of a thread's time
TOLERANCE = 1  # of 256 levels, between runs on a GPU; on a CPU they are equal

logger = logging.getLogger("ganymede")


class Health:
    """Liveness, readiness and metrics. Nothing is ready before the first `check`."""

    def __init__(self, models: ServedModels, metrics: Metrics):
        self._models = models
        self._metrics = metrics
        self._draining = False
        self._failures: dict[str, str] | None = None  # model -> what went wrong; None before the first check
        self._expected: dict[str, np.ndarray] = {}  # model -> the image of its first check
        self._computed: dict[str, int] = {}  # model -> its images at the last check
        self._due: dict[str, float] = {}  # slow model -> when it is to be verified again, by time.monotonic
        self._counted = False  # in the metrics, as ready

    def routes(self) -> list[Route]:
        return [Route("/livez", self.livez), Route("/readyz", self.readyz), Route("/metrics", self.metrics)]

    async def livez(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        if self.problem is not None:
            raise self.problem
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        content = self._metrics.render(self._models.models)
        return Response(content, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def problem(self) -> Problem | None:
        """The reason why this process is not ready; None where it is."""
        if self._draining:
            return draining()
        if self._failures is None:
            return not_ready("The models are being verified by a first inference each.")
        if self._failures:
            return not_ready(" ".join(f"`{model}` {failure}." for model, failure in self._failures.items()))
        return None

    def model_problem(self, id: str) -> Problem | None:
        """Return the reason why a model is not ready; None where it is."""
        if self.problem is None or (self._failures and not self._draining and id not in self._failures):
            return None
        return self.problem

    def drain(self) -> None:
        """Stop being ready, for good."""
        self._draining = True
        self._count()

    async def check(self) -> None:
        """Verify every model by an inference through its queue, as a request's would be."""
        outcomes = await asyncio.gather(*(self._verify(served) for served in self._models))
        failures = {id: failure for id, failure in outcomes if failure is not None}
        if failures != (self._failures or {}):
            logger.error("not ready: %s", failures) if failures else logger.info("ready again")
        self._failures = failures
        self._count()

    async def check_every(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.check()

    async def _verify(self, served: ServedModel) -> tuple[str, str | None]:
        id, seconds = served.model.id, served.runtime.seconds_per_image
        if time.monotonic() < self._due.get(id, 0) and id not in (self._failures or {}):
            return id, None
        if seconds >= SLOW_SECONDS:
            self._due[id] = time.monotonic() + seconds / SLOW_SHARE
        patience = max(CHECK_SECONDS, CHECK_FACTOR * seconds)
        before = self._computed.get(id, 0)
        self._computed[id] = served.batcher.computed
        try:
            plan = generation.sample(served.runtime, seed=0)
            deadline = time.monotonic() + patience
            async with asyncio.timeout(2 * patience):  # a hanging inference does not drop late requests
                image = await served.batcher.run(plan.inputs, deadline=deadline)
        except (Overloaded, DeadlineExceeded):  # a busy model is healthy as long as it makes progress
            return id, None if served.batcher.computed > before else "makes no progress"
        except TimeoutError:
            return id, "hangs"
        except Closed:
            return id, "has been closed"
        except Exception as error:
            logger.exception("%s fails", id)
            return id, f"fails: {type(error).__name__}"
        expected = self._expected.setdefault(id, image)
        same = np.abs(expected.astype(int) - image).max() <= TOLERANCE
        return id, None if same else "makes another image than at its start"

    def _count(self) -> None:
        ready = self.problem is None
        if ready != self._counted:
            self._metrics.ready(1 if ready else -1)
            self._counted = ready
