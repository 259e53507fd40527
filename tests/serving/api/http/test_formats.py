"""Every reply format of every POST route, decoded: the same images in all of them."""

import base64
import io
import json
import zipfile
from typing import Any

import httpx2
import numpy as np
import pytest

import pictures
import serving

BODIES: dict[str, dict[str, Any]] = {
    "/v1/sample": {"model": "tiny-style", "n": 5, "seed": 7, "truncation": 0.7},
    "/v1/digits": {"digits": "907", "rows": 2, "seed": 7},
    "/v1/interpolate": {"model": "tiny-style", "keyframes": [7, {"seed": 7, "index": 4}, 9], "frames": 9, "fps": 20},
    "/v1/style-mix": {"rows": [1, 2], "columns": [3, 4, 5], "styles": "middle"},
}
COLUMNS = {"/v1/sample": 3, "/v1/digits": 3, "/v1/interpolate": 9}  # of the grid, unless asked for
COUNT = {"/v1/sample": 5, "/v1/digits": 6, "/v1/interpolate": 9, "/v1/style-mix": 6}
ROUTES = pytest.mark.parametrize("route", BODIES)
GRIDS = pytest.mark.parametrize("route", COLUMNS)
SIZE = 16


def post(http: httpx2.Client, route: str, accept: str | None = None, **changes: Any) -> httpx2.Response:
    headers = {"Accept": accept} if accept else {}
    response = http.post(route, json=BODIES[route] | changes, headers=headers)
    assert response.status_code == 200, response.text
    if accept:
        assert response.headers["content-type"] == accept
    return response


@pytest.fixture(scope="session")
def truth(http: httpx2.Client) -> dict[str, np.ndarray]:
    """The images of each of BODIES, as arrays."""
    return {route: pictures.of_npy(post(http, route, "application/x-npy").content) for route in BODIES}


@ROUTES
def test_npy_holds_the_pictures_in_order(truth: dict[str, np.ndarray], route: str):
    channels = 1 if route == "/v1/digits" else 3
    assert (truth[route].shape, truth[route].dtype) == ((COUNT[route], SIZE, SIZE, channels), np.uint8)
    assert len({picture.tobytes() for picture in truth[route]}) == COUNT[route], "all are different"


@pytest.mark.parametrize(
    ("route", "accept"),
    [(route, accept) for route in COLUMNS for accept in ("image/png", "image/webp")][:-1],  # the last is an animation
)
def test_one_picture_is_a_grid_of_exactly_the_pictures(http: httpx2.Client, truth: dict, route: str, accept: str):
    grid = pictures.decode(post(http, route, accept).content)
    found = pictures.cells(grid, COLUMNS[route], SIZE, SIZE)
    assert np.array_equal(found[: COUNT[route]], np.broadcast_to(truth[route], found[: COUNT[route]].shape))
    assert (found[COUNT[route] :] == 255).all(), "cells left over are white"


@ROUTES
def test_a_jpeg_is_the_png_but_for_its_losses(http: httpx2.Client, route: str):
    exact = pictures.decode(post(http, route, "image/png").content)
    lossy = pictures.decode(post(http, route, "image/jpeg").content)
    assert lossy.shape == exact.shape, "grey stays grey"
    assert np.abs(lossy.astype(int) - exact).mean() < 6


def test_a_style_mix_image_has_its_sources_along_two_edges(http: httpx2.Client, truth: dict):
    grid = pictures.decode(post(http, "/v1/style-mix", "image/png").content)
    found = pictures.cells(grid, 4, SIZE, SIZE).reshape(3, 4, SIZE, SIZE, 3)

    def source(seed: int) -> np.ndarray:
        body = {"model": "tiny-style", "seed": seed}
        return pictures.decode(http.post("/v1/sample", json=body).content)

    assert (found[0, 0] == 255).all()
    assert np.array_equal(found[0, 1:], [source(3), source(4), source(5)])
    assert np.array_equal(found[1:, 0], [source(1), source(2)])
    assert np.array_equal(found[1:, 1:].reshape(-1, SIZE, SIZE, 3), truth["/v1/style-mix"])


@pytest.mark.parametrize("accept", ["image/gif", "image/webp"])
def test_an_interpolation_is_animated(http: httpx2.Client, truth: dict, accept: str):
    found = pictures.frames(post(http, "/v1/interpolate", accept).content)
    assert np.array_equal(found, truth["/v1/interpolate"]), "256 colours hold 256 pixels exactly"


def test_only_an_interpolation_is_a_gif(http: httpx2.Client):
    response = http.post("/v1/sample", json={}, headers={"Accept": "image/gif"})
    assert (response.status_code, response.json()["code"]) == (406, "not-acceptable")


@ROUTES
def test_a_zip_holds_a_png_a_picture_and_says_what_each_is(http: httpx2.Client, truth: dict, route: str):
    response = post(http, route, "application/zip")
    found, manifest = pictures.of_zip(response.content)
    assert np.array_equal(found, truth[route])
    assert manifest["model_sha256"] == response.headers["x-ganymede-model-sha256"]
    assert manifest["version"] == serving.__version__


@ROUTES
def test_json_holds_a_png_a_picture_and_says_what_each_is(http: httpx2.Client, truth: dict, route: str):
    found, document = pictures.of_json(post(http, route, "application/json").content)
    assert np.array_equal(found, truth[route])
    assert document["version"] == serving.__version__


