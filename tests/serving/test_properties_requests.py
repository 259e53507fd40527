"""Whatever is sent: a parser of requests gives what it promises or the documented error, and never anything else."""

import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.types import Message

from serving.api.access.keys import Keys
from serving.api.access.rate_limit import RateLimit
from serving.api.endpoints import images
from serving.api.endpoints.generate import _plan
from serving.api.http import responses
from serving.api.http.context import REQUEST_ID, RequestContext
from serving.api.http.negotiation import negotiate
from serving.api.http.problems import Problem
from serving.api.http.validation import parse_json, parse_query
from serving.api.schemas import Body, DigitsBody, ImageQuery, InterpolateBody, SampleBody, StyleMixBody
from serving.engine import encoding
from serving.engine.generation import RequestError
from serving.engine.repository import load_repository
from serving.engine.runtime import Runtime

TOP = 2**64 - 1
BODIES = (SampleBody, DigitsBody, InterpolateBody, StyleMixBody)
NAMES = sorted({name for body in BODIES for name in body.model_fields} | {"label", "index"})
LATIN = st.characters(codec="latin-1")  # what a header is made of

integers = st.integers(-300, 300) | st.integers(-(2**70), 2**70) | st.sampled_from([TOP - 1, TOP, TOP + 1, 10**400])
texts = st.text() | st.sampled_from(["3", "z", "w", "lerp", "fine", "tiny-style", "٣", "\ud800", "(seed)", "a/b~c", ""])
atoms = st.none() | st.booleans() | integers | st.floats() | texts
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=4),
)
seeds = st.integers(0, TOP)
keyframes = st.lists(seeds | st.fixed_dictionaries({"seed": seeds}, optional={"index": seeds}), min_size=2, max_size=16)
labels = st.integers(-2, 12) | st.sampled_from("0359x") | st.text(max_size=3)
fitting = {  # what a field may hold, or nearly
    "n": st.integers(0, 257),
    "seed": seeds,
    "start": seeds | st.integers(TOP - 300, TOP),
    "labels": labels | st.lists(labels, max_size=257),
    "truncation": st.floats(-0.1, 1.1) | st.integers(0, 1),
    "columns": st.integers(0, 257),
    "scale": st.integers(0, 17),
    "digits": st.text("0123456789٣", max_size=65) | st.lists(st.integers(-1, 10), max_size=65),
    "rows": st.integers(0, 17),
    "keyframes": keyframes,
    "frames": st.integers(1, 257),
    "method": st.sampled_from(["slerp", "lerp", "cubic"]),
    "space": st.sampled_from("zwx"),
    "loop": st.booleans(),
    "fps": st.integers(0, 51),
    "styles": st.sampled_from(["coarse", "middle", "fine", "all"]) | st.lists(st.integers(-1, 8), max_size=10),
}
edges = fitting | {"rows": keyframes, "columns": keyframes}  # of a style mix


def bodies(model: type[Body]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of the fields of a body, most with what they may hold."""
    known = edges if model is StyleMixBody else fitting
    fields = {name: known[name] | known[name] | known[name] | values for name in model.model_fields if name in known}
    needed = {name: fields.pop(name) for name in list(fields) if model.model_fields[name].is_required()}
    return st.fixed_dictionaries(needed, optional=fields)


def told(problem: Problem, status: int) -> list[tuple[str, str]]:
    """Holds a problem to its form: one that can be sent. Its pointers and what they are told."""
    document = json.loads(problem.document(instance="/v1/sample", request_id="1"))
    assert document["status"] == problem.status == status
    assert document["code"] and document["detail"] and "Traceback" not in document["detail"]
    errors = [(error["pointer"], error["detail"]) for error in document.get("errors", ())]
    assert all(pointer == "" or pointer.startswith("/") for pointer, _ in errors) and all(what for _, what in errors)
    return errors


def found_at(document: Any, pointer: str) -> bool:
    """Whether a JSON pointer (RFC 6901) leads to something."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        try:
            document = document[int(part)] if isinstance(document, list) else document[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return False
    return True


def same(sent: Any, parsed: Any) -> bool:
    """Whether nothing was coerced, but for an integer where a number is meant."""
    if isinstance(sent, dict) and isinstance(parsed, dict):
        return sent.keys() == parsed.keys() and all(same(sent[name], parsed[name]) for name in sent)
    if isinstance(sent, list) and isinstance(parsed, list):
        return len(sent) == len(parsed) and all(map(same, sent, parsed))
    return sent == parsed and (type(sent) is type(parsed) or (type(sent), type(parsed)) == (int, float))


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.route)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_body_is_accepted_as_sent_or_rejected_with_pointers(model: type[Body], data: st.DataObject):
    sent = data.draw(bodies(model) | st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=5) | values)
    text = json.dumps(sent).encode()
    try:
        body = parse_json(model, text)
    except Problem as problem:
        for pointer, detail in told(problem, 422):
            parent, _, _ = pointer.rpartition("/")
            assert found_at(json.loads(text), parent if detail.endswith("is missing.") else pointer), (pointer, detail)
    else:
        assert same(json.loads(text), body.model_dump(exclude_unset=True))


