"""Triton's HTTP clients, unmodified: a seed in, its w out, that w in, the image of `/v1/sample`."""

import asyncio
import io

import httpx2
import numpy as np
import pytest

from server import Server

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
aio = pytest.importorskip("tritonclient.http.aio", reason="tritonclient[http] is not installed")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException


def tensor(name: str, values: np.ndarray, datatype: str, binary: bool):
    found = triton.InferInput(name, list(values.shape), datatype)
    found.set_data_from_numpy(values, binary_data=binary)
    return found


def sample(http: httpx2.Client, **body: object) -> np.ndarray:
    response = http.post("/v1/sample", json=body, headers={"Accept": "application/x-npy"})
    return np.load(io.BytesIO(response.content))


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_seed_to_w_to_the_same_image(server: Server, http: httpx2.Client, binary: bool):
    address = [
        tensor("seed", np.full((3, 1), 7, np.uint64), "UINT64", binary),
        tensor("index", np.arange(3, dtype=np.uint64).reshape(3, 1), "UINT64", binary),
    ]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("image", "w")]
    truth = sample(http, model="tiny-style", seed=7, n=3)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        first = client.infer("tiny-style", address, outputs=outputs[1:])
        w = first.as_numpy("w")
        assert w.shape == (3, 6, 12) and w.dtype == np.float32 and first.as_numpy("image") is None
        again = client.infer("tiny-style", [tensor("w", w, "FP32", binary)], outputs=outputs, request_id="mine")
        assert again.get_response()["id"] == "mine"
        assert again.as_numpy("image").tobytes() == truth.tobytes()
        assert again.as_numpy("w").tobytes() == w.tobytes()
        everything = client.infer("tiny-style", address)
        assert everything.as_numpy("image").tobytes() == truth.tobytes()


def test_health_and_metadata(server: Server):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("tiny-cgan") and not client.is_model_ready("none")
        assert client.get_server_metadata()["name"] == "ganymede"
        assert client.get_model_metadata("tiny-cgan")["outputs"][0]["datatype"] == "UINT8"


def test_an_error_has_its_text(server: Server):
    wrong = [tensor("seed", np.full((1, 2), 7, np.uint64), "UINT64", True)]
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException, match="shape"):
            client.infer("tiny-dcgan", wrong)
        with pytest.raises(InferenceServerException, match="none"):
            client.get_model_metadata("none")


def test_the_client_for_asyncio(server: Server, http: httpx2.Client):
    async def infer() -> np.ndarray:
        async with aio.InferenceServerClient(server.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            seed = aio.InferInput("seed", [1, 1], "UINT64")
            seed.set_data_from_numpy(np.full((1, 1), 7, np.uint64), binary_data=True)
            w = (await client.infer("tiny-style", [seed])).as_numpy("w")
            style = aio.InferInput("w", list(w.shape), "FP32")
            style.set_data_from_numpy(w, binary_data=True)
            return (await client.infer("tiny-style", [style])).as_numpy("image")

    assert asyncio.run(infer()).tobytes() == sample(http, model="tiny-style", seed=7).tobytes()
