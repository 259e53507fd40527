"""Plans of the four operations: convert a request to input rows of the model. No images are computed here.

The same address gives the same row, and so the same image, in every operation. The API and the command line validate
ranges; this module checks the values that depend on the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.engine.directions import Edit, offsets
from serving.engine.latents import Address, address_range, check_address, lerp, mix_styles, slerp
from serving.engine.latents import truncation as truncation_strengths
from serving.engine.model_json import StyleSpec
from serving.engine.repository import Model
from serving.engine.runtime import Runtime

DIGITS = "0123456789"
FEW = 8
"""Up to this number, the thread that computes the images draws the latents. More are drawn at once, because NumPy
releases the GIL for each latent and the model's threads would wait for it each time."""

Label = int | str  # a class: an index, a name, or an index in digits where no class has that name


class RequestError(Exception):
    """A request that the model cannot fulfil; `pointer` is the JSON pointer of the field, such as `/labels/3`."""

    def __init__(self, pointer: str, message: str):
        super().__init__(message)
        self.pointer = pointer
        self.message = message


@dataclass(frozen=True)
class Plan:
    """Input rows of a model for N images, with the address and class of each."""

    model: Model
    inputs: dict[str, np.ndarray]  # as Runtime.synthesize takes them
    addresses: Sequence[Address | None]  # of each image; None for an interpolated frame or a style mix
    labels: list[int] | None  # the class of each image; None for an unconditional model
    truncation: float | None = None  # as requested
    edits: Sequence[Edit] | Sequence[Sequence[Edit]] = ()  # as requested: for all images, or for each keyframe
    sources: "Plan | None" = None  # of a style mix: images of the row addresses, then of the column addresses

    def __len__(self) -> int:
        return len(self.addresses)


def sample(
    runtime: Runtime,
    *,
    n: int = 1,
    seed: int,
    start: int = 0,
    labels: Label | Sequence[Label] | None = None,
    truncation: float | None = None,
    edits: Sequence[Edit] = (),
) -> Plan:
    """Return the plan of the images at addresses (seed, start) to (seed, start + n - 1).

    `labels`, for a conditional model: one for all images or one for each. By default the class is the index modulo the
    number of classes, so it depends on the address alone. `edits`, for a style model with directions: added to each w.
    Raises RequestError.
    """
    try:
        addresses = address_range(seed, start, n)
    except ValueError as error:
        raise RequestError("/start", str(error)) from None
    _check_range(runtime.model, seed, start + n - 1)
    return _plan(runtime.model, addresses, _classes(runtime.model, labels, addresses), truncation, edits)


def draws_digits(model: Model) -> bool:
    """Return True if the classes of a model are the ten digits."""
    return sorted(model.classes or ()) == list(DIGITS)


def class_index(classes: Sequence[str], label: Label) -> int | None:
    """Return the index of the class of a label, or None if there is no such class.

    The command line, URLs, JSON and the client use the same rule. A number is an index. A text is first compared with
    the names of the classes; if none matches, digits are an index.
    """
    if isinstance(label, str):
        if label in classes:
            return classes.index(label)
        if not (label.isascii() and label.isdigit() and len(label) < 10):
            return None
        label = int(label)
    return label if not isinstance(label, bool) and 0 <= label < len(classes) else None


def has_classes(model: Model, labels: Label | Sequence[Label]) -> bool:
    """Return True if a model has all classes in `labels`."""
    wanted = [labels] if isinstance(labels, int | str) else labels
    return all(class_index(model.classes or (), label) is not None for label in wanted)


def digits(runtime: Runtime, *, digits: Sequence[int | str], rows: int = 1, seed: int) -> Plan:
    """Return the plan of a grid of `digits` with `rows` variations, row by row.

    The image in row r and column c has index r * len(digits) + c. Raises RequestError if the model's classes are not
    the ten digits.
    """
    model = runtime.model
    if model.classes is None or not draws_digits(model):
        raise RequestError("/model", f"`model` (={model.id}) must be one whose classes are the digits 0 to 9.")
    labels = [model.classes.index(str(digit)) for digit in digits] * rows
    _check_range(model, seed, len(labels) - 1)
    return _plan(model, address_range(seed, 0, len(labels)), labels, None)