@settings(max_examples=200, deadline=None)
@given(st.data())
@example(None)
def test_bytes_that_are_no_body_are_rejected(data: st.DataObject | None):
    """A body with bytes taken out, put in or changed, in several encodings, or no body at all."""
    if data is None:
        damaged = b'{"model": "\xed\xa0\x80"}'
    else:
        text = json.dumps(data.draw(bodies(SampleBody)), ensure_ascii=data.draw(st.booleans()))
        encoded = text.encode(data.draw(st.sampled_from(["utf-8", "utf-16", "utf-32"])), "surrogatepass")
        start = data.draw(st.integers(0, len(encoded)))
        end = data.draw(st.integers(start, min(len(encoded), start + 4)))
        damaged = encoded[:start] + data.draw(st.binary(max_size=4)) + encoded[end:]
    for model in BODIES:
        try:
            assert isinstance(parse_json(model, damaged), model)
        except Problem as problem:
            told(problem, 422)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["[", '{"a":', '{"labels":[', '{"keyframes":[{"seed":', '[{"":']),
    st.integers(2, 16_000),
    st.booleans(),
)
def test_depth_is_bounded(opening: str, depth: int, closed: bool):
    nested = opening * depth
    if closed:
        nested += "0" + "".join({"[": "]", "{": "}"}[c] for c in reversed(nested) if c in "[{")
    for model in BODIES:
        with pytest.raises(Problem) as caught:
            parse_json(model, nested.encode())
        assert len(told(caught.value, 422)) <= 20


@settings(max_examples=60, deadline=None)
@given(
    st.text("0123456789", min_size=1, max_size=6000),
    st.sampled_from(["", "-", "+", "0x"]),
    st.text(".eE+-0", max_size=4),
)
def test_numbers_of_any_length_are_numbers_or_rejected(digits: str, sign: str, rest: str):
    for name in ("seed", "truncation", "labels"):
        try:
            parse_json(SampleBody, f'{{"{name}": {sign}{digits}{rest}}}'.encode())
        except Problem as problem:
            told(problem, 422)


@pytest.fixture(scope="module")
def runtimes(repository_folder: Path) -> list[Runtime]:
    return [Runtime(model) for model in load_repository(repository_folder).values()]


class Planned:
    """What `_plan` reads of a generator."""

    def __init__(self, runtime: Runtime):
        self.runtime, self.model = runtime, runtime.model


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.route)
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_what_a_body_asks_of_a_model_is_planned_or_rejected(
    runtimes: list[Runtime], model: type[Body], data: st.DataObject
):
    """Seeds, addresses, labels and styles give a plan with the requested number of images, or an error."""
    known = edges if model is StyleMixBody else fitting
    needed = {name: known[name] for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: known[name] for name in model.model_fields if name in known and name not in needed}
    sent = data.draw(st.fixed_dictionaries(needed, optional=optional))
    try:
        body = parse_json(model, json.dumps(sent).encode())
    except Problem as problem:
        told(problem, 422)
        return
    for runtime in runtimes:
        try:
            plan, layout = _plan(Planned(runtime), body)  # pyright: ignore[reportArgumentType]
            for media_type in responses.ANIMATIONS:
                responses.Order(plan, layout, media_type).check_size()
        except RequestError as error:
            assert error.message and (found_at(sent, error.pointer) or error.pointer.count("/") == 1), error.pointer
            continue
        assert len(plan) == len(plan.addresses) and all(len(rows) == len(plan) for rows in plan.inputs.values())
        assert all(a is None or (0 <= a.seed <= TOP and 0 <= a.index <= TOP) for a in plan.addresses)
        assert all(value.isascii() and value.decode().isprintable() for _, value in responses.headers(plan))
        size = sum(encoding.pixel_bytes(plan, layout, responses.FORMATS[kind]) for kind in responses.STILLS)
        assert size <= len(responses.STILLS) * responses.MAX_PIXEL_BYTES


url_texts = st.text() | integers.map(str) | labels.map(str)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*ImageQuery.model_fields]) | st.text(), url_texts)))
@example([("", "1")])
@example([("a/b", "1"), ("a/b", "2")])
def test_a_url_is_an_address_or_rejected(pairs: list[tuple[str, str]]):
    try:
        query = parse_query(ImageQuery, pairs)
    except Problem as problem:
        for pointer, _ in told(problem, 422):
            name = pointer[1:].replace("~1", "/").replace("~0", "~")
            assert name in ImageQuery.model_fields or any(name == sent for sent, _ in pairs)
    else:
        assert (str(query.seed), str(query.index)) == (
            dict(pairs)["seed"].lstrip("-"),
            dict(pairs)["index"].lstrip("-"),
        )


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(categories=["Nd", "No"]), min_size=1)
    | st.text(".eE+-_ 0123456789", min_size=1)
    | seeds.map(str)
)
def test_digits_are_those_of_ascii_and_exact(text: str):
    canonical = re.fullmatch("0|[1-9][0-9]*", text) is not None and int(text) <= TOP
    try:
        assert parse_query(ImageQuery, [("seed", text), ("index", "0")]).seed == int(text)
        assert canonical or text == "-0"
    except Problem as problem:
        assert not canonical and told(problem, 422)[0][0] == "/seed"


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_a_query_string_of_any_bytes_is_answered(raw: bytes):
    pairs = QueryParams(raw.decode("latin-1")).multi_items()
    try:
        parse_query(ImageQuery, [("seed", "7"), ("index", "0"), *pairs])
    except Problem as problem:
        told(problem, 422)


