"""Whether this process should be sent requests: each of its models makes its picture, and it is not about to end."""

import asyncio
import logging
import time

import numpy as np

from serving.api.http.problems import Problem, draining, not_ready
from serving.api.served_models import Generator, Generators
from serving.api.telemetry.metrics import Metrics
from serving.engine import generation
from serving.engine.batcher import Closed, DeadlineExceeded, Overloaded

BEAT_SECONDS = 5  # a micro-batch takes a hundredth of a second: an inference that takes this long hangs
TOLERANCE = 1  # of 256 levels, between runs on a GPU; a CPU's are equal

logger = logging.getLogger("ganymede")


class Health:
    """`/readyz`. Nothing is ready before the first `beat`."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics
        self._draining = False
        self._failures: dict[str, str] | None = None  # model -> what went wrong; None before the first beat
        self._first: dict[str, np.ndarray] = {}  # model -> the picture that it must go on making
        self._computed: dict[str, int] = {}  # model -> its images at the last beat
        self._counted = False  # in the metrics, as ready

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def problem(self) -> Problem | None:
        """Why this process is not ready; None where it is."""
        if self._draining:
            return draining()
        if self._failures is None:
            return not_ready("The models are being proved by a first inference each.")
        if self._failures:
            return not_ready(" ".join(f"`{model}` {failure}." for model, failure in self._failures.items()))
        return None

    def drain(self) -> None:
        """From now on this process is not ready."""
        self._draining = True
        self._count()

    async def beat(self, generators: Generators) -> None:
        """Proves every model by an inference through its queue, as a request's would be."""
        outcomes = await asyncio.gather(*(self._prove(generator) for generator in generators))
        failures = {id: failure for id, failure in outcomes if failure is not None}
        if failures != (self._failures or {}):
            logger.error("not ready: %s", failures) if failures else logger.info("ready again")
        self._failures = failures
        self._count()

    async def watch(self, generators: Generators, seconds: float) -> None:
        """Beats for ever."""
        while True:
            await asyncio.sleep(seconds)
            await self.beat(generators)

    async def _prove(self, generator: Generator) -> tuple[str, str | None]:
        id = generator.model.id
        before = self._computed.get(id, 0)
        self._computed[id] = generator.batcher.computed
        try:
            plan = generation.sample(generator.runtime, seed=0)
            deadline = time.monotonic() + BEAT_SECONDS
            async with asyncio.timeout(2 * BEAT_SECONDS):  # an inference that hangs drops nothing that is late
                picture = await generator.batcher.run(plan.inputs, deadline=deadline)
        except (Overloaded, DeadlineExceeded):  # busy is not broken, as long as it gets on
            return id, None if generator.batcher.computed > before else "makes no pictures any more"
        except TimeoutError:
            return id, "hangs"
        except Closed:
            return id, "has ended"
        except Exception as error:
            logger.exception("%s fails", id)
            return id, f"fails: {type(error).__name__}"
        first = self._first.setdefault(id, picture)
        same = np.abs(first.astype(int) - picture).max() <= TOLERANCE
        return id, None if same else "makes another picture than it did at its start"

    def _count(self) -> None:
        ready = self.problem is None
        if ready != self._counted:
            self._metrics.ready(1 if ready else -1)
            self._counted = ready
