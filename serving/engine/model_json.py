"""Schema of `model.json`, version 1: parse an untrusted document into typed specifications."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from serving.engine.latents import Source

SCHEMA_VERSION = 1
ID = "[a-z0-9][a-z0-9.-]{0,63}"
ID_RULE = "lower-case letters, digits, '-' and '.', at most 64"
GRAPHS = {  # the files of each family, in the order they run
    "mlp": ("generator.onnx",),
    "dcgan": ("generator.onnx",),
    "cgan": ("generator.onnx",),
    "stylegan": ("mapping.onnx", "synthesis.onnx"),
    "stylegan2": ("mapping.onnx", "synthesis.onnx"),
}
STYLED = ("stylegan", "stylegan2")  # conditional or not
DIRECTIONS = "directions.npz"  # beside the graphs, if a style model has directions
DIRECTION = "[a-z0-9][a-z0-9_-]{0,63}"
MAX_DIRECTIONS = 256
MAX_FILE_BYTES = 2**31 - 1  # the limit of protobuf, and so of ONNX without external data
MAX_DEPTH = 32  # of nested lists and objects; ours have 5


class DocumentError(ValueError):
    """Invalid model.json. The message has the field, its value and what it must be."""


@dataclass(frozen=True)
class ImageSpec:
    height: int
    width: int
    channels: int  # 1 grey, 3 RGB


@dataclass(frozen=True)
class StyleSpec:
    layers: int  # L: an image has one w for each layer
    w_size: int  # W
    coarse: tuple[int, ...]  # coarse, middle and fine together are all layers, in order
    middle: tuple[int, ...]
    fine: tuple[int, ...]


@dataclass(frozen=True)
class DirectionSpec:
    """Semantic direction in w. Its vector is in directions.npz."""

    name: str
    layers: tuple[int, ...]  # default layers of an edit


@dataclass(frozen=True)
class FileSpec:
    sha256: str
    size: int


@dataclass(frozen=True)
class Specification:
    """Part of a model.json that serving uses."""

    id: str
    name: str
    family: str  # one of GRAPHS
    image: ImageSpec
    latent_size: int
    latents: Source  # method that converts an address to a latent
    classes: tuple[str, ...] | None  # of a conditional model
    style: StyleSpec | None  # of a style model
    directions: tuple[DirectionSpec, ...]  # of a style model
    files: dict[str, FileSpec]  # the files of GRAPHS, and directions.npz if there are directions


def parse(text: bytes) -> tuple[dict[str, Any], Specification]:
    """Return the document and its specification. Raises DocumentError. Unknown fields are ignored."""
    try:
        document = json.loads(text, parse_constant=_reject_constant)
        if _depth(document) > MAX_DEPTH:
            raise ValueError(f"lists and objects are nested more than {MAX_DEPTH} levels deep")
        # The API returns the document, so it must not hold values that Python reads but JSON cannot represent.
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"it is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise DocumentError("it must be a JSON object.")
    return document, _specification(_Fields(document))


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _specification(fields: "_Fields") -> Specification:
    fields.integer("schema_version", SCHEMA_VERSION, SCHEMA_VERSION)
    family = fields.get("family", lambda v: isinstance(v, str) and v in GRAPHS, f"one of {', '.join(GRAPHS)}")
    for name in ("dataset", "training"):
        fields.object(name)
    fields.text("licence")
    for metric in fields.objects("metrics"):
        metric.text("name")
        metric.number("value")
        metric.text("protocol")
    style = _style(fields, styled=family in STYLED)
    directions = _directions(fields, style)
    return Specification(
        id=fields.matching("id", ID, ID_RULE),
        name=fields.text("name"),
        family=family,
        image=_image(fields.object("image")),
        latent_size=fields.integer("latent_size", 1, 65536),
        latents=_latents(fields),
        classes=_classes(fields, family),
        style=style,
        directions=directions,
        files=_files(fields.object("files"), GRAPHS[family] + ((DIRECTIONS,) if directions else ())),
    )


def _image(fields: "_Fields") -> ImageSpec:
    channels = fields.get("channels", lambda v: type(v) is int and v in (1, 3), "1 (grey) or 3 (RGB)")
    return ImageSpec(fields.integer("height", 1, 4096), fields.integer("width", 1, 4096), channels)


def _latents(fields: "_Fields") -> Source:
    if "latents" not in fields.values:
        return "philox"
    sources = get_args(Source)
    return fields.get("latents", lambda v: isinstance(v, str) and v in sources, f"one of {', '.join(sources)}")


def _classes(fields: "_Fields", family: str) -> tuple[str, ...] | None:
    if family in STYLED and fields.values.get("classes", ()) is None:
        return None
    if family not in ("cgan", *STYLED):
        return fields.get("classes", lambda v: v is None, "null, because the graph takes no label")

    def distinct_names(value: Any) -> bool:
        names = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
        return names and 0 < len(set(value)) == len(value)

    return tuple(fields.get("classes", distinct_names, "a list of class names, each once"))


def _style(fields: "_Fields", *, styled: bool) -> StyleSpec | None:
    if not styled:
        return fields.get("style", lambda v: v is None, "null, because the family has no styles")
    style = fields.object("style")
    layers = style.integer("layers", 1, 64)
    groups = [style.integers(name) for name in ("coarse", "middle", "fine")]
    if [layer for group in groups for layer in group] != list(range(layers)):
        raise DocumentError(f"`style.coarse`, `middle` and `fine` must together be layers 0 to {layers - 1}, in order.")
    return StyleSpec(layers, style.integer("w_size", 1, 65536), *groups)


def _directions(fields: "_Fields", style: StyleSpec | None) -> tuple[DirectionSpec, ...]:
    if "directions" not in fields.values:
        return ()
    items = fields.objects("directions")
    if items and style is None:
        raise DocumentError("`directions` must be left out, because the family has no styles.")
    if len(items) > MAX_DIRECTIONS:
        raise DocumentError(f"`directions` has {len(items)} entries; at most {MAX_DIRECTIONS} are allowed.")
    found = []
    for item in items:
        name = item.matching("name", DIRECTION, "lower-case letters, digits, '-' and '_', at most 64")
        layers = item.integers("layers")
        if style is None or not layers or not set(layers) <= set(range(style.layers)) or len(set(layers)) < len(layers):
            raise DocumentError(f"`{item.path}layers` (={list(layers)}) must be layers of the model, each once.")
        found.append(DirectionSpec(name, layers))
    if len({spec.name for spec in found}) < len(found):
        raise DocumentError("`directions` must have each name once.")
    return tuple(found)


def _files(fields: "_Fields", names: tuple[str, ...]) -> dict[str, FileSpec]:
    if sorted(fields.values) != sorted(names):
        raise DocumentError(f"`files` (={', '.join(sorted(fields.values))}) must be exactly {', '.join(names)}.")
    files = {}
    for name in names:
        entry = fields.object(name)
        sha256 = entry.matching("sha256", "[0-9a-f]{64}", "64 lower-case hexadecimal digits")
        files[name] = FileSpec(sha256, entry.integer("size", 1, MAX_FILE_BYTES))
    return files


class _Fields:
    """Typed access to a JSON object. Every error has the path of the field."""

    def __init__(self, values: dict[str, Any], path: str = ""):
        self.values = values
        self.path = path

    def get(self, name: str, valid: Callable[[Any], bool], expected: str) -> Any:
        path = self.path + name
        if name not in self.values:
            raise DocumentError(f"`{path}` is missing; it must be {expected}.")
        value = self.values[name]
        if not valid(value):
            raise DocumentError(f"`{path}` (={json.dumps(value)[:80]}) must be {expected}.")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        expected = f"{low}" if low == high else f"an integer between {low} and {high}"
        return self.get(name, lambda v: type(v) is int and low <= v <= high, expected)

    def integers(self, name: str) -> tuple[int, ...]:
        valid = lambda v: isinstance(v, list) and all(type(item) is int for item in v)  # noqa: E731
        return tuple(self.get(name, valid, "a list of integers"))

    def number(self, name: str) -> float:
        return self.get(name, lambda v: type(v) in (int, float) and abs(v) <= sys.float_info.max, "a number")

    def text(self, name: str) -> str:
        return self.get(name, lambda v: isinstance(v, str) and v != "", "a non-empty string")

    def matching(self, name: str, pattern: str, expected: str) -> str:
        return self.get(name, lambda v: isinstance(v, str) and re.fullmatch(pattern, v) is not None, expected)

    def object(self, name: str) -> "_Fields":
        return _Fields(self.get(name, lambda v: isinstance(v, dict), "an object"), f"{self.path}{name}.")

    def objects(self, name: str) -> list["_Fields"]:
        valid = lambda v: isinstance(v, list) and all(isinstance(item, dict) for item in v)  # noqa: E731
        items = self.get(name, valid, "a list of objects")
        return [_Fields(item, f"{self.path}{name}[{i}].") for i, item in enumerate(items)]