def interpolate(
    runtime: Runtime,
    *,
    keyframes: Sequence[Address],
    frames: int,
    method: Literal["slerp", "lerp"] | None = None,
    space: Literal["z", "w"] = "z",
    loop: bool = False,
    labels: Label | Sequence[Label] | None = None,
    truncation: float | None = None,
    edits: Sequence[Edit] | Sequence[Sequence[Edit]] = (),
    part: range | None = None,
) -> Plan:
    """Return the plan of `frames` images, evenly spaced from the first keyframe to the last.

    With `loop` the path returns to one step before the first keyframe. A frame on a keyframe is the image of
    that address, bit for bit. Every keyframe is hit if frames - 1 is a multiple of len(keyframes) - 1; with `loop`, if
    frames is a multiple of len(keyframes).
    `space` "w" needs a style model. `method` defaults to slerp in z and lerp in w: latents in z lie near a sphere, and
    latents in w lie on no known surface.
    `labels`: one for all keyframes or one for each; the default is as in `sample`. A frame has the label of its nearest
    keyframe.
    `edits`, for a style model with directions: one list for all frames, or one list for each keyframe. Offsets in w are
    interpolated linearly between keyframes.
    `part`: compute only these frames, a range in 0 to frames - 1.
    """
    model = runtime.model
    if space == "w" and model.style is None:
        raise RequestError("/space", f'`space` (="w") is for style models; {model.id} has only "z".')
    _check_each(model, keyframes, "keyframes")
    between = {"slerp": slerp, "lerp": lerp}[method or ("lerp" if space == "w" else "slerp")]
    steps = _steps(len(keyframes), frames, loop, range(frames) if part is None else part)
    classes = _classes(model, labels, keyframes)
    labels_of_frames = None if classes is None else [classes[a if t < 0.5 else b] for a, b, t in steps]
    addresses = [keyframes[a] if t == 0 else None for a, _, t in steps]

    z = model.latents(keyframes)  # (K, Z)
    ends = runtime.map(**_inputs(model, {"z": z}, classes, truncation)) if space == "w" else z
    path = np.stack([between(ends[a], ends[b], t) for a, b, t in steps])  # (frames, Z) or (frames, L, W)
    inputs = {"w": path} if space == "w" else _inputs(model, {"z": path}, labels_of_frames, truncation)
    if edits:
        offset = _keyframe_offsets(model, edits, len(keyframes))  # (K, L, W)
        moved = np.stack([lerp(offset[a], offset[b], t) for a, b, t in steps])  # (frames, L, W)
        inputs = {"w": path + moved} if space == "w" else inputs | {"edit": moved}
    return Plan(model, inputs, addresses, labels_of_frames, truncation, edits)


def style_mix(
    runtime: Runtime,
    *,
    rows: Sequence[Address],
    columns: Sequence[Address],
    styles: Literal["coarse", "middle", "fine"] | Sequence[int],
    labels: Label | Sequence[Label] | None = None,
    truncation: float | None = None,
) -> Plan:
    """Return the plan of the style mix of each row with each column: len(rows) * len(columns) images, row by row.

    Each image is the row's image with the layers `styles` of the column. `styles` is a group of layers or a list of
    layers. `labels`, for a conditional model: one for all, or one for each row and then for each column; the default is
    as in `sample`. `sources` of the plan are the images of rows and columns, for a grid with the sources along two
    edges (Karras et al. 2019, figure 3). Raises RequestError.
    """
    model = runtime.model
    if model.style is None:
        raise RequestError("/model", f"`model` (={model.id}) must be a style model.")
    _check_each(model, rows, "rows")
    _check_each(model, columns, "columns")
    addresses = [*rows, *columns]
    classes = _classes(model, labels, addresses)
    w = runtime.map(**_inputs(model, {"z": model.latents(addresses)}, classes, truncation))  # (R + C, L, W)
    sources = Plan(model, {"w": w}, addresses, classes, truncation)
    mixed = mix_styles(w[: len(rows)], w[len(rows) :], _layers(model.style, styles))
    return Plan(model, {"w": mixed}, [None] * len(mixed), None, truncation, sources=sources)


def _plan(
    model: Model,
    addresses: list[Address],
    labels: list[int] | None,
    truncation: float | None,
    edits: Sequence[Edit] = (),
) -> Plan:
    offset = _offsets(model, edits, "edits") if edits else None
    rows = {"address": np.array(addresses, np.uint64)} if len(addresses) <= FEW else {"z": model.latents(addresses)}
    inputs = _inputs(model, rows, labels, truncation)
    if offset is not None:
        inputs["edit"] = np.broadcast_to(offset, (len(addresses), *offset.shape))
    return Plan(model, inputs, addresses, labels, truncation, edits)


def _inputs(
    model: Model, rows: dict[str, np.ndarray], labels: list[int] | None, truncation: float | None
) -> dict[str, np.ndarray]:
    """Return addresses or latents (N, ...) with classes or truncation strengths."""
    (n,) = {len(values) for values in rows.values()}
    if model.style is not None:
        strengths = truncation_strengths(1.0 if truncation is None else truncation, model.style.layers)
        rows = {**rows, "psi": np.tile(strengths, (n, 1))}
    elif truncation is not None:
        raise RequestError("/truncation", f"`truncation` (={truncation}) is for style models; {model.id} is not one.")
    return rows if labels is None else {**rows, "label": np.array(labels, np.int64)}


