"""The Open Inference Protocol: raw latents in, images and styles out, as JSON and as binary tensors."""

import io
import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from server import Server
from serving.api import openapi
from serving.engine.latents import latents

SEED = {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [7]}


def tensor(name: str, values: np.ndarray, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist()}


def column(name: str, values: list[int], datatype: str = "UINT64") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(values), 1], "data": values}


def infer(http: httpx2.Client, model: str, *inputs: dict[str, Any], **more: Any) -> dict[str, np.ndarray]:
    """The outputs of a request that succeeds, from JSON."""
    response = http.post(f"/v2/models/{model}/infer", json={"inputs": inputs} | more)
    assert response.status_code == 200, response.text
    reply = response.json()
    assert (reply["model_name"], reply["model_version"]) == (model, "1")
    dtypes = {"UINT8": np.uint8, "FP32": np.float32}
    return {
        output["name"]: np.array(output["data"], dtypes[output["datatype"]]).reshape(output["shape"])
        for output in reply["outputs"]
    }


def sample(http: httpx2.Client, model: str, **body: Any) -> np.ndarray:
    """The images of `/v1/sample`, (N, H, W, C)."""
    response = http.post("/v1/sample", json={"model": model} | body, headers={"Accept": "application/x-npy"})
    return np.load(io.BytesIO(response.content))


def test_an_address_gives_the_image_of_v1(http: httpx2.Client):
    top = 2**64 - 1
    found = infer(http, "tiny-dcgan", column("seed", [7, top]), column("index", [3, top]))
    assert list(found) == ["image"]
    assert (found["image"][:1] == sample(http, "tiny-dcgan", seed=7, start=3)).all()
    assert (found["image"][1:] == sample(http, "tiny-dcgan", seed=top, start=top)).all()


def test_z_gives_the_image_of_its_address(http: httpx2.Client):
    z = latents([(7, 0), (7, 1)], 8)  # type: ignore[arg-type]
    found = infer(http, "tiny-dcgan", tensor("z", z, "FP32"))
    assert (found["image"] == sample(http, "tiny-dcgan", seed=7, n=2)).all()


@pytest.mark.parametrize("psi", [None, 0.25])
def test_seed_to_w_to_the_same_image(http: httpx2.Client, psi: float | None):
    extra = [] if psi is None else [tensor("psi", np.full((2, 1), psi), "FP32")]
    addresses = [column("seed", [7, 7]), column("index", [0, 1]), *extra]
    first = infer(http, "tiny-style", *addresses, outputs=[{"name": "w"}])
    assert list(first) == ["w"]
    again = infer(http, "tiny-style", tensor("w", first["w"], "FP32"))
    assert (again["w"] == first["w"]).all()
    assert (again["image"] == sample(http, "tiny-style", seed=7, n=2, truncation=psi)).all()


def test_one_w_is_for_all_layers(http: httpx2.Client):
    w = infer(http, "tiny-style", SEED)["w"]
    assert (w[:, :1] == w).all()
    found = infer(http, "tiny-style", tensor("w", w[:, 0], "FP32"))["image"]
    assert (found == sample(http, "tiny-style", seed=7)).all()


def test_psi_of_each_layer_is_a_cutoff(http: httpx2.Client):
    psi = np.array([[0.5] * 3 + [1] * 3])
    w = infer(http, "tiny-style", SEED, tensor("psi", psi, "FP32"))["w"]
    full, half = (infer(http, "tiny-style", SEED, tensor("psi", np.array([[p]]), "FP32"))["w"] for p in (1, 0.5))
    assert (w[:, :3] == half[:, :3]).all() and (w[:, 3:] == full[:, 3:]).all() and (half != full).any()


def test_labels_follow_from_the_index_or_are_given(http: httpx2.Client):
    given = infer(http, "tiny-cgan", SEED, column("label", [4], "INT64"))["image"]
    assert (given == sample(http, "tiny-cgan", seed=7, labels=4)).all()
    drawn = infer(http, "tiny-cgan", column("seed", [7]), column("index", [3]))["image"]
    assert (drawn == sample(http, "tiny-cgan", seed=7, start=3)).all()


