"""What each format holds, read by the libraries that will read it."""

import gc
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pictures
from serving.bulk.engines import Local
from serving.bulk.job import plan
from serving.bulk.run import generate
from serving.bulk.storage import Store

Expected = Callable[..., np.ndarray]


@pytest.fixture
def make(repository_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """25 images of seed 7 from index 3, in shards of 10."""

    def run(model: str, **options: Any) -> Path:
        engine = Local(repository_folder / model, workers=1)
        range: dict[str, Any] = {"n": 25, "seed": 7, "start": 3, "shard_size": 10}
        job = plan(engine.subject, **(range | options))
        assert generate(job, Store(str(tmp_path / "out")), engine).whole
        return tmp_path / "out"

    return run


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WebDataset leaves the last shard open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("image", ["png", "webp"])
def test_webdataset_reads_pictures_and_what_they_are(make: Any, expected: Expected, image: str):
    from webdataset.compat import WebDataset

    folder = make("tiny-cgan", image=image, labels="3,seven,4".replace("seven", "7"))
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    assert len(urls) == 3
    samples = [*WebDataset(urls, shardshuffle=False).decode("rgb8")]  # pyright: ignore[reportGeneralTypeIssues]
    labels = [[3, 7, 4][index % 3] for index in range(3, 28)]
    right = expected("tiny-cgan", n=25, seed=7, start=3, labels=labels)
    assert len(samples) == 25
    for i, sample in enumerate(samples):
        assert np.array_equal(sample[image], np.broadcast_to(right[i], (16, 16, 3)))
        facts = {"model": "tiny-cgan", "seed": 7, "index": 3 + i, "label": labels[i], "class": str(labels[i])}
        assert sample["json"] == facts
        assert sample["__key__"] == f"{3 + i:012}"
    gc.collect()


def test_a_tar_is_what_tarfile_writes(make: Any):
    """Byte for byte, from the same members without dates or owners."""
    path = make("tiny-style", truncation=0.5) / "shard-000000.tar"
    again = io.BytesIO()
    with tarfile.open(path) as shard, tarfile.open(fileobj=again, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in shard.getmembers():
            data = shard.extractfile(member).read()  # pyright: ignore[reportOptionalMemberAccess]
            plain = tarfile.TarInfo(member.name)
            plain.size = len(data)
            archive.addfile(plain, io.BytesIO(data))
            if member.name.endswith(".json"):
                assert json.loads(data)["truncation"] == 0.5
    assert path.read_bytes() == again.getvalue()


@pytest.mark.parametrize("format", ["webdataset", "files", "parquet"])
def test_images_are_named_in_order_past_the_13th_digit(make: Any, format: str):
    start = 10**12 - 13
    folder = make("tiny-dcgan", format=format, start=start)
    names = [name for path in sorted(folder.glob("shard-*")) for name in _picture_names(path)]
    assert names == sorted(names) and names == [f"{start + i:013}.png" for i in range(25)]


def _picture_names(shard: Path) -> list[str]:
    if shard.suffix == ".parquet":
        import pyarrow.parquet as pq

        return [image["path"] for image in pq.read_table(shard)["image"].to_pylist()]
    if shard.suffix == ".tar":
        with tarfile.open(shard) as archive:
            return [name for name in archive.getnames() if name.endswith(".png")]
    return sorted(path.name for path in shard.glob("*.png"))


def test_datasets_reads_parquet_as_images_with_addresses(make: Any, expected: Expected, tmp_path: Path):
    import datasets

    folder = make("tiny-cgan", format="parquet", labels="drawn", n=2500, shard_size=2000)
    files = str(folder / "*.parquet")
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["image", "seed", "index", "label"] and len(found) == 2500
    assert found.features["label"].names == [str(digit) for digit in range(10)]
    labels = list(found["label"])
    assert set(labels) == set(range(10))
    right = expected("tiny-cgan", n=2500, seed=7, start=3, labels=labels)
    assert all(np.array_equal(np.asarray(found[i]["image"]), right[i, ..., 0]) for i in (0, 1, 1023, 1024, 1999, 2499))
    assert list(found["index"]) == list(range(3, 2503)) and set(found["seed"]) == {7}
    found.cleanup_cache_files()


def test_parquet_without_classes_has_no_labels_and_64_bits(make: Any):
    import pyarrow.parquet as pq

    top = 2**64 - 1
    table = pq.read_table(make("tiny-dcgan", format="parquet", n=3, seed=top, start=top - 2) / "shard-000000.parquet")
    assert table["label"].null_count == 3
    assert table["seed"].to_pylist() == [top] * 3 and table["index"].to_pylist() == [top - 2, top - 1, top]


def test_npy_is_the_pixels_and_the_labels(make: Any, expected: Expected):
    folder = make("tiny-cgan", format="npy")
    names = [f"shard-{i:06}" for i in range(3)]
    found = np.concatenate([np.load(folder / f"{name}.npy") for name in names])
    labels = np.concatenate([np.load(folder / f"{name}.labels.npy") for name in names])
    assert labels.tolist() == [index % 10 for index in range(3, 28)]
    assert np.array_equal(found, expected("tiny-cgan", n=25, seed=7, start=3))


def test_files_are_a_folder_of_pictures_that_datasets_reads(make: Any, expected: Expected, tmp_path: Path):
    import datasets

    folder = make("tiny-style", format="files")
    right = expected("tiny-style", n=25, seed=7, start=3)
    for i in (0, 9, 10, 24):
        path = folder / f"shard-{i // 10:06}" / f"{3 + i:012}.png"
        assert np.array_equal(pictures.decode(path.read_bytes()), right[i])
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(folder / "shard-000001"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert list(found["index"]) == list(range(13, 23))
    assert np.array_equal(np.asarray(found[2]["image"]), right[12])


def test_a_lossless_shard_is_the_same_images_in_every_format(make: Any, expected: Expected):
    folder = make("tiny-style", image="webp", format="files", truncation=0.7)
    right = expected("tiny-style", n=25, seed=7, start=3, truncation=0.7)
    with Image.open(folder / "shard-000002" / f"{27:012}.webp") as image:
        assert np.array_equal(np.asarray(image), right[24])
