"""Bodies and URLs: what is taken exactly, and the words for what is not."""

import json

import pytest
from pydantic import BaseModel

from serving.api.endpoints.images import ImageQuery
from serving.api.http.problems import Problem
from serving.api.http.validation import MAX_ERRORS, parse_json, parse_query
from serving.api.schemas import AddressBody, DigitsBody, InterpolateBody, SampleBody, StyleMixBody, address

TOP = 2**64 - 1


def errors_of(model: type[BaseModel], body: object) -> dict[str, str]:
    """Pointer -> message, of a body that must be refused."""
    with pytest.raises(Problem) as caught:
        parse_json(model, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert (caught.value.status, caught.value.code) == (422, "invalid-request")
    return {error.pointer: error.detail for error in caught.value.errors}


def test_an_empty_object_is_one_picture():
    body = parse_json(SampleBody, b"{}")
    assert (body.n, body.seed, body.start, body.scale) == (1, None, 0, 1)


def test_integers_of_64_bits_arrive_exact():
    body = parse_json(SampleBody, b'{"seed": 18446744073709551615, "start": 18446744073709551614}')
    assert (body.seed, body.start) == (TOP, TOP - 1)


def test_a_keyframe_is_a_seed_or_an_address():
    body = parse_json(InterpolateBody, b'{"keyframes": [7, {"seed": 8}, {"seed": 9, "index": 3}]}')
    assert [address(keyframe) for keyframe in body.keyframes] == [(7, 0), (8, 0), (9, 3)]
    assert body.keyframes[1] == AddressBody(seed=8)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 1000, "`n` (=1000) must be between 1 and 256."),
        ("n", 0, "`n` (=0) must be between 1 and 256."),
        ("n", "3", '`n` (="3") must be an integer.'),
        ("n", True, "`n` (=true) must be an integer."),
        ("n", 2.0, "`n` (=2.0) must be an integer."),
        ("n", None, "`n` (=null) must be an integer."),
        ("n", [1], "`n` (=[1]) must be an integer."),
        ("seed", -1, f"`seed` (=-1) must be between 0 and {TOP}."),
        ("seed", TOP + 1, f"`seed` (={TOP + 1}) must be between 0 and {TOP}."),
        ("scale", 17, "`scale` (=17) must be between 1 and 16."),
        ("columns", 0, "`columns` (=0) must be between 1 and 256."),
        ("truncation", 1.7, "`truncation` (=1.7) must be between 0 and 1."),
        ("truncation", "1", '`truncation` (="1") must be a number.'),
        ("truncation", False, "`truncation` (=false) must be a number."),
        ("truncation", float("nan"), "`truncation` (=NaN) must be a finite number."),
        ("truncation", float("inf"), "`truncation` (=Infinity) must be a finite number."),
        ("model", 3, "`model` (=3) must be a string."),
        ("labels", {}, "`labels` (={}) must be the index or the name of a class, or a list of them."),
        ("labels", True, "`labels` (=true) must be the index or the name of a class, or a list of them."),
        ("labels", [], "`labels` (=[]) must have 1 to 256 items, not 0."),
    ],
)
def test_a_wrong_field_is_told_with_its_value_and_what_is_right(field: str, value: object, message: str):
    assert errors_of(SampleBody, {field: value}) == {f"/{field}": message}


