"""What the calls send: one function a route, from arguments to a request that knows how to read its reply."""

import json
import operator
import secrets
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeGuard, TypeVar, cast
from urllib.parse import quote

from serving.client import replies
from serving.client.models import Model
from serving.client.pictures import Address, Pictures
from serving.client.replies import Expected

NPY = "application/x-npy"
"""What images travel as: exact, and a thousandth of the time and a fifth of the bytes that JSON takes."""

PAGE = 256  # the most images that a server takes in one request
DRAWN_BELOW = 2**31  # every model has them: those with latents of RandomState have no more than 2**32 - index

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
    addresses, sent = [Address(seed, start + i) for i in range(n)], _labels(labels)
    fields = {
        "model": model,
        "n": n,
        "seed": seed,
        "start": start,
        "labels": sent,
        "truncation": truncation,
        "edits": [_edit(edit) for edit in edits] or None,
    }
    expected = Expected(n, model, addresses, labels=_each(sent, n), truncation=truncation)
    return _post("/v1/sample", fields, lambda: expected)


def digits(digits: str | Sequence[int], *, rows: int, seed: int | None, model: str | None) -> Request[Pictures]:
    asked = digits if isinstance(digits, str) else [operator.index(digit) for digit in digits]
    rows, seed = operator.index(rows), _seed(seed)
    n = len(asked) * rows
    fields = {"model": model, "digits": asked, "rows": rows, "seed": seed}
    addresses, labels = [Address(seed, i) for i in range(n)], [str(digit) for digit in asked] * rows
    expected = Expected(n, model, addresses, len(asked), labels)
    return _post("/v1/digits", fields, lambda: expected)


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
    frames, sent = operator.index(frames), _labels(labels)
    fields = {
        "model": model,
        "keyframes": _places(keyframes),
        "frames": frames,
        "method": method,
        "space": space,
        "loop": loop,
        "labels": sent,
        "truncation": truncation,
        "edits": _keyframe_edits(edits) or None,
    }
    if part is not None:
        fields |= {"start": part.start, "n": len(part)}

    def expected() -> Expected:
        """Of a request that the server took: others have no such steps."""
        steps, classes = _steps(len(keyframes), frames, loop), _each(sent, len(keyframes))
        steps = steps if part is None else steps[part.start : part.stop]
        addresses = [_address(keyframes[a]) if t == 0 else None for a, _, t in steps]
        of_frames = None if classes is None else [classes[a if t < 0.5 else b] for a, b, t in steps]
        return Expected(len(steps), model, addresses, labels=of_frames, truncation=truncation)

    return _post("/v1/interpolate", fields, expected)


def walk(model: str | None, *, frames: int, **options: Any) -> list[Request[Pictures]]:
    """`interpolate` in as few requests as it takes, of at most PAGE frames each."""
    frames = operator.index(frames)
    if frames <= PAGE:
        return [interpolate(model, frames=frames, **options)]
    parts = [range(start, min(start + PAGE, frames)) for start in range(0, frames, PAGE)]
    return [interpolate(model, frames=frames, part=part, **options) for part in parts]


def style_mix(
    model: str | None,
    *,
    rows: Sequence[Place],
    columns: Sequence[Place],
    styles: Styles,
    labels: Labels | None,
    truncation: float | None,
) -> Request[Pictures]:
    layers = styles if isinstance(styles, str) else [operator.index(layer) for layer in styles]
    fields = {
        "model": model,
        "rows": _places(rows),
        "columns": _places(columns),
        "styles": layers,
        "labels": _labels(labels),
        "truncation": truncation,
    }
    n = len(rows) * len(columns)
    expected = Expected(n, model, [None] * n, len(columns), truncation=truncation)
    return _post("/v1/style-mix", fields, lambda: expected)


def models() -> Request[list[Model]]:
    return Request("GET", "/v1/models", replies.models)


def model(id: str) -> Request[Model]:
    return Request("GET", f"/v1/models/{quote(id, safe='')}", replies.model)


def draw_seed() -> int:
    """A random seed, for whoever named none."""
    return secrets.randbelow(DRAWN_BELOW)


def _post(path: str, fields: Mapping[str, Any], expected: Callable[[], Expected]) -> Request[Pictures]:
    """What is None is left to the server. `expected` is called once a reply is there."""
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    return Request("POST", path, lambda headers, body: replies.pictures(headers, body, expected()), NPY, body)


def _seed(seed: int | None) -> int:
    """Drawn here and not by the server: a request that is sent again must ask for the same images."""
    return draw_seed() if seed is None else operator.index(seed)


def _places(places: Sequence[Place]) -> list[int | dict[str, int]]:
    return [_address(place)._asdict() if isinstance(place, tuple) else operator.index(place) for place in places]


def _address(place: Place) -> Address:
    seed, index = place if isinstance(place, tuple) else (place, 0)
    return Address(operator.index(seed), operator.index(index))


def _steps(keyframes: int, frames: int, loop: bool) -> list[tuple[int, int, float]]:
    """For each frame the two keyframes it lies between and how far, 0 <= t < 1, as the server has them."""
    segments, intervals = (keyframes, frames) if loop else (keyframes - 1, max(frames - 1, 1))
    places = (divmod(frame * segments, intervals) for frame in range(frames))
    return [(segment % keyframes, (segment + 1) % keyframes, rest / intervals) for segment, rest in places]


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


def _each(labels: Label | Sequence[Label] | None, n: int) -> Sequence[Label] | None:
    """One label for each of `n`."""
    return [cast(Label, labels)] * n if labels is not None and not is_list(labels) else cast(Any, labels)


def _label(label: Label) -> Label:
    return label if isinstance(label, str) else operator.index(label)