@pytest.mark.parametrize("accept", ["application/json", "application/zip"])
def test_every_picture_carries_its_address(http: httpx2.Client, accept: str):
    read = pictures.of_json if accept == "application/json" else pictures.of_zip

    def where(route: str, **changes: Any) -> list[tuple[int | None, int | None]]:
        _, document = read(post(http, route, accept, **changes).content)
        return [(entry["seed"], entry["index"]) for entry in document["images"]]

    top = 2**64 - 1
    assert where("/v1/sample", seed=top, n=2, start=top - 1) == [(top, top - 1), (top, top)]
    assert where("/v1/digits") == [(7, i) for i in range(6)]
    between = [(None, None)] * 3
    assert where("/v1/interpolate") == [(7, 0), *between, (7, 4), *between, (9, 0)]
    assert where("/v1/style-mix") == [(None, None)] * 6


def test_a_conditional_models_pictures_carry_their_class(http: httpx2.Client):
    response = post(http, "/v1/digits", "application/json")
    entries = response.json()["images"]
    assert [entry["class"] for entry in entries] == ["9", "0", "7"] * 2
    assert [entry["label"] for entry in entries] == [9, 0, 7] * 2
    assert response.headers["x-ganymede-labels"] == "9,0,7,9,0,7"


def test_headers_say_where_the_pictures_lie(http: httpx2.Client):
    sample = post(http, "/v1/sample", start=2**63).headers
    assert (sample["x-ganymede-model"], sample["x-ganymede-version"]) == ("tiny-style", serving.__version__)
    assert (sample["x-ganymede-seed"], sample["x-ganymede-start"]) == ("7", str(2**63))
    path = post(http, "/v1/interpolate").headers
    assert path["x-ganymede-addresses"] == "7:0,,,,7:4,,,,9:0"


@ROUTES
def test_pictures_are_enlarged_by_whole_pixels(http: httpx2.Client, truth: dict, route: str):
    found, _ = pictures.of_zip(post(http, route, "application/zip", scale=3).content)
    assert np.array_equal(found, truth[route].repeat(3, axis=1).repeat(3, axis=2))
    small = pictures.decode(post(http, route, "image/png").content)
    large = pictures.decode(post(http, route, "image/png", scale=3).content)
    assert np.array_equal(large, small.repeat(3, axis=0).repeat(3, axis=1))


def test_an_animation_is_enlarged_too(http: httpx2.Client, truth: dict):
    found = pictures.frames(post(http, "/v1/interpolate", "image/gif", scale=2).content)
    assert np.array_equal(found, truth["/v1/interpolate"].repeat(2, axis=1).repeat(2, axis=2))


@GRIDS
def test_columns_are_the_width_of_the_grid(http: httpx2.Client, truth: dict, route: str):
    grid = pictures.decode(post(http, route, "image/png", columns=2).content)
    assert np.array_equal(pictures.cells(grid, 2, SIZE, SIZE)[: COUNT[route]], truth[route])


@GRIDS
def test_npy_is_neither_enlarged_nor_laid_out(http: httpx2.Client, truth: dict, route: str):
    found = pictures.of_npy(post(http, route, "application/x-npy", scale=16, columns=1).content)
    assert np.array_equal(found, truth[route])


@pytest.mark.parametrize("loop", [False, True])
def test_a_loop_plays_for_ever_and_another_once(http: httpx2.Client, loop: bool):
    gif = post(http, "/v1/interpolate", "image/gif", loop=loop).content
    assert (b"NETSCAPE2.0" in gif) == loop


def test_accept_of_a_browser_gets_a_picture(http: httpx2.Client):
    accept = "text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"
    response = http.post("/v1/sample", json={}, headers={"Accept": accept})
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["vary"] == "Accept"


def test_a_drawn_seed_is_told_and_makes_the_same_pictures_again(http: httpx2.Client):
    first = http.post("/v1/sample", json={"n": 2})
    seed = int(first.headers["x-ganymede-seed"])
    assert 0 <= seed < 2**53, "JavaScript holds it"
    assert http.post("/v1/sample", json={"n": 2, "seed": seed}).content == first.content
    assert http.post("/v1/sample", json={"n": 2}).headers["x-ganymede-seed"] != str(seed)


def test_a_model_that_can_do_it_is_found(http: httpx2.Client):
    def model(route: str, body: dict) -> str:
        return json.loads(http.post(route, json=body, headers={"Accept": "application/json"}).content)["model"]

    assert model("/v1/sample", {}) == "tiny-cgan", "the first"
    assert model("/v1/digits", {"digits": "1"}) == "tiny-cgan"
    assert model("/v1/style-mix", {"rows": [1], "columns": [2]}) == "tiny-style"


@pytest.mark.parametrize("accept", ["application/zip", "application/json", "application/x-npy"])
def test_a_large_reply_comes_piece_by_piece_and_whole(http: httpx2.Client, accept: str):
    body = {"model": "tiny-style", "n": 256, "seed": 7, "scale": 4}
    with http.stream("POST", "/v1/sample", json=body, headers={"Accept": accept}) as response:
        content = b"".join(response.iter_bytes())
    if accept == "application/x-npy":
        assert response.headers["content-length"] == str(len(content))
        return
    assert response.headers["transfer-encoding"] == "chunked"
    small = pictures.of_npy(http.post("/v1/sample", json=body, headers={"Accept": "application/x-npy"}).content)
    if accept == "application/zip":
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            assert file.testzip() is None
            pngs = [file.read(entry["file"]) for entry in json.loads(file.read("manifest.json"))["images"]]
    else:
        pngs = [base64.b64decode(entry["png"]) for entry in json.loads(content)["images"]]
    assert np.array_equal([pictures.decode(png)[::4, ::4] for png in pngs], small)
