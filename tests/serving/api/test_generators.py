"""What a request is told when its model takes no more work, or too long."""

import asyncio
from pathlib import Path

import pytest

from serving.api import generators
from serving.api.generators import Generator
from serving.api.problems import Problem
from serving.engine import generation
from serving.engine.batcher import Batcher
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime


@pytest.fixture(scope="module")
def runtime(repository_folder: Path) -> Runtime:
    return Runtime(load_model(repository_folder / "tiny-dcgan"))


def test_a_full_queue_is_503_and_says_when_to_come_back(runtime: Runtime):
    async def two() -> list[object]:
        generator = Generator(runtime, Batcher(runtime, max_queue=64))
        rows = generation.sample(runtime, n=64, seed=7).inputs
        answers = await asyncio.gather(generator.draw(rows), generator.draw(rows), return_exceptions=True)
        await generator.batcher.close()
        return list(answers)

    pictures, problem = asyncio.run(two())
    assert getattr(pictures, "shape", None) == (64, 16, 16, 1), "what was accepted is answered"
    assert isinstance(problem, Problem)
    assert (problem.status, problem.code) == (503, "overloaded")
    assert int(problem.headers["Retry-After"]) >= 1


def test_a_server_that_ends_is_503(runtime: Runtime):
    async def late() -> None:
        generator = Generator(runtime, Batcher(runtime))
        await generator.batcher.close()
        await generator.draw(generation.sample(runtime, seed=7).inputs)

    with pytest.raises(Problem) as caught:
        asyncio.run(late())
    assert (caught.value.status, caught.value.code) == (503, "draining")


def test_pictures_that_take_too_long_are_504_and_no_more_work(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generators, "DEADLINE_SECONDS", 0)

    async def slow() -> Problem:
        generator = Generator(runtime, Batcher(runtime))
        with pytest.raises(Problem) as caught:
            await generator.draw(generation.sample(runtime, n=64, seed=7).inputs)
        assert generator.batcher.images == 0
        await generator.batcher.close()
        return caught.value

    problem = asyncio.run(slow())
    assert (problem.status, problem.code) == (504, "deadline-exceeded")