@pytest.mark.parametrize(
    ("model", "body", "pointer", "message"),
    [
        (
            SampleBody,
            {"labels": [1, "a", None]},
            "/labels/2",
            "`labels[2]` (=null) must be the index or the name of a class.",
        ),
        (DigitsBody, {}, "/digits", "`digits` is missing."),
        (DigitsBody, {"digits": "12a"}, "/digits", '`digits` (="12a") must be made of the digits 0 to 9.'),
        (DigitsBody, {"digits": "\u0663"}, "/digits", '`digits` (="\u0663") must be made of the digits 0 to 9.'),
        (DigitsBody, {"digits": "1\n"}, "/digits", '`digits` (="1\\n") must be made of the digits 0 to 9.'),
        (DigitsBody, {"digits": ""}, "/digits", '`digits` (="") must have 1 to 64 items, not 0.'),
        (DigitsBody, {"digits": [1, 10]}, "/digits/1", "`digits[1]` (=10) must be between 0 and 9."),
        (DigitsBody, {"digits": ["1"]}, "/digits/0", '`digits[0]` (="1") must be an integer.'),
        (DigitsBody, {"digits": 12}, "/digits", "`digits` (=12) must be a string or a list of digits."),
        (InterpolateBody, {"keyframes": [1]}, "/keyframes", "`keyframes` (=[1]) must have 2 to 16 items, not 1."),
        (InterpolateBody, {"keyframes": 1}, "/keyframes", "`keyframes` (=1) must be a list."),
        (
            InterpolateBody,
            {"keyframes": [1, "2"]},
            "/keyframes/1",
            '`keyframes[1]` (="2") must be a seed or {"seed": ..., "index": ...}.',
        ),
        (
            InterpolateBody,
            {"keyframes": [1, {"seed": -2}]},
            "/keyframes/1/seed",
            f"`keyframes[1].seed` (=-2) must be between 0 and {TOP}.",
        ),
        (InterpolateBody, {"keyframes": [1, {"index": 1}]}, "/keyframes/1/seed", "`keyframes[1].seed` is missing."),
        (
            InterpolateBody,
            {"keyframes": [1, {"seed": 1, "z/~": 0}]},
            "/keyframes/1/z~1~0",
            "`keyframes[1].z/~` is not a field here; the fields are `seed` and `index`.",
        ),
        (
            InterpolateBody,
            {"keyframes": [1, 2], "method": "cubic"},
            "/method",
            '`method` (="cubic") must be `slerp` or `lerp`.',
        ),
        (InterpolateBody, {"keyframes": [1, 2], "loop": 1}, "/loop", "`loop` (=1) must be true or false."),
        (
            InterpolateBody,
            {"keyframes": [1, 2], "frames": 1_000_001},
            "/frames",
            "`frames` (=1000001) must be between 2 and 1000000.",
        ),
        (
            StyleMixBody,
            {"rows": [1], "columns": [2], "styles": "thick"},
            "/styles",
            '`styles` (="thick") must be `coarse`, `middle` or `fine`.',
        ),
        (
            StyleMixBody,
            {"rows": [1], "columns": [2], "styles": 3},
            "/styles",
            "`styles` (=3) must be `coarse`, `middle`, `fine` or a list of layers.",
        ),
        (
            StyleMixBody,
            {"rows": [1], "columns": [2], "styles": [0, "1"]},
            "/styles/1",
            '`styles[1]` (="1") must be an integer.',
        ),
    ],
)
def test_a_wrong_item_is_pointed_at(model: type[BaseModel], body: object, pointer: str, message: str):
    assert errors_of(model, body) == {pointer: message}


def test_an_unknown_field_is_refused_with_those_there_are():
    known = "`model`, `scale`, `digits`, `rows`, `seed` and `columns`"
    errors = errors_of(DigitsBody, {"digits": "1", "(list)": 1})
    assert errors == {"/(list)": f"`(list)` is not a field here; the fields are {known}."}


def test_every_wrong_field_is_told_up_to_a_limit():
    assert errors_of(SampleBody, {"n": 0, "seed": "x"}).keys() == {"/n", "/seed"}
    assert len(errors_of(SampleBody, {"labels": [None] * 256})) == MAX_ERRORS


def test_a_long_value_is_cut_short():
    (message,) = errors_of(SampleBody, {"n": "x" * 10_000}).values()
    assert len(message) < 120


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"null"])
def test_what_is_no_object_is_refused(body: bytes):
    assert errors_of(SampleBody, body) == {"": "The body must be a JSON object."}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'n': 1}",
        b'{"n": 01}',
        '{"n": \u0663}'.encode(),
        b'{"n": 1}}',
        b'\xff{"n": 1}',
        '{"model": "\ud800"}'.encode("utf-8", "surrogatepass"),
        rb'{"model": "\ud800"}',
        b"[" * 60_000,
        b'{"seed": ' + b"9" * 50_000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(body: bytes):
    (message,) = errors_of(SampleBody, body).values()
    assert message.startswith("The body must be JSON: ") and len(message) < 150


@pytest.mark.parametrize("text", ["7", "three", "07", "-1", "1.5"])
def test_in_a_url_numbers_are_numbers_and_a_label_stays_a_text(text: str):
    query = parse_query(ImageQuery, [("seed", "1"), ("index", "2"), ("truncation", "0.5"), ("label", text)])
    assert (query.seed, query.index, query.truncation, query.label) == (1, 2, 0.5, text)


@pytest.mark.parametrize(
    "seed", ["", "x", "07", "+7", "7.0", "7e0", "0x7", "\u0667", " 7", "-1", str(TOP + 1), "9" * 500]
)
def test_a_seed_in_a_url_is_written_in_one_way_only(seed: str):
    with pytest.raises(Problem) as caught:
        parse_query(ImageQuery, [("seed", seed), ("index", "2")])
    assert [error.pointer for error in caught.value.errors] == ["/seed"]


def test_a_query_parameter_is_given_once():
    with pytest.raises(Problem, match=r"`scale` is given twice\."):
        parse_query(ImageQuery, [("seed", "1"), ("index", "2"), ("scale", "2"), ("scale", "3")])
