"""JSON as clients of every language write it: with a byte-order mark, a charset, or a key twice."""

import httpx2
import pytest

POINTERS = [
    ("/v1/sample", '{"n": 2, "n": 3}', ["/n"]),
    ("/v1/sample", '{"n": 2, "seed": 7, "n": 2}', ["/n"]),
    ("/v1/sample", r'{"seed": 7, "\u0073eed": 8}', ["/seed"]),  # one key in two spellings
    ("/v1/sample", '{"n": 2, "n": 2, "n": 2, "seed": 1, "seed": 1}', ["/n", "/n", "/seed"]),
    ("/v1/sample", '{"seed": %s, "seed": 1}' % ("9" * 4000), ["/seed"]),
    ("/v1/sample", '{"labels": %s, "labels": 1}' % ("[" * 150 + "]" * 150), ["/labels"]),
    ("/v1/interpolate", '{"keyframes": [1, {"seed": 2, "index": 1, "seed": 3}]}', ["/keyframes/1/seed"]),
    ("/v1/style-mix", '{"model": "tiny-style", "rows": [{"seed": 1, "seed": 1}], "columns": [1]}', ["/rows/0/seed"]),
]


@pytest.mark.parametrize(("route", "body", "pointers"), POINTERS)
def test_a_key_given_twice_is_an_error_that_points_at_it(
    http: httpx2.Client, route: str, body: str, pointers: list[str]
):
    response = http.post(route, content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert [error["pointer"] for error in response.json()["errors"]] == pointers


def test_keys_of_different_objects_are_not_the_same(http: httpx2.Client):
    body = {"rows": [{"seed": 1, "index": 2}, {"seed": 1, "index": 2}], "columns": [{"seed": 1}], "model": "tiny-style"}
    assert http.post("/v1/style-mix", json=body).status_code == 200


@pytest.mark.parametrize("body", [b'{"n": 2}', b' {"n": 2}'])
def test_a_byte_order_mark_is_passed_over(http: httpx2.Client, body: bytes):
    response = http.post("/v1/sample", content=b"\xef\xbb\xbf" + body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    plain = http.post("/v1/sample", json={"n": 2, "seed": int(response.headers["x-ganymede-seed"])})
    assert response.content == plain.content


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf", b'\xef\xbb\xbf\xef\xbb\xbf{"n": 2}', '{"n": 2}'.encode("utf-16")])
def test_a_mark_without_json_or_of_utf_16_is_an_error(http: httpx2.Client, body: bytes):
    response = http.post("/v1/sample", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ("; charset=utf-8", 200),
        (";charset=UTF-8", 200),
        ('; charset="utf-8"', 200),
        ("; Charset=utf8", 200),
        ("; profile=x; charset=utf-8", 200),
        ("; profile=x", 200),
        (";", 200),
        ("; charset=utf-16", 415),
        ("; charset=iso-8859-1", 415),
        ('; charset="windows-1252"', 415),
        ("; profile=x; CHARSET=utf-16le", 415),
        ("; charset=", 415),
        ("; charset=utf-8, text/plain", 415),
    ],
)
def test_json_is_utf_8_and_no_other_charset(http: httpx2.Client, parameters: str, status: int):
    response = http.post("/v1/sample", content=b"{}", headers={"Content-Type": f"application/json{parameters}"})
    assert response.status_code == status
    if status == 415:
        assert response.json()["code"] == "unsupported-media-type"
        assert response.headers["accept"] == "application/json"
