"""Full load of every route on two workers: each reply is what the engine makes of it alone, byte for byte."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from server import Server, serving
from serving.engine import encoding, generation
from serving.engine.encoding import Animation, Layout
from serving.engine.generation import Plan
from serving.engine.latents import Address
from serving.engine.repository import load_repository
from serving.engine.runtime import Runtime

REQUESTS, CLIENTS = 400, 32
Ask = tuple[str, str, dict[str, Any] | None, str, Plan, Layout]  # method, path, body, format, and what is expected


@pytest.fixture(scope="module")
def runtimes(repository_folder: Path) -> dict[str, Runtime]:
    return {id: Runtime(model, threads=1) for id, model in load_repository(repository_folder).items()}


@pytest.fixture(scope="module")
def two(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository_folder, tmp_path_factory.mktemp("server") / "log.txt", "--workers", "2") as server:
        server.wait_for_workers(2)
        yield server


def ask(rng: random.Random, runtimes: dict[str, Runtime]) -> Ask:
    model = rng.choice(list(runtimes))
    runtime, seed, start = runtimes[model], rng.randrange(5), rng.randrange(20)
    scale, columns = rng.choice([1, 1, 2]), rng.choice([2, 5])
    kind = rng.choice(["sample", "sample", "sample", "picture", "digits", "interpolate", "style-mix"])
    if kind == "picture":
        plan = generation.sample(runtime, seed=seed, start=start)
        return "GET", f"/v1/images/{model}/{seed}/{start}.png?scale={scale}", None, "png", plan, Layout(1, scale)
    format = rng.choice(["png", "npy", "zip", "json", "webp"])
    body: dict[str, Any] = {"scale": scale}
    if kind == "sample":
        n = rng.choice([1, 1, 1, 7, 100])
        body |= {"model": model, "n": n, "seed": seed, "start": start, "columns": columns}
        plan, layout = generation.sample(runtime, n=n, seed=seed, start=start), Layout(columns, scale)
    elif kind == "digits":
        runtime = runtimes["tiny-cgan"]
        body |= {"model": "tiny-cgan", "digits": "0123", "rows": 2, "seed": seed}
        plan, layout = generation.digits(runtime, digits=range(4), rows=2, seed=seed), Layout(4, scale)
    elif kind == "interpolate":
        body |= {"model": model, "keyframes": [seed, {"seed": 9, "index": start}], "frames": 6}
        ends = [Address(seed, 0), Address(9, start)]
        plan = generation.interpolate(runtime, keyframes=ends, frames=6)
        layout = Layout(6, scale, Animation(25, False))
    else:
        runtime = runtimes["tiny-style"]
        body |= {"model": "tiny-style", "rows": [seed], "columns": [start, 99], "styles": "middle"}
        plan = generation.style_mix(
            runtime, rows=[Address(seed, 0)], columns=[Address(start, 0), Address(99, 0)], styles="middle"
        )
        layout = Layout(2, scale)
    return "POST", f"/v1/{kind}", body, format, plan, layout


def alone(runtimes: dict[str, Runtime], plan: Plan, layout: Layout, format: str) -> bytes:
    """What the engine makes of a plan, one image at a time."""
    runtime = runtimes[plan.model.id]

    def pictures(plan: Plan) -> np.ndarray:
        rows = [{name: values[i : i + 1] for name, values in plan.inputs.items()} for i in range(len(plan))]
        return np.concatenate([runtime.compute(row) for row in rows])

    sources = pictures(plan.sources) if plan.sources and format in encoding.ONE_IMAGE else None
    return encoding.encode(plan, pictures(plan), sources, layout, format)


def test_every_reply_under_mixed_load_is_the_engines_own(two: Server, runtimes: dict[str, Runtime]):
    rng = random.Random(7)
    asks = [ask(rng, runtimes) for _ in range(REQUESTS)]
    types = {"npy": "application/x-npy", "zip": "application/zip", "json": "application/json"}
    limits = httpx2.Limits(max_connections=CLIENTS)
    with httpx2.Client(base_url=two.url, limits=limits, timeout=60) as http, ThreadPoolExecutor(CLIENTS) as pool:

        def get(ask: Ask) -> httpx2.Response:
            method, path, body, format, _, _ = ask
            accept = {"Accept": types.get(format, f"image/{format}")} if method == "POST" else {}
            return http.request(method, path, json=body, headers=accept)

        replies = list(pool.map(get, asks))
    for (method, path, body, format, plan, layout), reply in zip(asks, replies, strict=True):
        assert reply.status_code == 200, reply.text
        assert reply.content == alone(runtimes, plan, layout, format), (method, path, body, format)
