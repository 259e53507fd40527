"""Semantic directions of a style model: `directions.npz` beside its graphs, and edits along them.

An edit is `w[:, layers] += strength * direction`, after truncation. A direction is scaled so that strength 1 is one
standard deviation of w along it.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.engine.model_json import DirectionSpec

HEADER_BYTES = 1024  # maximum, of an array in the file


@dataclass(frozen=True)
class Edit:
    """A step along a direction."""

    direction: str  # its name
    strength: float  # in standard deviations of w
    layers: tuple[int, ...] | None = None  # default: the layers of the direction

    def __str__(self) -> str:
        """Return the form used in URLs and on the command line: `sefa-0:2.5`, or `sefa-0:2.5:0,1` on chosen layers."""
        text = f"{self.direction}:{self.strength:g}"
        return text if self.layers is None else f"{text}:{','.join(map(str, self.layers))}"


def parse_edit(text: str) -> Edit:
    """Parse the form of `str(edit)`. Raises ValueError with a message for the user."""
    name, colon, rest = text.partition(":")
    strength, _, layers = rest.partition(":")
    try:
        if not name or not colon or not strength.strip():
            raise ValueError
        return Edit(name, float(strength), tuple(map(int, layers.split(","))) if layers else None)
    except ValueError:
        raise ValueError(
            f"{text[:60]!r} is not NAME:STRENGTH or NAME:STRENGTH:LAYER,LAYER, such as sefa-0:2.5"
        ) from None


def parse_directions(data: bytes, specs: Sequence[DirectionSpec], w_size: int) -> dict[str, np.ndarray]:
    """Return the vectors (W,) float32 of `specs`, by name, from the bytes of a directions.npz. Raises ValueError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            expected = sorted(f"{spec.name}.npy" for spec in specs)
            if sorted(archive.namelist()) != expected:
                raise ValueError("holds arrays that differ from `directions` in model.json")
            if any(entry.file_size > 4 * w_size + HEADER_BYTES for entry in archive.infolist()):
                raise ValueError(f"holds an array that is larger than {w_size} numbers")
            vectors = {
                spec.name: np.lib.format.read_array(io.BytesIO(archive.read(f"{spec.name}.npy")), allow_pickle=False)
                for spec in specs
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"is not a readable npz file: {error}") from None
    for name, vector in vectors.items():
        if vector.dtype != np.float32 or vector.shape != (w_size,) or not np.isfinite(vector).all():
            raise ValueError(
                f"has `{name}` as {vector.dtype} {vector.shape}; it must be {w_size} finite float32 numbers"
            )
    return vectors


def offsets(
    edits: Sequence[Edit], directions: Mapping[str, DirectionSpec], vectors: Mapping[str, np.ndarray], layers: int
) -> np.ndarray:
    """Return the sum of the offsets of `edits` in w: (L, W) float32."""
    total = np.zeros((layers, len(next(iter(vectors.values())))), np.float32)
    for edit in edits:
        on = directions[edit.direction].layers if edit.layers is None else edit.layers
        total[list(on)] += np.float32(edit.strength) * vectors[edit.direction]
    return total
