"""Data arrives whole, in a known order, or is refused by name."""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets import critters, loaders
from training.datasets.dataset import Extent
from training.datasets.transforms import resize
from training.errors import DataError

DATA = Path(__file__).parents[2] / "data"


def test_mnist_is_read_from_torchvisions_layout():
    train, test = loaders.load("mnist", DATA, 28), loaders.load("mnist", DATA, 28, "test")
    assert train.images.shape == (256, 1, 28, 28) and train.images.dtype == torch.uint8
    assert train.labels is not None and train.labels[:5].tolist() == [5, 0, 4, 1, 9]  # the set's known beginning
    assert test.labels is not None and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.classes == tuple("0123456789")
    assert (train.split, test.split) == ("train", "test")


def test_fashion_mnist_has_the_names_of_its_clothes():
    train, test = loaders.load("fashion-mnist", DATA, 28), loaders.load("fashion-mnist", DATA, 28, "test")
    assert train.images.shape == (16, 1, 28, 28) and test.images.shape == (8, 1, 28, 28)
    assert train.labels is not None and train.classes is not None
    assert [train.classes[k] for k in train.labels[:3]] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A CIFAR-10 of 12 invented images in tmp_path, as its authors pack it -> their pixels (12, 3, 32, 32)."""
    from torchvision.datasets import CIFAR10

    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def write(name: str, content: dict) -> str:
        packed = pickle.dumps(content)
        (folder / name).write_bytes(packed)
        return hashlib.md5(packed, usedforsecurity=False).hexdigest()

    batches = []
    for k, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        content = {"data": pixels[4 * k : 4 * k + 4].reshape(4, 3072), "labels": [k, 9, 8, 7]}
        batches.append([name, write(name, content)])
    md5 = write("batches.meta", {"label_names": list(loaders.CIFAR10_CLASSES)})
    monkeypatch.setattr(CIFAR10, "train_list", batches[:2])
    monkeypatch.setattr(CIFAR10, "test_list", batches[2:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    return pixels


def test_cifar10_is_read_from_torchvisions_layout(cifar10: np.ndarray, tmp_path: Path):
    train, test = loaders.load("cifar10", tmp_path, 32), loaders.load("cifar10", tmp_path, 32, "test")
    np.testing.assert_array_equal(train.images.numpy(), cifar10[:8])
    np.testing.assert_array_equal(test.images.numpy(), cifar10[8:])
    assert train.labels is not None and train.labels.tolist() == [0, 9, 8, 7, 1, 9, 8, 7]
    assert train.classes is not None and train.classes[6] == "frog" and len(train.classes) == 10


@pytest.mark.parametrize("name", [*loaders.EXTENTS, "npz"])
def test_the_extent_is_that_of_what_is_loaded(name: str, cifar10: np.ndarray, tmp_path: Path):
    folder, size = (tmp_path, 32) if name in ("cifar10", "critters") else (DATA, 28)
    if name == "npz":
        folder = tmp_path / "own.npz"
        np.savez(folder, images=cifar10, labels=np.arange(12) % 5)
    loaded = loaders.load(name, folder, size, count=8)
    classes = len(loaded.classes) if loaded.classes else None
    assert loaders.extent(name, folder, size, 8) == Extent(len(loaded), loaded.channels, classes)


def test_what_is_known_is_neither_downloaded_nor_rendered(tmp_path: Path):
    assert {name: loaders.extent(name, tmp_path, 28).pictures for name in loaders.EXTENTS} == {
        "mnist": 60_000,
        "fashion-mnist": 60_000,
        "cifar10": 50_000,
        "stacked-mnist": 128_000,
        "critters": 50_000,
    }
    assert loaders.extent("mnist", tmp_path, 28, count=100_000).pictures == 60_000  # there are no more
    assert loaders.extent("critters", tmp_path, 28, count=100_000).pictures == 100_000
    assert not list(tmp_path.iterdir())


def test_cifar10_is_also_read_from_npz_files(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "cifar10-test.npz", images=pixels, labels=np.arange(4))
    test = loaders.load("cifar10", tmp_path, 32, "test")
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert test.classes == loaders.CIFAR10_CLASSES and test.source.name == "CIFAR-10"


def test_a_damaged_cifar10_without_a_download_is_named(cifar10: np.ndarray, tmp_path: Path):
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"x")
    with pytest.raises(DataError, match=r"CIFAR-10 is not whole in .*cifar-10-batches-py and could not be downloaded"):
        loaders.load("cifar10", tmp_path, 32)


@pytest.mark.parametrize("split", ["train", "test"])
def test_stacked_mnist_is_three_digits_and_says_which(split: str):
    digits, stacked = loaders.load("mnist", DATA, 28, split), loaders.load("stacked-mnist", DATA, 28, split, count=500)
    assert digits.labels is not None and stacked.labels is not None and stacked.images.shape == (500, 3, 28, 28)
    known = {image.numpy().tobytes(): int(k) for image, k in zip(digits.images, digits.labels, strict=True)}
    for image, label in zip(stacked.images, stacked.labels, strict=True):
        r, g, b = (known[plane.numpy().tobytes()] for plane in image)
        assert int(label) == 100 * r + 10 * g + b
    assert stacked.classes is not None and len(stacked.classes) == 1000 and stacked.classes[7] == "007"


def test_stacked_mnist_repeats_and_is_as_large_as_asked():
    few, more = (loaders.load("stacked-mnist", DATA, 7, count=count) for count in (100, 300))
    assert torch.equal(few.images, more.images[:100]) and few.labels is not None and more.labels is not None
    assert more.labels[:4].tolist() == [952, 11, 974, 103]
    assert len(loaders.load("stacked-mnist", DATA, 2)) == 128_000
    sizes_agree = resize(loaders.load("stacked-mnist", DATA, 28, count=100).images, 7)
    assert torch.equal(few.images, sizes_agree)


def test_critters_are_rendered_once_with_the_same_pixels(tmp_path: Path):
    first = loaders.load("critters", tmp_path, 64, count=3)
    (cache,) = tmp_path.iterdir()
    stamp = cache.stat().st_mtime_ns
    again = loaders.load("critters", tmp_path, 64, count=3)
    assert cache.stat().st_mtime_ns == stamp
    assert torch.equal(first.images, again.images)
    np.testing.assert_array_equal(first.images[2].permute(1, 2, 0).numpy(), critters.render(2))
    held_out = loaders.load("critters", tmp_path, 64, "test", count=3)
    np.testing.assert_array_equal(held_out.images[0].permute(1, 2, 0).numpy(), critters.render(critters.HELD_OUT))


def idx_copy(tmp_path: Path) -> Path:
    shutil.copytree(DATA / "MNIST", tmp_path / "MNIST")
    return tmp_path / "MNIST" / "raw"


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03", b"<html>not found</html>"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_damaged_mnist_file_is_named(name: str, content: bytes, tmp_path: Path):
    path = idx_copy(tmp_path) / name
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        loaders.load("mnist", tmp_path, 28)
    assert str(error.value) == f"{path} is damaged or cannot be read: delete it, and it is downloaded again."


def test_a_truncated_mnist_file_is_named(tmp_path: Path):
    path = idx_copy(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is damaged"):
        loaders.load("stacked-mnist", tmp_path, 28)


@pytest.mark.parametrize("spoil", ["another length", "no digit"])
def test_labels_that_do_not_fit_are_refused(spoil: str, tmp_path: Path):
    raw = idx_copy(tmp_path)
    labels = raw / "train-labels-idx1-ubyte"
    if spoil == "another length":
        shutil.copy(raw / "t10k-labels-idx1-ubyte", labels)
    else:
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError) as error:
        loaders.load("mnist", tmp_path, 28)
    assert f"{labels} does not fit train-images-idx3-ubyte: delete both" in str(error.value)


def test_a_set_that_cannot_be_downloaded_says_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(DataError) as error:
        loaders.load("fashion-mnist", tmp_path, 28)
    where = tmp_path / "FashionMNIST" / "raw"
    assert str(error.value).startswith(f"FashionMNIST is not in {where} and could not be downloaded: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imagenet", DATA, 28), f"`data.name` (='imagenet') must be one of {', '.join(loaders.NAMES)}."),
        (("mnist", DATA, 0), "`data.resolution` (=0) must be between 1 and 1024."),
        (("mnist", DATA, 1025), "`data.resolution` (=1025) must be between 1 and 1024."),
        (("mnist", DATA, 28, "train", 1), "`data.count` (=1) must be at least 2."),
        (("mnist", DATA, 28, "train", -5), "`data.count` (=-5) must be at least 2."),
    ],
)
def test_data_that_cannot_be_is_refused(arguments: tuple, message: str):
    with pytest.raises(DataError) as error:
        loaders.load(*arguments)
    assert message in str(error.value)
