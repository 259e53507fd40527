"""What a request is told when its model takes no more work, or too long."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving.api.access.rate_limit import Quota
from serving.api.endpoints.generate import Operations
from serving.api.http import responses as replies
from serving.api.http.context import Exchange
from serving.api.http.problems import Problem
from serving.api.schemas import SampleBody
from serving.api.served_models import Generator, hold, load_runtimes
from serving.api.telemetry.metrics import Metrics
from serving.engine import generation
from serving.engine.batcher import Batcher
from serving.engine.repository import ModelError, load_model
from serving.engine.runtime import Runtime


@pytest.fixture(scope="module")
def runtime(repository_folder: Path) -> Runtime:
    return Runtime(load_model(repository_folder / "tiny-dcgan"))


def generator_of(runtime: Runtime, **options: Any) -> Generator:
    return Generator(runtime, Batcher(runtime, **options), Metrics(None))


def exchange(seconds: float = 30) -> Exchange:
    return Exchange.within("/v1/sample", seconds)


def test_a_full_queue_is_503_and_says_when_to_come_back(runtime: Runtime):
    async def two() -> list[object]:
        generator = generator_of(runtime, max_queue=64)
        rows = generation.sample(runtime, n=64, seed=7).inputs
        draws = [generator.draw(rows, exchange()) for _ in range(2)]
        answers = await asyncio.gather(*draws, return_exceptions=True)
        await generator.batcher.close()
        return list(answers)

    pictures, problem = asyncio.run(two())
    assert getattr(pictures, "shape", None) == (64, 16, 16, 1), "what was accepted is answered"
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (503, "overloaded")
    assert int(problem.headers["Retry-After"]) >= 1


def test_what_would_be_refused_is_refused_before_it_is_prepared(runtime: Runtime):
    async def full() -> None:
        generator = generator_of(runtime, max_queue=64)
        drawing = asyncio.create_task(generator.draw(generation.sample(runtime, n=64, seed=7).inputs, exchange()))
        await asyncio.sleep(0)
        try:
            with generator.reserve(1):
                pytest.fail("there is no place")
        finally:
            await drawing
            with generator.reserve(64):
                pass
            await generator.batcher.close()

    with pytest.raises(Problem, match="More work is waiting"):
        asyncio.run(full())


def test_no_latents_are_drawn_for_a_request_that_is_refused(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []
    monkeypatch.setattr(generation, "latents", lambda addresses, size: drawn.append(len(addresses)))

    async def ask() -> None:
        generator = generator_of(runtime, max_queue=64)
        models: Any = SimpleNamespace(get=lambda id: generator)
        body = SampleBody.model_validate({"n": 64, "model": runtime.model.id})
        with generator.reserve(64):
            try:
                await Operations(models, None).answer(exchange(), body, None)
            finally:
                await generator.batcher.close()

    with pytest.raises(Problem) as refused:
        asyncio.run(ask())
    assert (refused.value.status, drawn) == (503, [])


@pytest.mark.parametrize(("waiting", "room"), [(64, 2**20), (0, 0)], ids=["queue", "replies"])
def test_what_is_refused_is_not_charged_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, waiting: int, room: int):
    monkeypatch.setattr(replies, "MAX_PENDING_BYTES", room)
    quota = Quota(64, lambda: 1000.0)

    async def ask() -> None:
        generator = generator_of(runtime, max_queue=64)
        models: Any = SimpleNamespace(get=lambda id: generator)
        body = SampleBody.model_validate({"n": 64, "scale": 4, "model": runtime.model.id})
        one = exchange()
        quota.check(one.client)  # as the gate does
        try:
            with generator.reserve(waiting):
                await Operations(models, quota).answer(one, body, None)
        finally:
            await generator.batcher.close()

    for _ in range(3):
        with pytest.raises(Problem) as refused:
            asyncio.run(ask())
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
    quota.check(exchange().client)


def test_a_server_that_ends_is_503(runtime: Runtime):
    async def late() -> None:
        generator = generator_of(runtime)
        await generator.batcher.close()
        await generator.draw(generation.sample(runtime, seed=7).inputs, exchange())

    with pytest.raises(Problem) as caught:
        asyncio.run(late())
    assert (caught.value.status, caught.value.code) == (503, "draining")


def test_pictures_that_take_too_long_are_504_and_no_more_work(runtime: Runtime):
    async def slow() -> Problem:
        generator = generator_of(runtime)
        with pytest.raises(Problem) as caught:
            await generator.draw(generation.sample(runtime, n=64, seed=7).inputs, exchange(0))
        assert (generator.batcher.images, generator.batcher.computed) == (0, 0)
        await generator.batcher.close()
        return caught.value

    problem = asyncio.run(slow())
    assert (problem.status, problem.code) == (504, "deadline-exceeded")


def test_a_request_is_told_where_its_time_went(runtime: Runtime):
    async def timed() -> tuple[Exchange, float]:
        generator, one = generator_of(runtime), exchange()
        began = time.monotonic()
        await generator.draw(generation.sample(runtime, n=64, seed=7).inputs, one)
        await generator.batcher.close()
        return one, time.monotonic() - began

    one, seconds = asyncio.run(timed())
    assert one.times.queue >= 0 and 0 < one.times.compute <= seconds


def test_a_worker_loads_what_its_server_found_and_nothing_that_came_since(
    repository_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = Path(shutil.copytree(repository_folder, tmp_path / "models", ignore=shutil.ignore_patterns("tiny-style")))
    monkeypatch.setattr(os, "environ", {})
    hold(models)
    shutil.copytree(repository_folder / "tiny-style", models / "tiny-style")
    (models / "tiny-half").mkdir()

    def loaded() -> list[str]:
        load_runtimes.cache_clear()
        return [runtime.model.id for runtime in load_runtimes(models)]

    with pytest.raises(ModelError, match="tiny-half"):
        loaded()  # as a server of its own
    monkeypatch.setattr(os, "getppid", os.getpid)
    document = json.loads((models / "tiny-dcgan" / "model.json").read_text())
    measured = {"name": "fid", "value": 1.0, "protocol": "as ever"}
    (models / "tiny-dcgan" / "model.json").write_text(json.dumps(document | {"metrics": [measured]}))
    assert loaded() == ["tiny-cgan", "tiny-dcgan"]
    shutil.copy(repository_folder / "tiny-cgan" / "model.json", models / "tiny-dcgan")
    shutil.copy(repository_folder / "tiny-cgan" / "generator.onnx", models / "tiny-dcgan")
    with pytest.raises(ModelError, match=r"tiny-dcgan: is not what it was when the server started\."):
        loaded()
    shutil.rmtree(models / "tiny-dcgan")
    with pytest.raises(ModelError, match=r"tiny-dcgan: has no file `model\.json`\."):
        loaded()
