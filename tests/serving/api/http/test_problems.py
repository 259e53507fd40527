"""What goes wrong is told as a problem document (RFC 9457), on every route, and nothing is a 500."""

import gzip
import http.client
import json
import socket
from typing import Any

import httpx2
import pytest

from server import Server

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}
PICTURE = "/v1/images/tiny-style/7/0.png"


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The document of a reply that must be this problem."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    document = response.json()
    assert MEMBERS <= document.keys() <= MEMBERS | {"errors"}
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"].endswith(code)
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def pointers(document: dict[str, Any]) -> dict[str, str]:
    return {error["pointer"]: error["detail"] for error in document["errors"]}


def test_a_problem_says_what_was_wrong_and_what_would_be_right(http: httpx2.Client):
    document = problem(http.post("/v1/sample", json={"n": 1000}), 422, "invalid-request")
    assert document["detail"] == "`n` (=1000) must be between 1 and 256."
    assert document["instance"] == "/v1/sample"
    assert document["title"] == "Unprocessable Content"
    assert document["errors"] == [{"pointer": "/n", "detail": "`n` (=1000) must be between 1 and 256."}]


@pytest.mark.parametrize(
    ("route", "body", "pointer", "part"),
    [
        ("/v1/sample", {"model": "tiny-dcgan", "labels": 3}, "/labels", "tiny-dcgan has no classes"),
        ("/v1/sample", {"model": "tiny-cgan", "labels": [1, 10], "n": 2}, "/labels/1", "between 0 and 9"),
        ("/v1/sample", {"model": "tiny-cgan", "labels": "ten"}, "/labels", "ten"),
        ("/v1/sample", {"model": "tiny-cgan", "labels": [1, 2]}, "/labels", "2 entries"),
        ("/v1/sample", {"model": "tiny-dcgan", "truncation": 0.5}, "/truncation", "style models"),
        ("/v1/sample", {"n": 2, "start": 2**64 - 1}, "/start", str(2**64 - 2)),
        ("/v1/digits", {"digits": "1", "model": "tiny-dcgan"}, "/model", "digits 0 to 9"),
        ("/v1/interpolate", {"model": "tiny-dcgan", "keyframes": [1, 2], "space": "w"}, "/space", "style models"),
        ("/v1/style-mix", {"model": "tiny-dcgan", "rows": [1], "columns": [2]}, "/model", "style model"),
        ("/v1/style-mix", {"rows": [1], "columns": [2], "styles": [6]}, "/styles/0", "between 0 and 5"),
    ],
)
def test_what_a_model_cannot_do_is_pointed_at(http: httpx2.Client, route: str, body: dict, pointer: str, part: str):
    errors = pointers(problem(http.post(route, json=body), 422, "invalid-request"))
    assert errors.keys() == {pointer} and part in errors[pointer]


def test_an_image_too_wide_for_its_format_fits_another(http: httpx2.Client):
    body = {"model": "tiny-dcgan", "n": 256, "columns": 256, "scale": 4}  # 16384 x 64
    webp = http.post("/v1/sample", json=body, headers={"Accept": "image/webp"})
    assert "16383" in pointers(problem(webp, 422, "invalid-request"))["/columns"]
    assert http.post("/v1/sample", json=body, headers={"Accept": "image/png"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/sample"), ("GET", "/v1/models/none"), ("GET", "/v1/images/none/7/0.png")],
)
def test_an_unknown_model_is_told_with_those_there_are(http: httpx2.Client, method: str, path: str):
    response = http.request(method, path, json={"model": "none"} if method == "POST" else None)
    assert "`tiny-cgan`, `tiny-dcgan` or `tiny-style`" in problem(response, 404, "unknown-model")["detail"]


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/sample/", "/v1/models/", "/v3/sample", "/v1/images/tiny-style/7", "/none", "/%00"]
)
def test_an_unknown_route(http: httpx2.Client, path: str):
    problem(http.get(path), 404, "unknown-route")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/sample", {"POST"}),
        ("DELETE", "/v1/style-mix", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("PUT", PICTURE, {"GET", "HEAD"}),
        ("POST", "/readyz", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_a_route_does_not_take(http: httpx2.Client, method: str, path: str, allowed: set[str]):
    response = http.request(method, path)
    problem(response, 405, "method-not-allowed")
    assert {name.strip() for name in response.headers["allow"].split(",")} == allowed


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"],
)
def test_anything_but_json_is_refused(http: httpx2.Client, content_type: str | None):
    headers = {} if content_type is None else {"Content-Type": content_type}
    problem(http.post("/v1/sample", content=b"{}", headers=headers), 415, "unsupported-media-type")


def test_a_body_that_is_compressed_is_refused_for_that(http: httpx2.Client):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = http.post("/v1/sample", content=gzip.compress(b"{}"), headers=headers)
    document = problem(response, 415, "unsupported-media-type")
    assert "`Content-Encoding` (=gzip)" in document["detail"]
    assert response.headers["accept-encoding"] == "identity"
    plain = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert http.post("/v1/sample", content=b"{}", headers=plain).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken(http: httpx2.Client, content_type: str):
    assert http.post("/v1/sample", content=b"{}", headers={"Content-Type": content_type}).status_code == 200


def test_bentomls_pickle_is_refused(http: httpx2.Client):
    headers = {"Content-Type": "application/vnd.bentoml+pickle"}
    problem(http.post("/v1/sample", content=b"cos\nsystem\n", headers=headers), 415, "unsupported-media-type")


def test_a_format_that_is_not_on_offer(http: httpx2.Client):
    response = http.post("/v1/sample", json={}, headers={"Accept": "text/html"})
    assert "image/png" in problem(response, 406, "not-acceptable")["detail"]


def padded(size: int) -> bytes:
    return b"{}".ljust(size)


def test_a_body_of_64_kib_is_taken_and_one_byte_more_is_not(http: httpx2.Client):
    headers = {"Content-Type": "application/json"}
    assert http.post("/v1/sample", content=padded(2**16), headers=headers).status_code == 200
    problem(http.post("/v1/sample", content=padded(2**16 + 1), headers=headers), 413, "body-too-large")


def test_a_long_body_is_refused_while_it_arrives(server: Server):
    """In chunks, without a length: the answer comes though the body never ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = "POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        connection.sendall(head.encode() + b"\r\n\r\n")
        for _ in range(5):
            connection.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 413
        assert json.loads(response.read())["code"] == "body-too-large"


def test_a_client_that_leaves_amid_its_body_disturbs_nobody(server: Server, http: httpx2.Client):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = "POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100"
        connection.sendall(head.encode() + b"\r\n\r\n{")
    assert http.post("/v1/sample", json={}).status_code == 200
    assert "Traceback" not in server.log.read_text()


def test_a_request_id_is_taken_and_echoed_or_made(http: httpx2.Client):
    own = {"X-Request-Id": "trace-7/a.b:c"}
    assert http.post("/v1/sample", json={}, headers=own).headers["x-request-id"] == "trace-7/a.b:c"
    assert problem(http.get("/none", headers=own), 404, "unknown-route")["request_id"] == "trace-7/a.b:c"
    made = {http.get("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2 and all(len(id) == 32 for id in made)


@pytest.mark.parametrize("id", ["a b", "x" * 129, "é", "<script>", ""])
def test_a_request_id_that_could_harm_a_log_is_replaced(http: httpx2.Client, id: str):
    echoed = http.get("/v1/models", headers=[(b"X-Request-Id", id.encode())]).headers["x-request-id"]
    assert echoed != id and len(echoed) == 32
