"""The clients against the real server."""

import inspect
from typing import Any

import httpx2
import numpy as np
import pytest

import pictures
import serving
from server import ROOT, Server, free_port
from serving import client as package
from serving.client import (
    Address,
    AsyncClient,
    AsyncStream,
    Client,
    ConnectionError,
    InvalidRequestError,
    NotFoundError,
    Stream,
)

TOP = 2**64 - 1


def test_a_sample_is_pictures_with_their_addresses(client: Any, http: httpx2.Client):
    found = client.sample("tiny-dcgan", n=16, seed=7, start=3)
    assert len(found) == 16
    for i, picture in enumerate(found):
        assert (picture.model, picture.address, picture.label) == ("tiny-dcgan", Address(7, 3 + i), None)
        assert (picture.seed, picture.index) == (7, 3 + i)
        url = http.get(f"/v1/images/tiny-dcgan/7/{3 + i}.png").content
        assert np.array_equal(picture.array, pictures.decode(url))
        assert picture.image.mode == "L"
        assert np.array_equal(np.asarray(picture.image), picture.array[..., 0])


def test_a_reply_says_what_made_it(client: Any, http: httpx2.Client):
    found = client.sample("tiny-style", n=2, seed=7, truncation=0.5)
    assert found.array.shape == (2, 16, 16, 3)
    assert found[0].image.mode == "RGB"
    assert found.model_sha256 == http.get("/v1/models/tiny-style").json()["sha256"]
    assert found.version == serving.__version__
    assert len(found.request_id) == 32
    assert {(p.model_sha256, p.request_id) for p in found} == {(found.model_sha256, found.request_id)}


def test_pictures_are_a_sequence(client: Any):
    found = client.sample("tiny-dcgan", n=5, seed=7)
    assert [picture.index for picture in found[1:4]] == [1, 2, 3]
    assert [picture.index for picture in reversed(found)] == [4, 3, 2, 1, 0]
    assert found[-1].index == 4
    with pytest.raises(IndexError):
        found[5]


def test_addresses_of_64_bits_are_exact(client: Any):
    (picture,) = client.sample("tiny-dcgan", seed=TOP, start=TOP)
    assert (picture.seed, picture.index) == (TOP, TOP)


def test_numpys_integers_are_integers(client: Any):
    found = client.sample("tiny-cgan", n=np.int64(2), seed=np.uint64(TOP), start=np.int32(3), labels=np.array([4, 2]))
    assert [(p.address, p.label) for p in found] == [((TOP, 3), 4), ((TOP, 4), 2)]
    assert client.digits(np.array([9, 0]), seed=np.int64(7)).labels == [9, 0]


def test_a_seed_drawn_by_the_client_repeats_its_images(client: Any):
    first, other = client.sample("tiny-cgan", n=3), client.sample("tiny-cgan", n=3)
    assert 0 <= first[0].seed < 2**53 and first[0].seed != other[0].seed
    again = client.sample("tiny-cgan", n=3, seed=first[0].seed)
    assert np.array_equal(first.array, again.array)


def test_classes_are_told(client: Any):
    found = client.sample("tiny-cgan", n=3, seed=7, labels=[4, "2", 4])
    assert [picture.label for picture in found] == [4, 2, 4]
    assert [picture.label for picture in client.sample("tiny-cgan", n=12, seed=7)] == [*range(10), 0, 1]


def test_digits_read_left_to_right(client: Any):
    found = client.digits("907", rows=2, seed=7)
    assert [picture.label for picture in found] == [9, 0, 7] * 2
    assert [picture.address for picture in found] == [(7, i) for i in range(6)]
    assert np.array_equal(found.array, client.digits([9, 0, 7], rows=2, seed=7, model="tiny-cgan").array)
    assert found.grid().size == (3 * 16, 2 * 16)


def test_frames_on_a_keyframe_have_its_address_and_others_none(client: Any):
    found = client.interpolate("tiny-style", keyframes=[7, (7, 4), 9], frames=5, space="w", method="lerp")
    assert [(p.seed, p.index) for p in found] == [(7, 0), (None, None), (7, 4), (None, None), (9, 0)]
    (keyframe,) = client.sample("tiny-style", seed=7, start=4)
    assert np.array_equal(found[2].array, keyframe.array)