def _check_range(model: Model, seed: int, last: int) -> None:
    """Raise RequestError if the model has no latent for an index up to `last`."""
    if error := check_address(model.latent_source, seed, last):
        raise RequestError({"seed": "/seed", "index": "/start"}[error[0]], error[1])


def _check_each(model: Model, addresses: Sequence[Address], field: str) -> None:
    for i, address in enumerate(addresses):
        if error := check_address(model.latent_source, *address):
            raise RequestError(f"/{field}/{i}", error[1])


def _offsets(model: Model, edits: Sequence[Edit], field: str) -> np.ndarray:
    """Return the offset of `edits` in w, (L, W). Raises RequestError with a pointer into `field`."""
    pointer = "/" + field.replace("[", "/").replace("]", "")
    if not model.directions or model.style is None:
        raise RequestError(pointer, f"`edits` is for style models with directions; {model.id} has none.")
    for i, edit in enumerate(edits):
        if edit.direction not in model.directions:
            message = f"`{field}[{i}].direction` (={edit.direction!r}) must be one of {', '.join(model.directions)}."
            raise RequestError(f"{pointer}/{i}/direction", message)
        for k, layer in enumerate(edit.layers or ()):
            if not 0 <= layer < model.style.layers:
                message = f"`{field}[{i}].layers[{k}]` (={layer}) must be between 0 and {model.style.layers - 1}."
                raise RequestError(f"{pointer}/{i}/layers/{k}", message)
    return offsets(edits, model.directions, model.vectors, model.style.layers)


def _keyframe_offsets(model: Model, edits: Sequence[Edit] | Sequence[Sequence[Edit]], keyframes: int) -> np.ndarray:
    """Return the offsets of edits in w for each keyframe, (K, L, W)."""
    lists = [each for each in edits if not isinstance(each, Edit)]
    if not lists:
        offset = _offsets(model, [each for each in edits if isinstance(each, Edit)], "edits")
        return np.broadcast_to(offset, (keyframes, *offset.shape))
    if len(lists) != keyframes:
        found = f"`edits` has {len(lists)} lists"
        raise RequestError("/edits", f"{found}; it must be one list of edits for all frames, or {keyframes}.")
    return np.stack([_offsets(model, each, f"edits[{i}]") for i, each in enumerate(lists)])


def _steps(keyframes: int, frames: int, loop: bool, part: range) -> list[tuple[int, int, float]]:
    """Return (keyframe, next keyframe, t) of each frame, 0 <= t < 1. Integer arithmetic keeps t = 0 exact."""
    segments = keyframes if loop else keyframes - 1
    intervals = frames if loop else max(frames - 1, 1)
    steps = []
    for frame in part:
        segment, rest = divmod(frame * segments, intervals)
        steps.append((segment % keyframes, (segment + 1) % keyframes, rest / intervals))
    return steps


def _classes(model: Model, labels: Label | Sequence[Label] | None, addresses: Sequence[Address]) -> list[int] | None:
    """Return the class index of each address, or None for an unconditional model."""
    if model.classes is None:
        if labels is None:
            return None
        raise RequestError("/labels", f"`labels` is for conditional models; {model.id} has no classes.")
    if labels is None:
        return [address.index % len(model.classes) for address in addresses]
    if isinstance(labels, int | str):
        return [_class(model.classes, labels, "labels", "/labels")] * len(addresses)
    if len(labels) != len(addresses):
        raise RequestError(
            "/labels", f"`labels` has {len(labels)} entries; it must be one label for all, or {len(addresses)}."
        )
    return [_class(model.classes, label, f"labels[{i}]", f"/labels/{i}") for i, label in enumerate(labels)]


def _class(classes: tuple[str, ...], label: Label, field: str, pointer: str) -> int:
    if (index := class_index(classes, label)) is not None:
        return index
    allowed = f"an index between 0 and {len(classes) - 1} or one of {', '.join(classes)}"
    raise RequestError(pointer, f"`{field}` (={label!r}) must be {allowed}.")


def _layers(style: StyleSpec, styles: str | Sequence[int]) -> Sequence[int]:
    if isinstance(styles, str):
        return {"coarse": style.coarse, "middle": style.middle, "fine": style.fine}[styles]
    for i, layer in enumerate(styles):
        if not 0 <= layer < style.layers:
            raise RequestError(
                f"/styles/{i}", f"`styles[{i}]` (={layer}) must be a layer between 0 and {style.layers - 1}."
            )
    return styles
