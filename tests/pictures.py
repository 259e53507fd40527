"""What a reply holds, whatever its format: the images, decoded."""

import base64
import io
import json
import zipfile

import numpy as np
from PIL import Image, ImageSequence


def decode(data: bytes) -> np.ndarray:
    """An image file -> (H, W, C) uint8, C 1 where the file is grey."""
    return array(Image.open(io.BytesIO(data)))


def array(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def frames(data: bytes) -> np.ndarray:
    """An animation -> (N, H, W, C) uint8."""
    return np.stack([array(frame) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))])


def cells(picture: np.ndarray, columns: int, height: int, width: int) -> np.ndarray:
    """A grid -> its images (rows * columns, H, W, C)."""
    rows = picture.shape[0] // height
    assert picture.shape[:2] == (rows * height, columns * width)
    return picture.reshape(rows, height, columns, width, -1).swapaxes(1, 2).reshape(rows * columns, height, width, -1)


def of_npy(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def of_zip(data: bytes) -> tuple[np.ndarray, dict]:
    """-> (N, H, W, C) and the manifest."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        manifest = json.loads(file.read("manifest.json"))
        return np.stack([decode(file.read(entry["file"])) for entry in manifest["images"]]), manifest


def of_json(data: bytes) -> tuple[np.ndarray, dict]:
    """-> (N, H, W, C) and the document."""
    document = json.loads(data)
    return np.stack([decode(base64.b64decode(entry["png"], validate=True)) for entry in document["images"]]), document