def test_a_style_mix_is_row_by_row(client: Any):
    found = client.style_mix(rows=[1, 2], columns=[3, (3, 1), 4], styles=[0, 1, 2, 3, 4, 5])
    assert len(found) == 6 and found.model == "tiny-style"
    columns = [client.sample("tiny-style", seed=seed, start=index)[0].array for seed, index in [(3, 0), (3, 1), (4, 0)]]
    assert np.array_equal(found.array, columns * 2), "all layers are the column's"
    assert {picture.address for picture in found} == {None}
    assert found.grid().size == (3 * 16, 2 * 16)


def test_models_are_what_the_server_has(client: Any, http: httpx2.Client):
    models = client.models()
    assert [model.id for model in models] == ["tiny-cgan", "tiny-dcgan", "tiny-style"]
    assert [model.classes and len(model.classes) for model in models] == [10, None, None]
    assert [model.style_layers for model in models] == [None, None, 6]
    assert [(model.height, model.width, model.channels) for model in models] == [(16, 16, 1), (16, 16, 1), (16, 16, 3)]
    assert client.model("tiny-style") == models[2]
    assert models[2].document == http.get("/v1/models/tiny-style").json()


def test_a_wrong_field_is_an_error_that_points_at_it(client: Any):
    with pytest.raises(InvalidRequestError, match=r"`n` \(=1000\) must be between 1 and 256\.") as caught:
        client.sample("tiny-dcgan", n=1000)
    error = caught.value
    assert (error.status, error.code) == (422, "invalid-request")
    assert error.pointers == ("/n",) and error.errors[0].detail == error.detail
    assert error.request_id and error.retry_after is None
    assert "pointers" in error.remedy
    assert f"Request id: {error.request_id}" in error.__notes__


@pytest.mark.parametrize("id", ["none", "a/b", "../models", "ünknown"])
def test_an_unknown_model_is_an_error(client: Any, id: str):
    with pytest.raises(NotFoundError):
        client.model(id)
    with pytest.raises(NotFoundError) as caught:
        client.sample(id)
    assert caught.value.code == "unknown-model"


def test_no_server_is_an_error(connect: Any, impatient: None):
    with connect(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectionError) as caught:
            client.models()
        assert caught.value.request_id and "base_url" in caught.value.remedy
        with pytest.raises(OSError):  # as Python's own are
            client.models()


def test_a_client_with_other_options_shares_the_connections(client: Any, server: Server, connect: Any):
    with connect(server.url) as client:
        other = client.with_options(timeout=5, retries=0)
        assert len(other.sample("tiny-dcgan", seed=7)) == 1
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            other.models()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, r"`timeout` \(=0\) must be a number of seconds above 0\."),
        ({"timeout": float("nan")}, r"`timeout` \(=nan\)"),
        ({"retries": -1}, r"`retries` \(=-1\) must be 0 or more\."),
        ({"base_url": "localhost:3000"}, r"`base_url` \(=localhost:3000\) must be an address such as http://"),
        ({"api_key": "ключ"}, r"^`api_key` must be printable ASCII"),
    ],
)
def test_a_wrong_option_is_an_error_at_once(connect: Any, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        connect(**options)


def test_address_and_key_default_to_the_environments(server: Server, connect: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GANYMEDE_BASE_URL", server.url)
    with connect() as client:
        assert client.base_url.rstrip("/") == server.url
        assert len(client.models()) == 3
    monkeypatch.setenv("GANYMEDE_BASE_URL", "ftp://nowhere")
    with connect(server.url) as client:
        assert len(client.models()) == 3
    with pytest.raises(ValueError, match=r"`GANYMEDE_BASE_URL` \(=ftp://nowhere\)"):
        connect()


def test_the_twins_have_the_same_public_surface():
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
    for sync, twin in ((Client, AsyncClient), (Stream, AsyncStream)):
        names = {name for name in vars(sync) if not name.startswith("_")}
        assert names == {name for name in vars(twin) if not name.startswith("_")}
        for name in names:
            one, other = vars(sync)[name], vars(twin)[name]
            if callable(one):
                assert inspect.signature(one).parameters == inspect.signature(other).parameters, name
                assert (one.__doc__ or "").replace("to iterate over", "for `async for`") == (other.__doc__ or ""), name


def test_everything_public_is_in_all():
    public = {name for name, value in vars(package).items() if isinstance(value, type) and not name.startswith("_")}
    assert set(package.__all__) == public
    assert package.__all__ == sorted(package.__all__)


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "serving" / "py.typed").exists()
