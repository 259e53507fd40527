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

from serving.api.access.rate_limit import RateLimit
from serving.api.endpoints.generate import Generate
from serving.api.http import responses
from serving.api.http.context import RequestContext
from serving.api.http.problems import Problem
from serving.api.schemas import SampleBody
from serving.api.served_models import ServedModel, load_runtimes, pin
from serving.api.settings import Settings
from serving.api.telemetry.metrics import Metrics
from serving.engine import generation
from serving.engine.batcher import Batcher
from serving.engine.repository import ModelError, load_model, load_repository
from serving.engine.runtime import Runtime

SETTINGS = Settings.from_environment({})


@pytest.fixture(scope="module")
def runtime(repository_folder: Path) -> Runtime:
    return Runtime(load_model(repository_folder / "tiny-dcgan"))


def served_by(runtime: Runtime, **options: Any) -> ServedModel:
    return ServedModel(runtime, Batcher(runtime, **options), Metrics())


def context(seconds: float = 30) -> RequestContext:
    return RequestContext.internal("/v1/sample", seconds)


def test_a_full_queue_is_503_and_says_when_to_come_back(runtime: Runtime):
    async def two() -> list[object]:
        served = served_by(runtime, max_queue=64)
        rows = generation.sample(runtime, n=64, seed=7).inputs
        draws = [served.generate(rows, context()) for _ in range(2)]
        answers = await asyncio.gather(*draws, return_exceptions=True)
        await served.batcher.close()
        return list(answers)

    pictures, problem = asyncio.run(two())
    assert getattr(pictures, "shape", None) == (64, 16, 16, 1), "what was accepted is answered"
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (503, "overloaded")
    assert int(problem.headers["Retry-After"]) >= 1


def test_what_would_be_refused_is_refused_before_it_is_prepared(runtime: Runtime):
    async def full() -> None:
        served = served_by(runtime, max_queue=64)
        drawing = asyncio.create_task(served.generate(generation.sample(runtime, n=64, seed=7).inputs, context()))
        await asyncio.sleep(0)
        try:
            with served.reserve(1):
                pytest.fail("there is no place")
        finally:
            await drawing
            with served.reserve(64):
                pass
            await served.batcher.close()

    with pytest.raises(Problem, match="More images are waiting"):
        asyncio.run(full())


def test_no_latents_are_drawn_for_a_request_that_is_refused(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []
    monkeypatch.setattr(type(runtime.model), "latents", lambda _, addresses: drawn.append(len(addresses)))

    async def ask() -> None:
        served = served_by(runtime, max_queue=64)
        models: Any = SimpleNamespace(get=lambda id: served)
        body = SampleBody.model_validate({"n": 64, "model": runtime.model.id})
        with served.reserve(64):
            try:
                await Generate(models, SETTINGS, None).answer(context(), body, None)
            finally:
                await served.batcher.close()

    with pytest.raises(Problem) as refused:
        asyncio.run(ask())
    assert (refused.value.status, drawn) == (503, [])


@pytest.mark.parametrize(("waiting", "room"), [(64, 2**20), (0, 0)], ids=["queue", "replies"])
def test_what_is_refused_is_not_charged_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, waiting: int, room: int):
    monkeypatch.setattr(responses, "MAX_PENDING_BYTES", room)
    limit = RateLimit(64, lambda: 1000.0)

    async def ask() -> None:
        served = served_by(runtime, max_queue=64)
        models: Any = SimpleNamespace(get=lambda id: served)
        body = SampleBody.model_validate({"n": 64, "scale": 4, "model": runtime.model.id})
        one = context()
        try:
            with served.reserve(waiting):
                await Generate(models, SETTINGS, limit).answer(one, body, None)
        finally:
            await served.batcher.close()

    for _ in range(3):
        with pytest.raises(Problem) as refused:
            asyncio.run(ask())
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
    limit.charge(context().client, 64)


def test_a_server_that_ends_is_503(runtime: Runtime):
    async def late() -> None:
        served = served_by(runtime)
        await served.batcher.close()
        await served.generate(generation.sample(runtime, seed=7).inputs, context())

    with pytest.raises(Problem) as caught:
        asyncio.run(late())
    assert (caught.value.status, caught.value.code) == (503, "draining")


def test_pictures_that_take_too_long_are_504_and_no_more_work(runtime: Runtime):
    async def slow() -> Problem:
        served = served_by(runtime)
        with pytest.raises(Problem) as caught:
            await served.generate(generation.sample(runtime, n=64, seed=7).inputs, context(0))
        assert (served.batcher.images, served.batcher.computed) == (0, 0)
        await served.batcher.close()
        return caught.value

    problem = asyncio.run(slow())
    assert (problem.status, problem.code) == (504, "deadline-exceeded")


def test_a_request_is_told_where_its_time_went(runtime: Runtime):
    async def timed() -> tuple[RequestContext, float]:
        served, one = served_by(runtime), context()
        began = time.monotonic()
        await served.generate(generation.sample(runtime, n=64, seed=7).inputs, one)
        await served.batcher.close()
        return one, time.monotonic() - began

    one, seconds = asyncio.run(timed())
    assert one.times.queue >= 0 and 0 < one.times.compute <= seconds


def test_a_worker_loads_what_its_server_found_at_its_start(
    repository_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models = Path(shutil.copytree(repository_folder, tmp_path / "models", ignore=shutil.ignore_patterns("tiny-style")))
    monkeypatch.setattr(os, "environ", {})
    pin(load_repository(models).values())
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
    with pytest.raises(ModelError, match=r"tiny-dcgan: has changed since the server started\."):
        loaded()
    shutil.rmtree(models / "tiny-dcgan")
    with pytest.raises(ModelError, match=r"tiny-dcgan: has no file `model\.json`\."):
        loaded()
