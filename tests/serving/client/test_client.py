"""The client against the real server."""

import socket
import threading
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest

import pictures
import serving
from server import Server, free_port
from serving import client as package
from serving.client import Client, InvalidRequestError, NotFoundError, StatusError, TimeoutError, TransportError

TOP = 2**64 - 1


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def test_a_sample_is_pictures_with_their_addresses(client: Client, http: httpx2.Client):
    found = client.sample("tiny-dcgan", n=16, seed=7, start=3)
    assert len(found) == 16
    for i, picture in enumerate(found):
        assert (picture.model, picture.seed, picture.index, picture.label) == ("tiny-dcgan", 7, 3 + i, None)
        url = http.get(f"/v1/images/tiny-dcgan/7/{3 + i}.png").content
        assert np.array_equal(picture.array, pictures.decode(url))
        assert picture.image.mode == "L"
        assert np.array_equal(np.asarray(picture.image), picture.array[..., 0])


def test_a_reply_says_what_made_it(client: Client, http: httpx2.Client):
    found = client.sample("tiny-style", n=2, seed=7, truncation=0.5)
    assert found.array.shape == (2, 16, 16, 3)
    assert found[0].image.mode == "RGB"
    assert found.model_sha256 == http.get("/v1/models/tiny-style").json()["sha256"]
    assert found.version == serving.__version__
    assert len(found.request_id) == 32


def test_pictures_are_a_sequence(client: Client):
    found = client.sample("tiny-dcgan", n=5, seed=7)
    assert [picture.index for picture in found[1:4]] == [1, 2, 3]
    assert [picture.index for picture in reversed(found)] == [4, 3, 2, 1, 0]
    assert found[-1].index == 4
    with pytest.raises(IndexError):
        found[5]


def test_addresses_of_64_bits_are_exact(client: Client):
    (picture,) = client.sample("tiny-dcgan", seed=TOP, start=TOP)
    assert (picture.seed, picture.index) == (TOP, TOP)


def test_a_drawn_seed_makes_the_same_pictures_again(client: Client):
    first = client.sample("tiny-cgan", n=3)
    again = client.sample("tiny-cgan", n=3, seed=first[0].seed)
    assert np.array_equal(first.array, again.array)


def test_classes_are_told(client: Client):
    found = client.sample("tiny-cgan", n=3, seed=7, labels=[4, "2", 4])
    assert [picture.label for picture in found] == [4, 2, 4]
    assert [picture.label for picture in client.sample("tiny-cgan", n=12, seed=7)] == [*range(10), 0, 1]


def test_digits_read_left_to_right(client: Client):
    found = client.digits("907", rows=2, seed=7)
    assert [picture.label for picture in found] == [9, 0, 7] * 2
    assert [(picture.seed, picture.index) for picture in found] == [(7, i) for i in range(6)]
    assert np.array_equal(found.array, client.digits([9, 0, 7], rows=2, seed=7, model="tiny-cgan").array)


def test_frames_on_a_keyframe_have_its_address_and_others_none(client: Client):
    found = client.interpolate("tiny-style", keyframes=[7, (7, 4), 9], frames=5, space="w", method="lerp")
    assert [(p.seed, p.index) for p in found] == [(7, 0), (None, None), (7, 4), (None, None), (9, 0)]
    (keyframe,) = client.sample("tiny-style", seed=7, start=4)
    assert np.array_equal(found[2].array, keyframe.array)


def test_a_style_mix_is_row_by_row(client: Client):
    found = client.style_mix(rows=[1, 2], columns=[3, (3, 1), 4], styles=[0, 1, 2, 3, 4, 5])
    assert len(found) == 6 and found.model == "tiny-style"
    columns = [client.sample("tiny-style", seed=seed, start=index)[0].array for seed, index in [(3, 0), (3, 1), (4, 0)]]
    assert np.array_equal(found.array, columns * 2), "all layers are the column's"
    assert {picture.seed for picture in found} == {None}


def test_models_are_what_the_server_has(client: Client):
    models = client.models()
    assert [model["id"] for model in models] == ["tiny-cgan", "tiny-dcgan", "tiny-style"]
    assert client.model("tiny-style") == models[2]


def test_a_wrong_field_is_an_error_that_points_at_it(client: Client):
    with pytest.raises(InvalidRequestError, match=r"`n` \(=1000\) must be between 1 and 256\.") as caught:
        client.sample("tiny-dcgan", n=1000)
    error = caught.value
    assert (error.status, error.code) == (422, "invalid-request")
    assert [field["pointer"] for field in error.errors] == ["/n"]
    assert error.request_id and error.retry_after is None


@pytest.mark.parametrize("id", ["none", "a/b", "../models", "ünknown"])
def test_an_unknown_model_is_an_error(client: Client, id: str):
    with pytest.raises(NotFoundError):
        client.model(id)
    with pytest.raises(NotFoundError) as caught:
        client.sample(id)
    assert caught.value.code == "unknown-model"


def test_no_server_is_an_error():
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(TransportError):
        client.models()


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers one request with the bytes it is given, or never."""
    answers: list[bytes] = []
    done = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            if answers:
                connection.sendall(answers[0])
            else:
                done.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", answers
        done.set()
        thread.join()


def test_a_server_that_says_nothing_is_a_timeout(stranger: tuple[str, list[bytes]]):
    with Client(stranger[0], timeout=0.2) as client, pytest.raises(TimeoutError):
        client.models()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x93NUMPY",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_broken_answer_is_never_pictures(stranger: tuple[str, list[bytes]], answer: bytes):
    stranger[1].append(answer)
    with Client(stranger[0]) as client, pytest.raises(TransportError):
        client.sample(seed=7)


def test_an_error_of_something_in_between_is_a_status_error(stranger: tuple[str, list[bytes]]):
    stranger[1].append(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\nRetry-After: 7\r\n\r\n<html>")
    with Client(stranger[0]) as client, pytest.raises(StatusError, match="502") as caught:
        client.models()
    assert (caught.value.code, caught.value.retry_after) == ("unknown", 7)


def test_everything_public_is_in_all():
    public = {name for name, value in vars(package).items() if isinstance(value, type) and not name.startswith("_")}
    assert set(package.__all__) == public
