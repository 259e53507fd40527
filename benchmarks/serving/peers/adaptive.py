"""BentoML with its adaptive batching: an HTTP service in front of a service with a batchable method."""

from __future__ import annotations

from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.serving.peers import model


@bentoml.service(metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        self._runtime = model.load()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000)
    def draw(self, addresses: list[list[int]]) -> list[bytes]:
        return [model.reply(p[None]) for p in model.draw(self._runtime, [model.Address(*a) for a in addresses])]


@bentoml.service(metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Adaptive:
    model = bentoml.depends(Model)

    @bentoml.api(route="/v1/sample")
    async def sample(self, seed: int, start: int) -> Annotated[bytes, ContentType("image/png")]:
        (png,) = await self.model.to_async.draw([[seed, start]])
        return png
