"""Whatever an operator's files and variables hold: what they promise is read, or one error says what is wrong."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.api.access.keys import Keys, KeysError
from serving.api.settings import Settings
from serving.engine.model_json import DocumentError, parse

RANGES = {
    "GANYMEDE_WORKERS": (1, 256),
    "GANYMEDE_TIMEOUT": (0.1, 600),
    "GANYMEDE_READ_TIMEOUT": (0.1, 600),
    "GANYMEDE_MAX_QUEUE": (1, 1_000_000),
    "GANYMEDE_RATE_LIMIT": (0.001, 1_000_000),
    "GANYMEDE_KEEP_ALIVE": (1, 3600),
    "GANYMEDE_HEARTBEAT": (0.1, 3600),
    "GANYMEDE_DRAIN": (0, 600),
}
LOG_LEVELS = ("debug", "info", "warning", "error")
VARIABLES = [*RANGES, "GANYMEDE_MODELS", "GANYMEDE_API_KEYS_FILE", "GANYMEDE_CORS_ORIGINS", "GANYMEDE_LOG_LEVEL"]

texts = st.text(st.characters(exclude_characters="\0"))  # an environment has no NUL
numbers = st.integers().map(str) | st.floats().map(str) | st.text("0123456789.eE+-_ ٣", max_size=8)
origins = st.lists(st.sampled_from(["*", "https://a.example", "http://b:80", "null", "https://", " "])).map(",".join)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(VARIABLES), texts | numbers | origins | st.sampled_from(LOG_LEVELS)))
@example({"GANYMEDE_WORKERS": "9" * 5000})
@example({"GANYMEDE_TIMEOUT": "1_0"})
@example({"GANYMEDE_TIMEOUT": "٣"})
def test_settings_are_in_range_or_the_variable_is_named(environment: dict[str, str]):
    try:
        found = Settings.from_environment(environment)
    except ValueError as error:
        assert any(str(error).startswith(f"`{name}` (=") and " must be " in str(error) for name in environment), error
        return
    for name, (low, high) in RANGES.items():
        value = getattr(found, name.removeprefix("GANYMEDE_").lower())
        assert value is None or low <= value <= high
        text = environment.get(name)
        assert not text or (text.isascii() and "_" not in text and float(text) == value)
    assert found.log_level in LOG_LEVELS and len(Settings.model_fields) == len(VARIABLES)


lines = st.one_of(
    st.text(),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.tuples(st.binary(min_size=32, max_size=32).map(bytes.hex), st.text()).map(" ".join),
    st.just("# alice"),
)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.txt"


@settings(max_examples=200, deadline=None)
@given(st.lists(lines).map(lambda found: "\n".join(found).encode("utf-8", "surrogatepass")) | st.binary())
def test_a_key_file_is_read_or_rejected_and_never_lets_all_in(keys_file: Path, content: bytes):
    keys_file.write_bytes(content)
    try:
        Keys(keys_file)
    except KeysError as error:
        assert str(error).startswith(f"{keys_file}: ")
    keys_file.write_text("0" * 64)
    keys = Keys(keys_file)
    keys_file.write_bytes(content)
    assert keys.name("Bearer unknown") is None


STYLE = {"layers": 6, "w_size": 12, "coarse": [0, 1], "middle": [2, 3], "fine": [4, 5]}
FILE = {"sha256": "0" * 64, "size": 1}
MODEL = {
    "schema_version": 1,
    "id": "a-model",
    "name": "A model",
    "family": "stylegan",
    "dataset": {"name": "none", "licence": "CC0-1.0"},
    "licence": "Apache-2.0",
    "image": {"height": 16, "width": 16, "channels": 3},
    "latent_size": 8,
    "classes": None,
    "style": STYLE,
    "training": {"recipe": {"name": "none"}},
    "metrics": [{"name": "fid", "value": 4.5, "protocol": "made up"}],
    "files": {"mapping.onnx": FILE, "synthesis.onnx": FILE},
}
CGAN = MODEL | {"family": "cgan", "classes": ["a", "b"], "style": None, "files": {"generator.onnx": FILE}}

atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**400, "\ud800", "mlp"])
)
values = st.recursive(atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3))


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    found = []
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        found += [(node, key), *places(node[key])]
    return found


def held_to_its_promise(text: bytes) -> None:
    """A document that is taken has what serving rests on, and can be sent as the reply of `GET /v1/models`."""
    try:
        document, specification = parse(text)
    except DocumentError as error:
        assert str(error).strip() and len(str(error)) < 20_000
        return
    json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    json.dumps([specification.id, specification.classes], ensure_ascii=False).encode()
    assert 1 <= specification.image.height <= 4096 and math.isfinite(specification.latent_size)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_model_json_with_other_values_is_read_or_rejected(data: st.DataObject):
    document = copy.deepcopy(data.draw(st.sampled_from([MODEL, CGAN])))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        change = data.draw(st.sampled_from(["set", "remove", "add"]))
        if change == "set" or isinstance(container, list):
            container[key] = data.draw(values)
        elif change == "remove":
            container.pop(key)
        else:
            container[data.draw(st.text())] = data.draw(values)
    held_to_its_promise(json.dumps(document).encode())


def test_the_model_jsons_above_are_taken_as_they_are():
    for document in (MODEL, CGAN):
        assert parse(json.dumps(document).encode())[0] == document


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_model_json_is_read_or_rejected(data: st.DataObject):
    text = json.dumps(MODEL).encode(data.draw(st.sampled_from(["utf-8", "utf-16", "utf-32"])))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)) | st.just(start))
    held_to_its_promise(text[:start] + data.draw(st.binary(max_size=6)) + text[end:])


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "1" * 5000, "1" * 400, '"\\ud800"', "[" * 5000 + "]" * 5000]
)
@pytest.mark.parametrize("field", ["value", "unknown", "name"])
def test_a_value_that_no_reply_could_hold_is_rejected(number: str, field: str):
    held_to_its_promise(json.dumps(MODEL).replace('"value": 4.5', f'"{field}": {number}').encode())
    held_to_its_promise(json.dumps(MODEL).replace('"name": "A model"', f'"name": {number}').encode())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100_000), st.sampled_from(["[", '{"":', '{"image":', '{"metrics":[']), st.booleans())
def test_depth_is_no_crash(depth: int, opening: str, closed: bool):
    nested = opening * depth
    if closed:
        nested += "0" + "".join({"[": "]", "{": "}"}[c] for c in reversed(nested) if c in "[{")
    held_to_its_promise(nested.encode())
    held_to_its_promise(json.dumps(MODEL).replace("4.5", nested).encode())
