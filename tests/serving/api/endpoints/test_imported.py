"""A model that was imported: classes on every route, and seeds of 32 bits."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

import pictures
import tiny_models
from server import Server, serving
from serving.bulk import engines, job
from serving.bulk.errors import BulkError
from serving.client import Client

TOP = 2**32 - 1
NPY = {"Accept": "application/x-npy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_imported(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def imported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(folder, tmp_path_factory.mktemp("server") / "log.txt", env={"GANYMEDE_DRAIN": "0"}) as server:
        yield server


@pytest.fixture(scope="module")
def api(imported: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=imported.url, timeout=30) as client:
        yield client


def post(api: httpx2.Client, route: str, **body: object) -> np.ndarray:
    response = api.post(f"/v1/{route}", json=body, headers=NPY)
    assert response.status_code == 200, response.text
    return pictures.of_npy(response.content)


def test_six_images_from_seed_600_are_those_of_seeds_600_to_605(api: httpx2.Client):
    many = post(api, "sample", n=6, seed=600, labels="red")
    for i, image in enumerate(many):
        np.testing.assert_array_equal(post(api, "sample", seed=600 + i, labels=0)[0], image)


def test_every_route_takes_the_class_of_an_address(api: httpx2.Client):
    (truth,) = post(api, "sample", seed=7, start=4, labels="blue")
    at = {"seed": 7, "index": 4}
    found = [
        pictures.decode(api.get("/v1/images/tiny-imported/7/4.png?label=blue").content),
        pictures.decode(api.get("/v1/images/tiny-imported/7/4.png?label=2").content),
        post(api, "interpolate", keyframes=[1, at], frames=5, labels="blue")[-1],
        post(api, "interpolate", keyframes=[1, at], frames=5, labels=["red", "blue"], space="w")[-1],
        post(api, "style-mix", rows=[at], columns=[at], labels=["blue", "blue"])[0],
        post(api, "style-mix", rows=[3], columns=[at], styles=list(range(6)), labels=["red", "blue"])[0],
    ]
    for image in found:
        np.testing.assert_array_equal(image, truth)
    assert (post(api, "sample", seed=7, start=4, labels="red")[0] != truth).any()


@pytest.mark.parametrize(
    ("route", "body", "pointer"),
    [
        ("sample", {"seed": TOP + 1}, "/seed"),
        ("sample", {"seed": TOP - 1, "n": 3}, "/start"),
        ("sample", {"start": TOP, "n": 2}, "/start"),
        ("interpolate", {"keyframes": [0, TOP + 1]}, "/keyframes/1"),
        ("style-mix", {"rows": [{"seed": TOP, "index": 1}], "columns": [0]}, "/rows/0"),
        ("style-mix", {"rows": [0], "columns": [0], "labels": ["red"]}, "/labels"),
    ],
)
def test_a_seed_of_more_than_32_bits_is_a_422(api: httpx2.Client, route: str, body: dict, pointer: str):
    response = api.post(f"/v1/{route}", json=body)
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["code"] == "invalid-request" and problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(("path", "pointer"), [(f"{TOP + 1}/0", "/seed"), (f"{TOP}/1", "/index")])
def test_so_is_its_url(api: httpx2.Client, path: str, pointer: str):
    response = api.get(f"/v1/images/tiny-imported/{path}.png")
    assert response.status_code == 422 and response.json()["errors"][0]["pointer"] == pointer
    assert api.get(f"/v1/images/tiny-imported/{TOP - 1}/1.png").status_code == 200


def test_a_seed_that_is_drawn_has_latents(api: httpx2.Client):
    for start in (0, TOP - 1):
        response = api.post("/v1/sample", json={"n": 2, "start": start}, headers=NPY)
        assert response.status_code == 200
        assert int(response.headers["x-ganymede-seed"]) + start + 1 <= TOP


def test_the_client_and_bulk_generation_make_the_same_images(imported: Server, api: httpx2.Client, folder: Path):
    truth = post(api, "sample", n=5, seed=600, start=1)
    with Client(imported.url) as client:
        assert client.model("tiny-imported").latents == "numpy-randomstate"
        np.testing.assert_array_equal(client.sample(n=5, seed=600, start=1).array, truth)
        assert client.sample().array.shape == (1, 16, 16, 3)  # its own seed, too, is in range
        mixed = client.style_mix(rows=[1], columns=[2], labels="red")
        np.testing.assert_array_equal(mixed.array, post(api, "style-mix", rows=[1], columns=[2], labels="red"))
    assert engines.Servers([imported.url], "tiny-imported", workers=1).subject.latents == "numpy-randomstate"
    engine = engines.Local(folder / "tiny-imported", workers=1)
    plan = job.plan(engine.subject, n=5, seed=600, start=1, labels="balanced")
    (batch,) = engine.source().batches(plan, plan.shard(0))
    np.testing.assert_array_equal(batch.images, truth)
    with pytest.raises(BulkError, match="`index`"):
        job.plan(engine.subject, n=2, seed=TOP)
