"""Edits along semantic directions, in requests and in URLs."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from server import serving
from tiny_models import add_directions

UP = {"direction": "up", "strength": 2}
FINE = {"direction": "fine", "strength": -1.5, "layers": [4]}
URL = "/v1/images/tiny-style/7/0.png"


@pytest.fixture(scope="module")
def http(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server whose `tiny-style` has the directions `up` and `fine`."""
    folder = tmp_path_factory.mktemp("edits")
    shutil.copytree(repository_folder, folder / "models")
    add_directions(folder / "models" / "tiny-style")
    with serving(folder / "models", folder / "log.txt") as server, httpx2.Client(base_url=server.url) as client:
        yield client


def images(http: httpx2.Client, route: str = "sample", **body: Any) -> np.ndarray:
    response = http.post(f"/v1/{route}", json=body, headers={"Accept": "application/x-npy"})
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


def test_a_model_lists_its_directions(http: httpx2.Client):
    directions = http.get("/v1/models/tiny-style").json()["directions"]
    assert [(each["name"], each["layers"]) for each in directions] == [("up", [0, 1, 2, 3, 4, 5]), ("fine", [4, 5])]
    assert "directions" not in http.get("/v1/models/tiny-dcgan").json()


def test_edits_change_the_image_the_same_each_time(http: httpx2.Client):
    body = {"seed": 7, "n": 3, "edits": [UP, FINE]}
    first = images(http, **body)  # by itself it takes the model that has the directions
    assert (first == images(http, **body)).all()
    plain = images(http, model="tiny-style", seed=7, n=3)
    assert (first != plain).any(axis=(1, 2, 3)).all()
    assert (images(http, model="tiny-style", seed=7, n=3, edits=[]) == plain).all()


def test_a_keyframe_has_its_own_edits(http: httpx2.Client):
    frames = images(http, "interpolate", keyframes=[7, 8], frames=3, edits=[[], [UP]])
    assert (frames[0] == images(http, model="tiny-style", seed=7)[0]).all()
    assert (frames[2] == images(http, seed=8, edits=[UP])[0]).all()
    same = images(http, "interpolate", keyframes=[7, 8], frames=3, edits=[UP])
    assert (same[0] == images(http, seed=7, edits=[UP])[0]).all()


def test_a_url_has_the_edits_of_a_request(http: httpx2.Client):
    found = http.get(f"{URL}?edit=up:2&edit=fine:-1.5:4")
    sample = http.post("/v1/sample", json={"seed": 7, "edits": [UP, FINE]})
    assert (found.status_code, found.content) == (200, sample.content)
    plain = http.get(URL)
    assert found.headers["etag"] != plain.headers["etag"] and found.content != plain.content


def test_a_reply_says_its_edits(http: httpx2.Client):
    response = http.post("/v1/sample", json={"seed": 7, "edits": [UP, FINE]}, headers={"Accept": "application/json"})
    assert response.json()["edits"] == [UP, FINE]
    png = Image.open(io.BytesIO(http.get(f"{URL}?edit=up:2&edit=fine:-1.5:4").content))
    assert json.loads(png.text["edits"]) == [UP, FINE]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("route", "body", "pointer"),
    [
        ("sample", {"model": "tiny-style", "edits": [{"direction": "none", "strength": 1}]}, "/edits/0/direction"),
        ("sample", {"model": "tiny-dcgan", "edits": [UP]}, "/edits"),
        ("sample", {"edits": [UP | {"strength": 5.1}]}, "/edits/0/strength"),
        ("sample", {"edits": [UP | {"strength": "2"}]}, "/edits/0/strength"),
        ("sample", {"edits": [{"direction": "up"}]}, "/edits/0/strength"),
        ("sample", {"edits": [UP | {"layer": 1}]}, "/edits/0/layer"),
        ("sample", {"model": "tiny-style", "edits": [UP | {"layers": [6]}]}, "/edits/0/layers/0"),
        ("sample", {"edits": [UP] * 9}, "/edits"),
        ("sample", {"edits": UP}, "/edits"),
        ("sample", {"edits": [[UP]]}, "/edits/0"),
        ("interpolate", {"keyframes": [7, 8], "edits": [[UP], [UP | {"strength": -6}]]}, "/edits/1/0/strength"),
        ("interpolate", {"keyframes": [7, 8], "edits": [[UP], UP]}, "/edits/1"),
        ("interpolate", {"keyframes": [7, 8], "edits": "up"}, "/edits"),
        ("interpolate", {"keyframes": [7, 8, 9], "model": "tiny-style", "edits": [[], [UP]]}, "/edits"),
    ],
)
def test_a_wrong_edit_is_pointed_at(http: httpx2.Client, route: str, body: dict[str, Any], pointer: str):
    response = http.post(f"/v1/{route}", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request"), response.text
    assert response.json()["errors"][0]["pointer"] == pointer, response.text


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("edit=up", "/edit"), ("edit=up:9", "/edit/0/strength"), ("edit=no:1", "/edit/0/direction"), ("edit=", "/edit")],
)
def test_a_wrong_edit_in_a_url_is_pointed_at(http: httpx2.Client, query: str, pointer: str):
    response = http.get(f"{URL}?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer, response.text


def test_edits_that_no_model_has(http: httpx2.Client):
    response = http.post("/v1/sample", json={"edits": [{"direction": "none", "strength": 1}]})
    assert (response.status_code, response.json()["code"]) == (404, "unknown-model")