media_ranges = st.sampled_from([*responses.ANIMATIONS, "image/*", "*/*", "application/*", "text/html", "IMAGE/PNG"])
qualities = st.sampled_from([None, 0, 0.001, 0.2, 0.5, 0.999, 1])
elements = st.tuples(media_ranges, qualities)


@settings(max_examples=300, deadline=None)
@given(st.text(LATIN) | st.text('aimgepnj/*;q=,. 01_+-\t\0"') | st.none())
def test_any_accept_header_is_a_format_on_offer_or_a_406(accept: str | None):
    try:
        assert negotiate(accept, responses.STILLS) in responses.STILLS
    except Problem as problem:
        told(problem, 406)


@settings(max_examples=300, deadline=None)
@given(st.lists(elements, min_size=1, max_size=6, unique_by=lambda element: element[0].lower()))
def test_the_format_is_one_that_the_header_prefers(asked: Sequence[tuple[str, float | None]]):
    """The most specific range speaks for a type; none with a higher quality is passed over (RFC 9110, 12.5.1)."""
    ranges = {name.lower(): 1.0 if quality is None else quality for name, quality in asked}

    def quality(media_type: str) -> float:
        kind = media_type.partition("/")[0]
        return next((ranges[name] for name in (media_type, f"{kind}/*", "*/*") if name in ranges), 0)

    header = ", ".join(name if q is None else f"{name};q={q}" for name, q in asked)
    best = max(map(quality, responses.STILLS))
    try:
        assert quality(negotiate(header, responses.STILLS)) == best > 0
    except Problem as problem:
        told(problem, 406)
        assert best == 0


async def nothing() -> Message:
    raise AssertionError("unexpected read from the client")


def context(headers: dict[str, str]) -> RequestContext:
    scope = {"type": "http", "method": "POST", "path": "/v1/sample", "client": ("127.0.0.1", 1)}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return RequestContext.of(scope | {"headers": raw}, nothing)


@settings(max_examples=300, deadline=None)
@given(st.text(LATIN) | st.text("0123456789.eE+-_ ") | st.floats().map(str))
def test_a_timeout_is_one_that_can_be_kept_or_rejected(asked: str):
    request = context({"x-request-timeout": asked})
    try:
        request.set_deadline(30)
    except Problem as problem:
        told(problem, 422)
    else:
        assert re.fullmatch(r"[0-9.]+", asked) and request.arrived < request.deadline <= request.arrived + 30
        assert math.isclose(request.deadline - request.arrived, min(30, float(asked)), abs_tol=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.text(LATIN))
def test_the_id_of_a_request_is_fit_for_a_log(sent: str):
    id = context({"x-request-id": sent}).request_id
    assert REQUEST_ID.fullmatch(id) and (id == sent or not REQUEST_ID.fullmatch(sent))


@settings(max_examples=200, deadline=None)
@given(st.text(LATIN), st.lists(st.text(LATIN.filter(lambda c: c not in ',"'))), st.booleans())
def test_a_held_tag_is_found_in_any_list_and_only_there(text: str, others: list[str], weak: bool):
    ours = '"' + "0123456789abcdef" * 2 + '"'
    assert ours not in images._tags(text)
    held = [*others, f"W/{ours}" if weak else ours, *others]
    assert ours in images._tags(", ".join(held))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"{'0' * 64} alice\n")  # of no key that anybody knows
    return Keys(path)


@settings(max_examples=200, deadline=None)
@given(st.text(LATIN) | st.text(LATIN).map("Bearer {}".format) | st.none())
def test_no_authorization_header_opens_what_its_key_does_not(keys: Keys, authorization: str | None):
    assert keys.name(authorization) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text() | st.ip_addresses().map(str) | st.ip_addresses(v=6).map(lambda a: f"{a}%eth0"), max_size=5))
def test_the_rate_limit_takes_any_name_of_a_client(clients: list[str]):
    limit = RateLimit(1e6)
    for client in clients:
        limit.charge(client, 256)
    began = time.monotonic()
    with pytest.raises(Problem) as caught:
        while time.monotonic() - began < 5:
            limit.charge("x", 10_000_000)
    told(caught.value, 429)
