"""An .npz file arrives as it was written, or is refused by name."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets import loaders
from training.datasets.transforms import resize
from training.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (IMAGES, IMAGES),
        (IMAGES.transpose(0, 2, 3, 1), IMAGES),
        (IMAGES[:, 0], IMAGES[:, :1]),
        (IMAGES[:, :1], IMAGES[:, :1]),
        (IMAGES[:, 0, :, :, None], IMAGES[:, :1]),
    ],
    ids=["NCHW", "NHWC", "NHW", "N1HW", "NHW1"],
)
def test_every_order_of_axes_is_read(stored: np.ndarray, expected: np.ndarray, tmp_path: Path):
    np.savez_compressed(tmp_path / "x.npz", images=stored)
    dataset = loaders.load("npz", tmp_path / "x.npz", 8)
    assert dataset.images.is_contiguous() and dataset.labels is None and dataset.classes is None
    np.testing.assert_array_equal(dataset.images.numpy(), expected)
    assert (dataset.source.name, dataset.split) == ("x.npz", "all")


def test_labels_and_their_names_come_along(tmp_path: Path):
    path = tmp_path / "x.npz"
    np.savez(path, images=IMAGES, labels=LABELS.astype(np.uint8), classes=np.array(["a", "b", "c"]))
    dataset = loaders.load("npz", path, 8)
    assert dataset.labels is not None and dataset.labels.dtype == torch.int64
    assert dataset.labels.tolist() == LABELS.tolist() and dataset.classes == ("a", "b", "c")
    np.savez(path, images=IMAGES, labels=LABELS)
    assert loaders.load("npz", path, 8).classes == ("0", "1", "2")


def test_a_count_is_spread_over_the_file(tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.sort(LABELS))
    dataset = loaders.load("npz", tmp_path / "x.npz", 8, count=3)
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(dataset.images.numpy(), IMAGES[::2])


def test_another_resolution_is_resized(tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=IMAGES)
    dataset = loaders.load("npz", tmp_path / "x.npz", 4)
    assert torch.equal(dataset.images, resize(torch.from_numpy(IMAGES), 4))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, "has no array `images`; it holds pictures."),
        ({"images": IMAGES / 255}, "`images` is float64 (6, 3, 8, 8); it must be uint8."),
        ({"images": IMAGES[:, :2]}, "`images` is uint8 (6, 2, 8, 8); it must be (N, H, W), (N, H, W, C) or"),
        ({"images": IMAGES[0, 0]}, "`images` is uint8 (8, 8); it must be (N, H, W)"),
        ({"images": IMAGES[:, :, 1:]}, "`images` is uint8 (6, 3, 7, 8); the pictures must be square."),
        ({"images": IMAGES[:, :, :0, :0]}, "`images` is uint8 (6, 3, 0, 0); the pictures must be square."),
        ({"images": IMAGES[:1]}, "`images` is uint8 (1, 3, 8, 8); at least 2 pictures are needed."),
        ({"images": IMAGES, "labels": LABELS[1:]}, "5 `labels` for 6 `images`; there must be one a picture."),
        ({"images": IMAGES, "labels": LABELS / 2}, "`labels` is float64 (6,); it must be one integer a picture."),
        ({"images": IMAGES, "labels": np.eye(6, dtype=int)}, "`labels` is int64 (6, 6); it must be one integer"),
        ({"images": IMAGES, "labels": LABELS - 1}, "`labels` holds -1; they must count the classes from 0"),
        ({"images": IMAGES, "labels": LABELS + 10**12}, "`labels` holds 1000000000000; they must count the classes"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b"])}, "`labels` holds 2;"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.arange(3)}, "`classes` is int64 (3,); it must be one"),
        ({"images": IMAGES.astype(object)}, "cannot be read: Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path):
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(DataError) as error:
        loaders.load("npz", path, 8)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def damaged(path: Path) -> None:
    """One byte of the pixels is another, as a bad disk leaves it."""
    np.savez(path, images=IMAGES)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    np.savez(path, images=IMAGES)
    path.write_bytes(path.read_bytes()[:-100])


def single_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, IMAGES)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(pickle.dumps({"images": IMAGES})), "is not a whole .npz file"),
        (single_array, "is not a whole .npz file"),
        (truncated, "is not a whole .npz file"),
        (damaged, "cannot be read: Bad CRC-32"),
        (lambda path: path.mkdir(), "is not a file: give the .npz file itself."),
        (lambda path: None, "is not a file: give the .npz file itself."),
    ],
    ids=["pickle", "npy", "truncated", "damaged", "folder", "nothing"],
)
def test_what_is_no_npz_file_is_refused(spoil, message: str, tmp_path: Path):
    path = tmp_path / "x.npz"
    spoil(path)
    with pytest.raises(DataError) as error:
        loaders.load("npz", path, 8)
    assert str(error.value).startswith(str(path)) and message in str(error.value)
