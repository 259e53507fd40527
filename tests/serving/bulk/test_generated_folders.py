"""`ganymede generate --format files` writes a folder that trainers take as it is."""

from pathlib import Path
from typing import Any

import pytest

from training.datasets import loaders


@pytest.fixture
def folder(generate: Any, tmp_path: Path) -> Path:
    """Three shards of a conditional model."""
    out = tmp_path / "out"
    said = generate("tiny-cgan", "-n", 25, "--seed", 7, "--shard-size", 10, "--format", "files", "--out", out)
    assert f"{out}/images: tiny-cgan, seed 7, index 0 to 24: 3 shards generated" in said.stdout
    return out


def test_torchvision_sees_images_and_no_class_of_ours(folder: Path):
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(str(folder))
    assert dataset.classes == ["images"] and len(dataset) == 25


def test_datasets_sees_every_image_with_its_class(folder: Path, tmp_path: Path):
    import datasets

    found: Any = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert sorted(found["index"]) == list(range(25))
    assert found.column_names == ["image", "model", "seed", "index", "label", "class"]
    assert all(row["label"] == row["index"] % 10 and row["class"] == str(row["label"]) for row in found)


def test_training_takes_the_classes_of_the_model(folder: Path):
    for place in (folder, folder / "images"):
        dataset = loaders.load("folder", place, 16)
        assert len(dataset) == 25 and dataset.classes == tuple("0123456789") and not dataset.unused_classes
        assert dataset.labels is not None and dataset.labels.tolist() == [i % 10 for i in range(25)]
    assert len(loaders.load("folder", folder / "images" / "shard-000001", 16)) == 10


def test_it_is_resumed_and_kept_apart_from_other_formats(folder: Path, generate: Any):
    again = ["tiny-cgan", "-n", 25, "--seed", 7, "--shard-size", 10, "--out", folder]
    assert "0 shards generated, 3 kept" in generate(*again, "--format", "files").stdout
    said = generate(*again, code=1).stderr
    assert '`format` was "files" and is "webdataset"' in said


def test_a_directory_begun_before_is_resumed_in_place(folder: Path, generate: Any):
    for path in (folder / "images").iterdir():
        path.rename(folder / path.name)
    (folder / "images").rmdir()
    again = ["tiny-cgan", "-n", 25, "--seed", 7, "--shard-size", 10, "--format", "files", "--out", folder]
    assert "0 shards generated, 3 kept" in generate(*again).stdout and not (folder / "images").exists()
