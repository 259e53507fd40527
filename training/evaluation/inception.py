"""Inception features of images, kept in files as they are computed.

They are dear on a CPU (80 ms an image on two cores of an AMD EPYC), so what was stopped goes on where it was, and what
two evaluations share is computed once.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from training import files
from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.errors import DataError

SIZE = 2048
BATCH = 100  # images at a time ...
CPU_BATCH = 25  # ... and of them on a CPU
KEEP_SECONDS = 15.0  # between two writes of the features

Pictures = Callable[[int, int], np.ndarray]  # (start, n) -> images start .. start+n-1, (n, H, W, C) uint8
Extract = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) uint8 -> features (N, 2048) float32


def extractor(weights: Path | None, device: torch.device | str) -> Extract:
    """Images (N, H, W, C) uint8 -> Inception features (N, 2048) float32, also on CUDA with no less than float32.

    No path: torch-fidelity downloads the weights.

    Raises DataError where it cannot, or the file is none.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = str(weights) if weights else None
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", [str(SIZE)], feature_extractor_weights_path=path)
    except Exception as error:  # torch and torch-fidelity raise whatever the file or the network did
        where = weights or "inception-2015-12-05.pth in the data folder"
        raise DataError(
            f"Inception's weights ({where}) cannot be read or downloaded: {error}; give a file with `--inception`."
        ) from error
    blocks: list[Any] = [module for module in network.eval().modules() if hasattr(module, "bn")]
    for block in blocks:
        block.conv, block.bn = fuse_conv_bn_eval(block.conv, block.bn), nn.Identity()  # 1.1 times faster on a CPU
    network = network.to(memory_format=torch.channels_last).to(device)  # 1.4 times faster on a CPU

    size = BATCH if torch.device(device).type == "cuda" else CPU_BATCH

    @torch.no_grad()
    def extract(pictures: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).split(size)
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            return np.concatenate([network(b.to(device).expand(-1, 3, -1, -1))[0].cpu().numpy() for b in batches])

    return extract


def protocol(channels: int) -> str:
    """What a figure that rests on these features says of them."""
    import torch_fidelity

    grey = ", grey repeated to RGB" if channels == 1 else ""
    return f"Inception-v3 (2015-12-05), {SIZE} features, torch-fidelity {torch_fidelity.__version__}{grey}"


def features(pictures: Pictures, n: int, extract: Extract, path: Path, label: str) -> np.ndarray:
    """Features of images 0 .. n-1 -> (n, 2048), kept in `path` as they come, and taken from there."""
    parts = [np.load(path) if path.exists() else np.empty((0, SIZE), np.float32)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=n, initial=min(len(parts[0]), n), unit="img", desc=f"Inception features: {label}") as bar:
        saved = time.monotonic()
        try:
            for start in range(len(parts[0]), n, BATCH):
                parts.append(extract(pictures(start, min(BATCH, n - start))))
                bar.update(len(parts[-1]))
                if time.monotonic() - saved > KEEP_SECONDS:
                    parts = _keep(parts, path)
                    saved = time.monotonic()
        finally:
            parts = _keep(parts, path)
    return parts[0][:n]


def _keep(parts: list[np.ndarray], path: Path) -> list[np.ndarray]:
    """Writes what has come since the first part, which is in the file already -> all of it as one part."""
    if len(parts) > 1:
        parts = [np.concatenate(parts)]
        files.write_npy(path, parts[0])
    return parts


def real_features(name: str, folder: Path, resolution: int, n: int, extract: Extract) -> np.ndarray:
    """Features of the first `n` test images of a dataset, or of as many as it has -> (n, 2048)."""
    return dataset_features(loaders.load(name, folder, resolution, "test", n), name, folder, n, extract)


def dataset_features(dataset: Dataset, name: str, folder: Path, n: int, extract: Extract) -> np.ndarray:
    """Features of the first `n` images of a dataset that loaders.load read from `folder`, or of all -> (n, 2048).

    Of a user's own set, which may be sorted by class, of `n` at even distances.
    """
    images = dataset.images
    n = min(n, len(images))
    resolution = images.shape[-1]
    if name in loaders.SOURCES:
        key = f"{name}-{resolution}-{dataset.split}"
    else:  # two folders may have one name, and either may change: the key is what is in the images
        images = images[torch.arange(n) * len(images) // n]
        key = f"{name}-{resolution}-{hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16]}"

    def pictures(start: int, count: int) -> np.ndarray:
        return images[start : start + count].permute(0, 2, 3, 1).numpy()

    return features(pictures, n, extract, cache_folder(name, folder) / f"{key}.npy", f"{name}, {dataset.split}")


def cache_folder(name: str, folder: Path) -> Path:
    """Where features are kept: in the data folder, or beside a user's own set."""
    return (folder if name in loaders.SOURCES else folder.parent) / "features"
