"""Same address, same bytes: whatever the count, start, route, format, load, or process."""

import base64
import io
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest

import pictures
from server import Server, serving

MODELS = pytest.mark.parametrize("model", ["tiny-dcgan", "tiny-cgan", "tiny-style"])


def sample(http: httpx2.Client, model: str, **fields: object) -> np.ndarray:
    body = {"model": model, "seed": 7} | fields
    response = http.post("/v1/sample", json=body, headers={"Accept": "application/x-npy"})
    assert response.status_code == 200, response.text
    return pictures.of_npy(response.content)


@MODELS
def test_an_image_does_not_depend_on_the_range_it_is_part_of(http: httpx2.Client, model: str):
    many = sample(http, model, n=256)
    for start, n in [(0, 1), (1, 1), (100, 3), (37, 64), (255, 1)]:
        assert np.array_equal(sample(http, model, start=start, n=n), many[start : start + n])


def test_every_route_makes_the_same_picture_of_an_address(http: httpx2.Client):
    (truth,) = sample(http, "tiny-style", start=4)
    keyframe = {"seed": 7, "index": 4}
    npy = {"Accept": "application/x-npy"}
    path = {"model": "tiny-style", "keyframes": [1, keyframe], "frames": 5}
    found = [
        pictures.decode(http.get("/v1/images/tiny-style/7/4.png").content),
        pictures.decode(http.get("/v1/images/tiny-style/7/4.webp").content),
        pictures.of_npy(http.post("/v1/interpolate", json=path, headers=npy).content)[-1],
        pictures.of_npy(http.post("/v1/interpolate", json=path | {"space": "w"}, headers=npy).content)[-1],
        # Mixed with itself, an image is itself.
        pictures.of_npy(
            http.post("/v1/style-mix", json={"rows": [keyframe], "columns": [keyframe]}, headers=npy).content
        )[0],
    ]
    for picture in found:
        assert np.array_equal(picture, truth)


@pytest.mark.parametrize("scale", [1, 3])
def test_a_png_of_one_picture_is_the_same_bytes_wherever_it_is(http: httpx2.Client, scale: int):
    url = http.get(f"/v1/images/tiny-style/7/4.png?scale={scale}").content
    body = {"model": "tiny-style", "seed": 7, "start": 4, "scale": scale}
    assert http.post("/v1/sample", json=body).content == url
    many = body | {"start": 3, "n": 3}
    with zipfile.ZipFile(
        io.BytesIO(http.post("/v1/sample", json=many, headers={"Accept": "application/zip"}).content)
    ) as file:
        assert file.read("001.png") == url
    document = http.post("/v1/sample", json=many, headers={"Accept": "application/json"}).json()
    assert base64.b64decode(document["images"][1]["png"]) == url


def test_a_digit_is_the_sample_of_its_address_and_class(http: httpx2.Client):
    body = {"digits": [3, 1], "rows": 2, "seed": 7}
    found = pictures.of_npy(http.post("/v1/digits", json=body, headers={"Accept": "application/x-npy"}).content)
    assert np.array_equal(found, sample(http, "tiny-cgan", n=4, labels=[3, 1, "3", "1"]))


def test_the_same_request_gets_the_same_bytes_in_every_format(http: httpx2.Client):
    formats = "image/png", "image/jpeg", "image/webp", "application/zip", "application/json", "application/x-npy"
    for accept in formats:
        body, headers = {"model": "tiny-style", "n": 4, "seed": 7}, {"Accept": accept}
        replies = [http.post("/v1/sample", json=body, headers=headers).content for _ in range(2)]
        assert replies[0] == replies[1], accept


def test_many_requests_at_once_get_what_each_gets_alone(http: httpx2.Client):
    rng = random.Random(7)
    asked = [
        (rng.choice(["tiny-dcgan", "tiny-cgan", "tiny-style"]), rng.randrange(40), rng.choice([1, 1, 1, 5, 64]))
        for _ in range(200)
    ]
    alone = {model: sample(http, model, n=104) for model in ("tiny-dcgan", "tiny-cgan", "tiny-style")}
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda ask: sample(http, ask[0], start=ask[1], n=ask[2]), asked))
    for (model, start, n), found in zip(asked, together, strict=True):
        assert np.array_equal(found, alone[model][start : start + n]), (model, start, n)


def test_a_restart_changes_nothing(server: Server, http: httpx2.Client, repository_folder: Path, tmp_path: Path):
    body = {"model": "tiny-style", "n": 9, "seed": 7, "truncation": 0.5}
    with serving(repository_folder, tmp_path / "log.txt") as another, httpx2.Client(base_url=another.url) as client:
        assert another.process.pid != server.process.pid
        first, second = (c.post("/v1/sample", json=body) for c in (http, client))
        assert first.status_code == 200
        assert second.content == first.content
        assert second.headers["x-ganymede-model-sha256"] == first.headers["x-ganymede-model-sha256"]
        urls = [c.get("/v1/images/tiny-cgan/7/3.png") for c in (http, client)]
        assert urls[0].content == urls[1].content
        assert urls[0].headers["etag"] == urls[1].headers["etag"]
