"""A reply that is sent as it is packed keeps its deadline, too: it ends, and nobody takes it for whole."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from serving.api.problems import Problem
from serving.api.replies import JSON, NPY, ZIP, Order, Packer
from serving.engine import encoding, generation
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


async def sent(plan: generation.Plan, pictures: np.ndarray, media_type: str, deadline: float) -> list[bytes]:
    return [bytes(piece) async for piece in Packer().stream(Order(plan, LAYOUT, media_type), pictures, deadline)]


@pytest.mark.parametrize(("media_type", "format"), [(ZIP, "zip"), (JSON, "json"), (NPY, "npy")])
def test_the_pieces_are_the_file(plan: generation.Plan, pictures: np.ndarray, media_type: str, format: str):
    pieces = asyncio.run(sent(plan, pictures, media_type, time.monotonic() + 60))
    assert b"".join(pieces) == encoding.encode(plan, pictures, None, LAYOUT, format)
    assert format == "npy" or len(pieces) > 1


def test_a_late_one_ends_before_its_time(plan: generation.Plan, pictures: np.ndarray):
    with pytest.raises(Problem) as caught:
        asyncio.run(sent(plan, pictures, ZIP, time.monotonic()))
    assert caught.value.code == "deadline-exceeded"
