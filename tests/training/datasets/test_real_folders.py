"""Folders as people have them: links, empty classes, other files, splits, names, sets larger than memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.__main__ import main
from training.datasets import image_folder, loaders, memory
from training.errors import DataError


def fill(folder: Path, names: str) -> Path:
    """Images of 8 px, each of one grey: 0, 1, 2 ..."""
    for level, name in enumerate(names.split()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(folder / name)
    return folder


def levels(dataset: loaders.Dataset) -> list[int]:
    return dataset.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("linked", [("cat",), ("cat", "dog")])
def test_class_folders_that_are_links_are_followed(linked: tuple[str, ...], tmp_path: Path):
    elsewhere, pets = tmp_path / "elsewhere", tmp_path / "pets"
    pets.mkdir()
    fill(elsewhere, "cat/1.png dog/1.png dog/deep/2.png")
    for name in ("cat", "dog"):
        if name in linked:
            (pets / name).symlink_to(elsewhere / name)
        else:
            shutil.copytree(elsewhere / name, pets / name)
    dataset = loaders.load("folder", pets, 8)
    assert dataset.classes == ("cat", "dog") and levels(dataset) == [0, 1, 2] and not dataset.notes


def test_links_to_files_and_two_links_to_one_folder_count(tmp_path: Path):
    fill(tmp_path / "elsewhere", "1.png 2.png")
    pets = tmp_path / "pets"
    for name in ("a", "b"):
        (pets / name).mkdir(parents=True)
        (pets / name / "all").symlink_to(tmp_path / "elsewhere")
        (pets / name / "one.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    dataset = loaders.load("folder", pets, 8)
    assert levels(dataset) == [0, 1, 0] * 2 and dataset.classes == ("a", "b")


@pytest.mark.parametrize("links", [{"a/up": ".."}, {"a/self": "."}, {"a/x": "../b", "b/y": "../a"}, {"a/l": "l"}])
def test_links_in_a_circle_end_and_are_named(links: dict[str, str], tmp_path: Path):
    fill(tmp_path, "a/1.png b/1.png")
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    found = image_folder.find(tmp_path)
    assert len(found.files) == len({os.path.realpath(path) for path in found.files}) * (2 if len(links) > 1 else 1)
    assert found.classes == ("a", "b") and any(name in note for name in links for note in found.notes)


def test_a_lone_link_back_ends(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set")
    with pytest.raises(DataError, match="no pictures"):
        loaders.load("folder", tmp_path / "set", 8)


@pytest.mark.parametrize("mode", [0o000, 0o111])
def test_a_folder_that_cannot_be_entered_is_named(mode: int, permissions_hold: None, tmp_path: Path):
    fill(tmp_path, "cat/1.png dog/1.png")
    (tmp_path / "dog").chmod(mode)
    with pytest.raises(DataError, match=r"dog cannot be read: Permission denied; give this user permission"):
        loaders.load("folder", tmp_path, 8)
    (tmp_path / "dog").rename(tmp_path / "lost+found")  # a file system's own
    fill(tmp_path, "cat/2.png")
    assert len(loaders.load("folder", tmp_path, 8)) == 2
    (tmp_path / "lost+found").chmod(0o755)


def test_an_empty_class_is_named_and_shifts_no_other(tmp_path: Path):
    fill(tmp_path, "a/1.png c/1.png")
    for name in ("b", "d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.heic").touch()
    dataset = loaders.load("folder", tmp_path, 8)
    assert dataset.classes == ("a", "b", "c", "d") and dataset.labels is not None
    assert dataset.labels.tolist() == [0, 2] and dataset.unused_classes == ("b", "d")
    assert dataset.notes[0] == "without images: 2 classes: b, d" and "2 .heic" in dataset.notes[1]
    with pytest.raises(DataError, match=r"has no image of the classes b, d: data.unused_classes=drop"):
        dataset.handling_unused("reject")
    dropped = dataset.handling_unused("drop")
    assert dropped.classes == ("a", "c") and dropped.labels is not None and dropped.labels.tolist() == [0, 1]
    assert dataset.handling_unused("keep") is dataset


def test_a_folder_without_images_beside_one_set_is_named(tmp_path: Path):
    fill(tmp_path, "images/1.png images/2.png")
    (tmp_path / "annotations").mkdir()
    dataset = loaders.load("folder", tmp_path, 8)
    assert dataset.classes is None and dataset.notes == ("without images: 1 folder: annotations",)


def test_what_is_left_out_is_counted_by_extension(tmp_path: Path):
    fill(tmp_path, "1.png 2.png .hidden.png")
    for i in range(50):
        (tmp_path / f"{i}.HEIC").touch()
    for name in ("a.txt", "b.txt", "README", "._1.png"):
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    named, broken = loaders.load("folder", tmp_path, 8).notes
    assert "50 .heic, 2 .txt, 1 without an extension" in named or "50 .heic, 2 .txt, 1 " in named
    assert "save .heic as .jpg or .png" in named and broken == "left out: 1 broken link: gone.png"
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match=r"holds one picture, 2.png; at least 2 .*50 \.heic"):
        loaders.load("folder", tmp_path, 8)


@pytest.mark.parametrize(
    ("train", "held_out"), [("train", "test"), ("Training", "Testing"), ("TRAIN", "valid"), ("train", "Val")]
)
@pytest.mark.parametrize("above", ["", "dataset/"])
def test_split_folders_are_recognised(train: str, held_out: str, above: str, tmp_path: Path):
    fill(tmp_path, " ".join(f"{above}{split}/{name}/1.png" for split in (train, held_out) for name in "ab"))
    assert levels(loaders.load("folder", tmp_path, 8)) == [0, 1]
    other = loaders.load("folder", tmp_path, 8, "test")
    assert levels(other) == [2, 3] and other.split == "test" and other.classes == ("a", "b")
    assert other.notes[0].startswith(f"splits: {train} is `train`, {held_out} is ")


def test_what_lies_beside_splits_is_named(tmp_path: Path):
    fill(tmp_path, "train/1.png train/2.png val/1.png val/2.png test/1.png test/2.png extra/1.png")
    dataset = loaders.load("folder", tmp_path, 8, "test")
    assert levels(dataset) == [4, 5]  # test goes before val
    assert dataset.notes[1] == "left out beside the splits: 1 folder: extra"
    (tmp_path / "training").mkdir()
    with pytest.raises(DataError, match="train and training are both `train`"):
        loaders.load("folder", tmp_path, 8)


def test_a_class_called_train_is_no_split(tmp_path: Path):
    assert loaders.load("folder", fill(tmp_path, "bus/1.png train/1.png"), 8).classes == ("bus", "train")


def test_a_set_larger_than_memory_is_told_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path, " ".join(f"{i}.png" for i in range(100)))
    monkeypatch.setattr(image_folder, "read", None)
    monkeypatch.setattr(memory, "free", lambda: 100_000)
    with pytest.raises(DataError, match=r"data.count=29 or data.resolution=16 would fit") as error:
        loaders.load("folder", tmp_path, 32)
    assert "100 images of 32 px take 0.0 GiB" in str(error.value)
    for name in ("mnist", "stacked-mnist", "critters", "cifar10"):  # nor is anything downloaded or rendered
        with pytest.raises(DataError, match="would fit"):
            loaders.load(name, tmp_path / "none", 32)
    np.savez(tmp_path / "x.npz", images=np.zeros((100, 4, 4), np.uint8))
    with pytest.raises(DataError, match="would fit"):
        loaders.load("npz", tmp_path / "x.npz", 64)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("count", "resolution"), [(29, 32), (100, 16)])
def test_the_sizes_that_are_named_fit(count: int, resolution: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free", lambda: 100_000)
    memory.check_fits("x", count, 3, resolution)


def test_free_memory_is_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    machine = memory.free()
    assert machine is None or machine > 2**20
    for name, text in {"max": "1000000", "current": "900000", "stat": "anon 5\ninactive_file 50000"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert memory.free() == 150_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free() != 150_000


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.uint32, np.uint64, np.int64])
@pytest.mark.parametrize("highest", [0, 127, 255])
def test_labels_of_any_integer_type_are_counted(dtype: type, highest: int, tmp_path: Path):
    highest = min(highest, np.iinfo(dtype).max)
    labels = np.arange(highest + 2) % (highest + 1)
    np.savez(tmp_path / "x.npz", images=np.zeros((len(labels), 4, 4), np.uint8), labels=labels.astype(dtype))
    dataset = loaders.load("npz", tmp_path / "x.npz", 4)
    assert dataset.classes == tuple(map(str, range(highest + 1)))
    assert dataset.labels is not None and dataset.labels.tolist() == labels.tolist()


def test_labels_that_begin_at_1_have_an_unused_class(tmp_path: Path):
    labels = np.arange(1, 27, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=np.zeros((26, 4, 4), np.uint8), labels=labels)
    dataset = loaders.load("npz", tmp_path / "x.npz", 4)
    assert dataset.unused_classes == ("0",)
    dropped = dataset.handling_unused("drop")
    assert dropped.classes == tuple(map(str, labels)) and not dropped.unused_classes


@pytest.mark.parametrize("classes", [["a", "a"], ["a", ""]])
def test_class_names_that_no_model_can_have_are_rejected(classes: list[str], tmp_path: Path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]), classes=classes)
    with pytest.raises(DataError, match="each must have a name, once"):
        loaders.load("npz", tmp_path / "x.npz", 4)


def generated(folder: Path, labels: list[tuple[int, str]] | None, shards: int = 2) -> Path:
    """As `ganymede generate --format files` writes it."""
    for shard in range(shards):
        where = folder / f"shard-{shard:06}"
        lines = []
        for i in range(2):
            index = 2 * shard + i
            fill(where, f"{index:012}.png")
            entry = {"file_name": f"{index:012}.png", "model": "m", "seed": 7, "index": index}
            if labels:
                entry |= dict(zip(("label", "class"), labels[index % len(labels)], strict=True))
            lines.append(json.dumps(entry))
        (where / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    fill(folder / "_ganymede" / "staging", "1.png")
    (folder / "manifest.json").write_text("{}")
    return folder


def test_shards_of_generated_images_are_no_classes(tmp_path: Path):
    dataset = loaders.load("folder", generated(tmp_path, None), 8)
    assert len(dataset) == 4 and dataset.classes is None


def test_generated_images_have_the_classes_of_their_model(tmp_path: Path):
    dataset = loaders.load("folder", generated(tmp_path, [(10, "ten"), (2, "two"), (0, "zero")]), 8)
    assert dataset.classes == ("zero", "two", "ten")  # in the model's order
    assert dataset.labels is not None and dataset.labels.tolist() == [2, 1, 0, 2]
    one = loaders.load("folder", tmp_path / "shard-000000", 8)
    assert one.classes == ("two", "ten")
    (tmp_path / "shard-000001" / "metadata.jsonl").write_text("no JSON\n")
    with pytest.raises(DataError, match=r"shard-000001.metadata.jsonl cannot be read"):
        loaders.load("folder", tmp_path, 8)


ODD = [b"caf\xe9", "größe".encode(), b"a\nb", b"'\"$"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_listing_never_fails_on_the_encoding(encoding: str, tmp_path: Path):
    for name in ODD:
        fill(tmp_path / os.fsdecode(name), "1.png")
    done = subprocess.run(
        [sys.executable, "-m", "training", "data", "folder", "--data", str(tmp_path), "--resolution", "8"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == b"" and b"4 classes: " in done.stdout


def test_data_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fill(tmp_path, "a/1.png b/1.png")
    (tmp_path / "c").mkdir()
    (tmp_path / "b" / "2.heic").touch()
    assert main(["data", "folder", "--data", str(tmp_path), "--resolution", "8"]) == 0
    said = capsys.readouterr().out
    assert "without images: 1 class: c" in said and "1 .heic" in said and "a (1), b (1), c (0)" in said
