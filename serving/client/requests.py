"""What the calls send: one function a route, from arguments to a request that knows how to read its reply."""

import json
import operator
import secrets
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeGuard, TypeVar, cast
from urllib.parse import quote

from serving.client import replies
from serving.client.models import Model
from serving.client.pictures import Address, Pictures
from serving.client.replies import Expected

NPY = "application/x-npy"
"""What pictures travel as: exact, and a thousandth of the time and a fifth of the bytes that JSON takes."""

PAGE = 256  # the most images that a server takes in one request
DRAWN_BELOW = 2**53  # JavaScript holds such seeds exactly, and so does whatever shows them

Place = int | tuple[int, int]  # a seed, index 0, or (seed, index)
Label = int | str  # the index or the name of a class
Labels = Label | Sequence[Label]
Edit = tuple[str, float] | tuple[str, float, Sequence[int]]  # a direction, strength -5 to 5, and perhaps its layers
Edits = Sequence[Edit]
KeyframeEdits = Edits | Sequence[Edits]  # for all frames, or for each keyframe
Styles = Literal["coarse", "middle", "fine"] | Sequence[int]  # which layers come from the column

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    method: Literal["GET", "POST"]
    path: str
    read: Callable[[Mapping[str, str], bytes], T]  # headers and body of a reply
    accept: str = "application/json"
    body: bytes | None = None


def sample(
    model: str | None,
    *,
    n: int,
    seed: int | None,
    start: int,
    labels: Labels | None,
    truncation: float | None,
    edits: Edits = (),
) -> Request[Pictures]:
    n, start, seed = operator.index(n), operator.index(start), _seed(seed)
    addresses = [Address(seed, start + i) for i in range(n)]
    fields = {
        "model": model,
        "n": n,
        "seed": seed,
        "start": start,
        "labels": _labels(labels),
        "truncation": truncation,
        "edits": [_edit(edit) for edit in edits] or None,
    }
    return _post("/v1/sample", fields, Expected(n, model, addresses))


def digits(digits: str | Sequence[int], *, rows: int, seed: int | None, model: str | None) -> Request[Pictures]:
    asked = digits if isinstance(digits, str) else [operator.index(digit) for digit in digits]
    n, seed = len(asked) * operator.index(rows), _seed(seed)
    fields = {"model": model, "digits": asked, "rows": rows, "seed": seed}
    return _post("/v1/digits", fields, Expected(n, model, [Address(seed, i) for i in range(n)], len(asked)))


def interpolate(
    model: str | None,
    *,
    keyframes: Sequence[Place],
    frames: int,
    method: Literal["slerp", "lerp"] | None,
    space: Literal["z", "w"],
    loop: bool,
    labels: Labels | None,
    truncation: float | None,
    edits: KeyframeEdits = (),
    part: range | None = None,
) -> Request[Pictures]:
    """`part`: the frames of the reply, where not all of them."""
    fields = {
        "model": model,
        "keyframes": _places(keyframes),
        "frames": operator.index(frames),
        "method": method,
        "space": space,
        "loop": loop,
        "labels": _labels(labels),
        "truncation": truncation,
        "edits": _keyframe_edits(edits) or None,
    }
    if part is not None:
        fields |= {"start": part.start, "n": len(part)}
    return _post("/v1/interpolate", fields, Expected(frames if part is None else len(part), model, None))


def walk(model: str | None, *, frames: int, **options: Any) -> list[Request[Pictures]]:
    """`interpolate` in as few requests as it takes, of at most PAGE frames each."""
    frames = operator.index(frames)
    if frames <= PAGE:
        return [interpolate(model, frames=frames, **options)]
    parts = [range(start, min(start + PAGE, frames)) for start in range(0, frames, PAGE)]
    return [interpolate(model, frames=frames, part=part, **options) for part in parts]


def style_mix(
    model: str | None, *, rows: Sequence[Place], columns: Sequence[Place], styles: Styles, truncation: float | None
) -> Request[Pictures]:
    layers = styles if isinstance(styles, str) else [operator.index(layer) for layer in styles]
    fields = {
        "model": model,
        "rows": _places(rows),
        "columns": _places(columns),
        "styles": layers,
        "truncation": truncation,
    }
    return _post("/v1/style-mix", fields, Expected(len(rows) * len(columns), model, None, len(columns)))


def models() -> Request[list[Model]]:
    return Request("GET", "/v1/models", replies.models)


def model(id: str) -> Request[Model]:
    return Request("GET", f"/v1/models/{quote(id, safe='')}", replies.model)


def draw_seed() -> int:
    """A random seed, for whoever named none."""
    return secrets.randbelow(DRAWN_BELOW)


def _post(path: str, fields: Mapping[str, Any], expected: Expected) -> Request[Pictures]:
    """What is None is left to the server."""
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    return Request("POST", path, partial(replies.pictures, expected=expected), NPY, body)


def _seed(seed: int | None) -> int:
    """Drawn here and not by the server: a request that is sent again must ask for the same pictures."""
    return draw_seed() if seed is None else operator.index(seed)


def _places(places: Sequence[Place]) -> list[int | dict[str, int]]:
    return [
        {"seed": operator.index(place[0]), "index": operator.index(place[1])}
        if isinstance(place, tuple)
        else operator.index(place)
        for place in places
    ]


def _edit(edit: Edit) -> dict[str, Any]:
    fields: dict[str, Any] = {"direction": edit[0], "strength": float(edit[1])}
    return fields if len(edit) == 2 else {**fields, "layers": [operator.index(layer) for layer in edit[2]]}


def _keyframe_edits(edits: KeyframeEdits) -> list[Any]:
    """A list of edits, or a list for each keyframe: an edit begins with a name."""
    if all(len(each) > 0 and isinstance(each[0], str) for each in edits):
        return [_edit(cast(Edit, each)) for each in edits]
    return [[_edit(edit) for edit in cast(Edits, each)] for each in edits]


def is_list(labels: Labels | None) -> TypeGuard[Sequence[Label]]:
    """And not one label for all. NumPy's arrays are lists here; they are no Sequence, but have a length."""
    return isinstance(labels, Sized) and not isinstance(labels, str)


def _labels(labels: Labels | None) -> int | str | list[int | str] | None:
    if labels is None:
        return None
    return [_label(label) for label in labels] if is_list(labels) else _label(cast(Label, labels))


def _label(label: Label) -> Label:
    return label if isinstance(label, str) else operator.index(label)