def test_binary_tensors_follow_the_json(http: httpx2.Client):
    z = latents([(7, 0), (7, 1)], 8)  # type: ignore[arg-type]
    head = {
        "id": "mine",
        "inputs": [
            {"name": "z", "datatype": "FP32", "shape": [2, 8], "parameters": {"binary_data_size": z.nbytes}},
            {"name": "psi", "datatype": "FP32", "shape": [2, 1], "data": [[1], [1]]},
        ],
        "outputs": [{"name": "image", "parameters": {"binary_data": True}}, {"name": "w"}],
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    response = http.post("/v2/models/tiny-style/infer", content=text + z.tobytes(), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    length = int(response.headers["inference-header-content-length"])
    reply = json.loads(response.content[:length])
    image, w = reply["outputs"]
    assert reply["id"] == "mine"
    assert (image["shape"], image["parameters"]) == ([2, 16, 16, 3], {"binary_data_size": 2 * 16 * 16 * 3})
    assert "data" not in image and len(w["data"]) == 2 * 6 * 12
    assert response.content[length:] == sample(http, "tiny-style", seed=7, n=2).tobytes()


def test_metadata_names_the_tensors_of_a_model(http: httpx2.Client):
    reply = http.get("/v2/models/tiny-style").json()
    assert {item["name"]: (item["datatype"], item["shape"]) for item in reply["inputs"]} == {
        "seed": ("UINT64", [-1, 1]),
        "index": ("UINT64", [-1, 1]),
        "z": ("FP32", [-1, 8]),
        "psi": ("FP32", [-1, 1]),
        "w": ("FP32", [-1, 6, 12]),
    }
    assert [item["name"] for item in reply["outputs"]] == ["image", "w"]
    names = {item["name"] for item in http.get("/v2/models/tiny-cgan").json()["inputs"]}
    assert names == {"seed", "index", "z", "label"}


def z_of(shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": "z", "datatype": "FP32", "shape": shape, "data": data}


@pytest.mark.parametrize(
    ("model", "inputs", "pointer"),
    [
        ("tiny-dcgan", [], "/inputs"),
        ("tiny-dcgan", [{"name": "seed"}], "/inputs/0/shape"),
        ("tiny-dcgan", [column("index", [7])], "/inputs"),
        ("tiny-dcgan", [SEED, SEED], "/inputs/1/name"),
        ("tiny-dcgan", [SEED, z_of([1, 8], [0] * 8)], "/inputs"),
        ("tiny-dcgan", [SEED, column("index", [1, 2])], "/inputs/1/shape"),
        ("tiny-dcgan", [{"name": "w", "datatype": "FP32", "shape": [1, 12], "data": [0] * 12}], "/inputs/0/name"),
        ("tiny-dcgan", [column("seed", [7], "INT64")], "/inputs/0/datatype"),
        ("tiny-dcgan", [column("seed", [-1])], "/inputs/0/data"),
        ("tiny-dcgan", [column("seed", [2**64])], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "data": [1.5]}], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "data": [True]}], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "data": [[1, 2]]}], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "data": None}], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "shape": [0, 1]}], "/inputs/0/shape"),
        ("tiny-dcgan", [{**SEED, "shape": [257, 1]}], "/inputs/0/shape"),
        ("tiny-dcgan", [{**SEED, "shape": [-1, 1]}], "/inputs/0/shape/0"),
        ("tiny-dcgan", [z_of([1, 9], [0] * 9)], "/inputs/0/shape"),
        ("tiny-dcgan", [z_of([1, 8], [0] * 7 + ["0"])], "/inputs/0/data"),
        ("tiny-dcgan", [z_of([1, 8], [[0] * 4, [0] * 3, 0])], "/inputs/0/data"),
        ("tiny-dcgan", [z_of([1, 8], [0] * 7 + [1e39])], "/inputs/0/data"),
        ("tiny-dcgan", [z_of([1, 8], [0] * 7 + [10**400])], "/inputs/0/data"),
        ("tiny-dcgan", [{**SEED, "parameters": {"binary_data_size": 8}}], "/inputs/0/parameters/binary_data_size"),
        ("tiny-cgan", [SEED, column("label", [10], "INT64")], "/inputs"),
        ("tiny-cgan", [z_of([1, 8], [0] * 8)], "/inputs"),
        ("tiny-style", [SEED, tensor("psi", np.array([[1.5]]), "FP32")], "/inputs"),
        ("tiny-style", [tensor("w", np.zeros((1, 12)), "FP32"), tensor("psi", np.ones((1, 1)), "FP32")], "/inputs"),
    ],
)
def test_a_wrong_tensor_is_pointed_at(http: httpx2.Client, model: str, inputs: list[Any], pointer: str):
    response = http.post(f"/v2/models/{model}/infer", json={"inputs": inputs})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid-request"), problem
    assert problem["errors"][0]["pointer"] == pointer, problem
    assert problem["error"] == problem["detail"]


