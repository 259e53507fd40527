"""The GET routes: images as URLs, models, health."""

import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

import pictures

URL = "/v1/images/tiny-style/7/4.png"


def text_of(png: bytes) -> dict[str, str]:
    """The tEXt chunks of a PNG."""
    picture = Image.open(io.BytesIO(png))
    picture.load()
    return {str(keyword): value for keyword, value in picture.info.items()}


def text_of_sample(http: httpx2.Client, model: str, **body: object) -> dict[str, str]:
    return text_of(http.post("/v1/sample", json={"model": model} | body).content)


def test_a_url_is_the_picture_at_its_address(http: httpx2.Client):
    sample = http.post("/v1/sample", json={"model": "tiny-style", "seed": 7, "start": 4})
    response = http.get(URL)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.content == sample.content
    assert (response.headers["x-ganymede-seed"], response.headers["x-ganymede-start"]) == ("7", "4")


def test_a_url_takes_any_64_bit_address(http: httpx2.Client):
    top = 2**64 - 1
    sample = http.post("/v1/sample", json={"model": "tiny-dcgan", "seed": top, "start": top})
    assert http.get(f"/v1/images/tiny-dcgan/{top}/{top}.png").content == sample.content


@pytest.mark.parametrize(
    ("extension", "content_type"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
)
def test_the_extension_is_the_format_whatever_is_accepted(http: httpx2.Client, extension: str, content_type: str):
    response = http.get(f"/v1/images/tiny-style/7/4.{extension}", headers={"Accept": "text/html"})
    assert response.headers["content-type"] == content_type
    assert pictures.decode(response.content).shape == (16, 16, 3)


def test_a_query_chooses_class_truncation_and_scale(http: httpx2.Client):
    def sample(**body: object) -> bytes:
        return http.post("/v1/sample", json=body).content

    assert http.get("/v1/images/tiny-cgan/7/4.png?label=9").content == sample(
        model="tiny-cgan", seed=7, start=4, labels=9
    )
    assert http.get(f"{URL}?truncation=0.25").content == sample(model="tiny-style", seed=7, start=4, truncation=0.25)
    large = pictures.decode(http.get(f"{URL}?scale=3").content)
    small = pictures.decode(http.get(URL).content)
    assert np.array_equal(large, small.repeat(3, axis=0).repeat(3, axis=1))


@pytest.mark.parametrize(
    ("url", "pointer"),
    [
        ("/v1/images/tiny-style/x/4.png", "/seed"),
        ("/v1/images/tiny-style/7/-1.png", "/index"),
        (f"/v1/images/tiny-style/7/{2**64}.png", "/index"),
        (f"{URL}?scale=17", "/scale"),
        (f"{URL}?size=2", "/size"),
        (f"{URL}?label=1", "/label"),
        ("/v1/images/tiny-cgan/7/4.png?label=10", "/label"),
        ("/v1/images/tiny-cgan/7/4.png?truncation=1", "/truncation"),
        (f"{URL}?truncation=nan", "/truncation"),
    ],
)
def test_a_wrong_url_is_pointed_at(http: httpx2.Client, url: str, pointer: str):
    response = http.get(url)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize("file", ["4.gif", "4", "4.png.exe", ".png.", "4.PNG"])
def test_another_extension_is_no_route(http: httpx2.Client, file: str):
    assert http.get(f"/v1/images/tiny-style/7/{file}").status_code == 404


def test_a_url_is_cached_for_ever_and_revalidates_for_free(http: httpx2.Client):
    first = http.get(URL)
    assert "immutable" in first.headers["cache-control"] and "public" in first.headers["cache-control"]
    etag = first.headers["etag"]
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = http.get(URL, headers={"If-None-Match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get(URL, headers={"If-None-Match": '"other"'}).status_code == 200


def test_what_is_wrong_is_no_picture_that_anybody_holds(http: httpx2.Client):
    assert http.get("/v1/images/tiny-cgan/7/4.png?label=10", headers={"If-None-Match": "*"}).status_code == 422


def test_a_png_carries_its_address_and_model(http: httpx2.Client):
    sha256 = http.get("/v1/models/tiny-style").json()["sha256"]
    text = text_of(http.get(f"{URL}?truncation=0.5").content)
    assert text == {"model": "tiny-style", "model_sha256": sha256, "seed": "7", "index": "4", "truncation": "0.5"}
    assert text_of_sample(http, "tiny-cgan", seed=2**64 - 1, labels=9)["label"] == "9"
    assert text_of_sample(http, "tiny-cgan", seed=2**64 - 1)["seed"] == str(2**64 - 1)
    assert text_of_sample(http, "tiny-style", n=2).keys() == {"model", "model_sha256"}, "a grid has many addresses"


def test_an_etag_is_of_one_picture_alone(http: httpx2.Client):
    urls = [
        URL,
        "/v1/images/tiny-style/7/5.png",
        "/v1/images/tiny-style/8/4.png",
        "/v1/images/tiny-style/7/4.jpg",
        "/v1/images/tiny-dcgan/7/4.png",
        f"{URL}?scale=2",
        f"{URL}?truncation=0.5",
        "/v1/images/tiny-cgan/7/4.png?label=1",
        "/v1/images/tiny-cgan/7/4.png?label=2",
    ]
    assert len({http.get(url).headers["etag"] for url in urls}) == len(urls)


def test_head_is_get_without_the_picture(http: httpx2.Client):
    head, get = http.head(URL), http.get(URL)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["etag"] == get.headers["etag"]


def test_models_are_what_their_model_json_says(http: httpx2.Client, repository_folder: Path):
    listed = http.get("/v1/models").json()["models"]
    assert [model["id"] for model in listed] == ["tiny-cgan", "tiny-dcgan", "tiny-style"]
    for model in listed:
        sha256 = model["sha256"]
        assert model == http.get(f"/v1/models/{model['id']}").json()
        assert model == json.loads((repository_folder / model["id"] / "model.json").read_text()) | {"sha256": sha256}
        assert http.get(f"/v1/images/{model['id']}/7/4.png").headers["x-ganymede-model-sha256"] == sha256


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_running_server_is_alive_and_ready(http: httpx2.Client, path: str):
    assert http.get(path).status_code == 200


def test_bentoml_describes_the_four_operations(http: httpx2.Client):
    routes = {route["route"]: route["input"] for route in http.get("/schema.json").json()["routes"]}
    assert routes.keys() == {"/v1/sample", "/v1/digits", "/v1/interpolate", "/v1/style-mix"}
    assert routes["/v1/sample"]["properties"]["n"] == {
        "default": 1,
        "maximum": 256,
        "minimum": 1,
        "title": "N",
        "type": "integer",
    }
