"""Features are kept as they come, under a name that says of what they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from training.datasets import loaders
from training.errors import DataError
from training.evaluation import inception

DATA = Path(__file__).parents[2] / "data"
INCEPTION = Path(__file__).parents[3] / "data" / "inception-2015-12-05.pth"


def means(pictures: np.ndarray) -> np.ndarray:
    """A stand-in for Inception: each image's mean, 2048 times."""
    return np.repeat(pictures.reshape(len(pictures), -1).mean(axis=1, dtype=np.float32)[:, None], 2048, axis=1)


def test_features_that_were_stopped_resume_and_end_the_same(tmp_path: Path):
    def pictures(start: int, n: int) -> np.ndarray:
        return np.arange(start, start + n, dtype=np.float32)

    def extract(failing_at: float) -> Callable[[np.ndarray], np.ndarray]:
        def extracted(batch: np.ndarray) -> np.ndarray:
            if batch[0] >= failing_at:
                raise KeyboardInterrupt
            seen.append(len(batch))
            return means(batch)

        return extracted

    seen: list[int] = []
    path = tmp_path / "cache" / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        inception.features(pictures, 600, extract(400), path, "test")
    assert len(np.load(path)) == 400
    seen.clear()
    found = inception.features(pictures, 600, extract(np.inf), path, "test")
    assert sum(seen) == 200  # what was kept was not computed again
    np.testing.assert_array_equal(found[:, 0], np.arange(600))
    assert len(inception.features(pictures, 100, extract(0), path, "test")) == 100  # nor is a part of it


def test_features_are_kept_while_others_are_still_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process that is killed leaves what its file held then."""
    monkeypatch.setattr(inception, "KEEP_SECONDS", 0.0)
    path = tmp_path / "features.npy"
    kept = []

    def pictures(start: int, n: int) -> np.ndarray:
        kept.append(len(np.load(path)) if path.exists() else 0)
        return np.zeros((n, 1), np.float32)

    inception.features(pictures, 250, means, path, "test")
    assert kept == [0, 100, 200]


def test_the_extractor_computes_with_cudnn_in_float32(monkeypatch: pytest.MonkeyPatch):
    class Probe(torch.nn.Module):
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()

        def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor]:
            seen.append((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32, len(batch)))
            return (batch.flatten(1).float(),)

    seen: list[tuple[bool, bool, int]] = []
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3", Probe)
    pictures = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    found = inception.extractor(None, "cpu")(pictures)
    assert seen == [(True, False, 25), (True, False, 25), (True, False, 10)]
    assert found[:, 0].tolist() == list(range(60))


def test_features_of_a_known_set_are_kept_by_name_size_split(tmp_path: Path):
    (tmp_path / "MNIST").symlink_to(DATA / "MNIST")
    found = inception.real_features("mnist", tmp_path, 14, 40, means)
    test = loaders.load("mnist", tmp_path, 14, "test")
    expected = test.images.reshape(64, -1).float().mean(dim=1).numpy()
    np.testing.assert_allclose(found[:, 0], expected[:40], rtol=1e-5)
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["mnist-14-test.npy"]
    assert len(inception.real_features("mnist", tmp_path, 14, 10_000, means)) == 64  # as many as there are


def test_features_of_a_users_set_follow_its_images(tmp_path: Path):
    """Two folders of one name, or one that has changed, never get each other's features."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for k in range(6):
        Image.new("L", (8, 8), 10 * k).save(folder / f"{k}.png")
    assert inception.real_features("folder", folder, 8, 3, means)[:, 0].tolist() == [0, 20, 40]  # of all, not the first
    Image.new("L", (8, 8), 250).save(folder / "4.png")
    assert inception.real_features("folder", folder, 8, 3, means)[:, 0].tolist() == [0, 20, 250]
    assert len(list((tmp_path / "features").glob("folder-8-*.npy"))) == 2
    assert sorted(path.name for path in folder.iterdir()) == [f"{k}.png" for k in range(6)]


@pytest.mark.skipif(not INCEPTION.is_file(), reason="the weights of Inception are not in data/")
def test_grey_images_have_the_features_of_their_rgb_copies():
    grey = loaders.load("mnist", DATA, 28, "test").images[:3].permute(0, 2, 3, 1).numpy()
    extract = inception.extractor(INCEPTION, "cpu")
    found = extract(grey)
    assert found.shape == (3, 2048) and found.dtype == np.float32 and found.std() > 0.1
    np.testing.assert_allclose(extract(np.repeat(grey[:1], 3, axis=3)), found[:1], atol=1e-4)


@pytest.mark.skipif(not INCEPTION.is_file(), reason="the weights of Inception are not in data/")
def test_features_are_torch_fidelitys_own():
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=INCEPTION)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures).permute(0, 3, 1, 2))[0].numpy()
    found = inception.extractor(INCEPTION, "cpu")(pictures)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_that_are_none_are_named(tmp_path: Path):
    path = tmp_path / "inception.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"Inception's weights \(.*inception.pth\) cannot be read or downloaded"):
        inception.extractor(path, "cpu")