@pytest.mark.parametrize(
    ("length", "content"),
    [("x", b"{}"), ("0", b"{}"), ("3", b"{}"), ("9999999999", b"{}"), ("-1", b"{}")],
)
def test_a_wrong_length_of_the_json(http: httpx2.Client, length: str, content: bytes):
    headers = {"Inference-Header-Content-Length": length}
    response = http.post("/v2/models/tiny-dcgan/infer", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")


def test_bytes_that_no_tensor_claims_are_an_error(http: httpx2.Client):
    text = json.dumps({"inputs": [SEED]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    response = http.post("/v2/models/tiny-dcgan/infer", content=text + b"1234", headers=headers)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/inputs")


def test_nan_in_binary_is_an_error(http: httpx2.Client):
    z = np.full((1, 8), np.nan, np.float32)
    parameters = {"binary_data_size": z.nbytes}
    head = {"inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 8], "parameters": parameters}]}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    response = http.post("/v2/models/tiny-dcgan/infer", content=text + z.tobytes(), headers=headers)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/inputs/0/data")


@pytest.mark.parametrize("outputs", [[{"name": "none"}], [{"name": "image"}, {"name": "image"}], []])
def test_a_wrong_output_is_an_error(http: httpx2.Client, outputs: list[dict[str, str]]):
    response = http.post("/v2/models/tiny-dcgan/infer", json={"inputs": [SEED], "outputs": outputs})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/v2/models/none/infer", {}, 404, "unknown-model"),
        ("GET", "/v2/models/none/ready", {}, 404, "unknown-model"),
        ("GET", "/v2/nothing", {}, 404, "unknown-route"),
        ("GET", "/v2/models/tiny-dcgan/infer", {}, 405, "method-not-allowed"),
        ("POST", "/v2/models/tiny-dcgan/infer", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        ("POST", "/v2/models/tiny-dcgan/infer", {"Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
        ("POST", "/v2/models/tiny-dcgan/infer", {"X-Request-Timeout": "0.000001"}, 504, "deadline-exceeded"),
    ],
)
def test_errors_have_what_the_protocol_reads(
    http: httpx2.Client, method: str, path: str, headers: dict[str, str], status: int, code: str
):
    content = json.dumps({"inputs": [SEED]}) if method == "POST" else None
    response = http.request(method, path, content=content, headers=headers)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert problem["error"] == problem["detail"]
    assert response.headers["content-type"] == "application/problem+json"


def test_v1_has_no_error_string(http: httpx2.Client):
    assert "error" not in http.get("/v1/models/none").json()


def test_a_body_may_have_16_mib(http: httpx2.Client):
    """Past the 64 KiB of the other routes; without its length, no more than those."""
    content = json.dumps({"inputs": [SEED]}).encode()
    for size, length, status in ((2**24, True, 200), (2**24 + 1, True, 413), (2**16, False, 200), (2**17, False, 413)):
        body = content + b" " * (size - len(content))
        response = http.post("/v2/models/tiny-dcgan/infer", content=body if length else iter([body]))
        assert response.status_code == status, (size, length, response.text)


def test_infer_is_counted_as_other_routes_are(server: Server, http: httpx2.Client):
    def counts() -> tuple[float, float]:
        route = "/v2/models/{model}/infer"
        return (
            server.metric("ganymede_requests_total", route=route, status="200"),
            server.metric("ganymede_images_total", model="tiny-dcgan"),
        )

    before = counts()
    infer(http, "tiny-dcgan", column("seed", [7, 8, 9]))
    assert counts() == (before[0] + 1, before[1] + 3)


def test_keys_and_rate_limit_hold(serve: Callable[..., Any], tmp_path: Any):
    keys = tmp_path / "keys.txt"
    keys.write_text("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b alice\n")  # of "secret"
    with (
        serve(GANYMEDE_API_KEYS_FILE=str(keys), GANYMEDE_RATE_LIMIT="2") as server,
        httpx2.Client(base_url=server.url) as http,
    ):
        assert [http.get(path).status_code for path in ("/v2/health/live", "/v2/health/ready")] == [200, 200]
        locked = http.get("/v2/models/tiny-dcgan")
        assert (locked.status_code, locked.json()["code"]) == (401, "unauthorized")
        http.headers["Authorization"] = "Bearer secret"
        body = {"inputs": [column("seed", [7] * 64)]}
        codes = [http.post("/v2/models/tiny-dcgan/infer", json=body).status_code for _ in range(2)]
        assert codes == [200, 429]


@pytest.mark.parametrize("title", openapi.INFER_EXAMPLES)
def test_an_example_of_the_document_is_answered(http: httpx2.Client, title: str):
    response = http.post("/v2/models/tiny-style/infer", json=openapi.INFER_EXAMPLES[title])
    assert response.status_code == 200, response.text
