"""A reply that is sent as it is packed keeps its deadline, too: it ends, and nobody takes it for whole."""

import asyncio
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from starlette.responses import Response
from starlette.types import Message

from serving.api.endpoints.generate import Generate
from serving.api.http import responses as module
from serving.api.http.context import RequestContext
from serving.api.http.problems import Problem
from serving.api.http.responses import JSON, NPY, PNG, ZIP, Encoder, Order, Streamed
from serving.api.schemas import SampleBody
from serving.api.served_models import ServedModel
from serving.api.settings import Settings
from serving.api.telemetry.metrics import Metrics
from serving.engine import encoding, generation
from serving.engine.batcher import Batcher
from serving.engine.encoding import Layout
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

LAYOUT = Layout(columns=16, scale=8)


@pytest.fixture(scope="module")
def runtime(repository_folder: Path) -> Runtime:
    return Runtime(load_model(repository_folder / "tiny-style"))


@pytest.fixture(scope="module")
def plan(runtime: Runtime) -> generation.Plan:
    return generation.sample(runtime, n=64, seed=7)


@pytest.fixture(scope="module")
def pictures(runtime: Runtime, plan: generation.Plan) -> np.ndarray:
    return runtime.synthesize(plan.inputs)


async def sent(plan: generation.Plan, pictures: np.ndarray, media_type: str) -> list[bytes]:
    return [bytes(piece) async for piece in Encoder().stream(Order(plan, LAYOUT, media_type), pictures)]


@pytest.mark.parametrize(("media_type", "format"), [(ZIP, "zip"), (JSON, "json"), (NPY, "npy")])
def test_the_pieces_are_the_file(plan: generation.Plan, pictures: np.ndarray, media_type: str, format: str):
    pieces = asyncio.run(sent(plan, pictures, media_type))
    assert b"".join(pieces) == encoding.encode(plan, pictures, None, LAYOUT, format)
    assert format == "npy" or len(pieces) > 1


class Wire:
    """A client: what it is sent, and its leaving. It takes the head, and nothing more unless it `reads`."""

    def __init__(self, *, reads: bool = False):
        self.taken = 0
        self.waits, self.left, self._reads = asyncio.Event(), asyncio.Event(), reads

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.taken += len(message.get("body", b""))
        if not self._reads and "body" in message:
            self.waits.set()
            await asyncio.Future()


@pytest.mark.parametrize("media_type", [ZIP, NPY])
def test_a_late_one_ends_before_its_time_and_leaves_its_room(
    plan: generation.Plan, pictures: np.ndarray, media_type: str
):
    async def scenario(wire: Wire, seconds: float) -> bool:
        left: list[bool] = []
        room, pieces = ExitStack(), Encoder().stream(Order(plan, LAYOUT, media_type), pictures)
        room.callback(left.append, True)
        reply = Streamed(pieces, media_type, room, time.monotonic() + seconds)
        with pytest.raises(Problem) as caught:
            await reply({"type": "http"}, wire.receive, wire.send)
        assert caught.value.code == "deadline-exceeded"
        return left == [True]

    assert asyncio.run(scenario(Wire(), 0.1)), "its client takes nothing"
    assert asyncio.run(scenario(Wire(reads=True), 0)), "it has taken all the time to draw"


@pytest.mark.parametrize("media_type", [ZIP, NPY])
def test_a_reply_holds_memory_until_it_is_sent_or_abandoned(
    runtime: Runtime, media_type: str, monkeypatch: pytest.MonkeyPatch
):
    body = SampleBody.model_validate({"model": runtime.model.id, "n": 256, "seed": 7})

    async def scenario() -> None:
        served = ServedModel(runtime, Batcher(runtime), Metrics())
        models: Any = SimpleNamespace(get=lambda id: served)
        generate = Generate(models, Settings.from_environment({}), None)

        async def asked(accept: str = media_type) -> Response:
            return await generate.answer(RequestContext.internal("/v1/sample", 30), body, accept)

        async def full() -> bool:
            try:
                await asked(PNG)
            except Problem as problem:
                return problem.code == "overloaded"
            return False

        reply, wire = await asked(), Wire(reads=True)
        assert await full(), "before it is sent"
        await reply({"type": "http"}, wire.receive, wire.send)
        assert wire.taken > 100_000 and not await full()

        reply, wire = await asked(), Wire()
        sending = asyncio.create_task(reply({"type": "http"}, wire.receive, wire.send))
        await wire.waits.wait()
        assert await full(), "while its client takes nothing"
        wire.left.set()
        await sending
        assert not await full()

        reply, wire = await asked(), Wire()
        wire.left.set()
        await reply({"type": "http"}, wire.receive, wire.send)
        assert not await full(), "the client had left"

        reply, wire = await asked(), Wire()
        sending = asyncio.create_task(reply({"type": "http"}, wire.receive, wire.send))
        await wire.waits.wait()
        sending.cancel()
        await asyncio.wait([sending])
        assert not await full(), "the server ends"

        reply = await asked()
        assert await full()
        del reply
        assert not await full(), "it was never begun"
        await served.batcher.close()

    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 256 * 16 * 16 * 3)
    asyncio.run(scenario())


def test_a_small_reply_needs_no_room_that_others_have(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    encoder = Encoder()
    plans = [generation.sample(runtime, n=n, seed=7) for n in (256, 4)]
    large, small = (Order(plan, Layout(columns=16), NPY) for plan in plans)
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", large.size)
    with encoder.reserve(large.size):
        with encoder.reserve(small.size):
            pass
        with pytest.raises(Problem, match="More images are waiting"), encoder.reserve(large.size):
            pass


def test_a_png_of_1024_pixels_is_packed_off_the_event_loop(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    where: list[int] = []
    encode = encoding.encode
    monkeypatch.setattr(encoding, "encode", lambda *rest: (where.append(threading.get_ident()), encode(*rest))[1])
    plan = generation.sample(runtime, n=1, seed=7)
    large = replace(plan, model=replace(plan.model, image=replace(plan.model.image, height=1024, width=1024)))
    for of, side in ((plan, 16), (large, 1024)):
        made = np.zeros((1, side, side, 3), np.uint8)
        asyncio.run(Encoder().encode(Order(of, Layout(columns=1), PNG), made, None))
    assert where[0] == threading.get_ident() != where[1]
