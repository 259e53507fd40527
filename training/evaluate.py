"""Metrics of an exported model, measured on its ONNX files through the engine that serves them.

Inception features are dear on a CPU, so they are kept as they are computed: an evaluation that was stopped goes on.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from serving.engine.latents import address_range, latents
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training import card, data, metrics

SEED = 1_000_003  # of the pictures that are measured; far from the small seeds that people look at
KEEP_EVERY = 250  # pictures between two writes of the features
INCEPTION_BATCH = 25
JUDGED_PER_CLASS = 1000


def evaluate(
    folder: Path,
    data_folder: Path,
    *,
    samples: int = 10_000,
    reference: int = 10_000,
    inception: Path | None = None,
    judge: Path | None = None,
    device: torch.device | str,
) -> list[dict[str, Any]]:
    """Measures the model in `folder` and writes the figures into its model.json and README.md."""
    runtime = Runtime(load_model(folder))
    document = runtime.model.document
    name, resolution = document["training"]["recipe"]["data"]["name"], document["image"]["height"]
    found = []
    if judge and name == "mnist":
        found += judge_metrics(runtime, judge, JUDGED_PER_CLASS)
    found.append(_fid(runtime, name, resolution, data_folder, samples, reference, inception, device))
    document["metrics"] = found
    partial = folder / "model.json.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(folder / "model.json")
    card.write(folder)
    return found


def generate(runtime: Runtime, start: int, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pictures at addresses (SEED, start ..) -> (n, H, W, C) uint8, and their labels: the classes in turn."""
    classes = runtime.model.classes
    labels = np.arange(start, start + n) % len(classes) if classes else None
    return runtime.generate(latents(address_range(SEED, start, n), runtime.model.latent_size), labels), labels


def judge_metrics(runtime: Runtime, judge: Path, per_class: int) -> list[dict[str, Any]]:
    """What a digit classifier reads in the pictures: as asked of a conditional model, else which digits there are."""
    read = digit_reader(judge)
    n = per_class * 10
    pictures, asked = generate(runtime, 0, n)
    predicted = read(pictures)
    if asked is None:
        return [
            {
                "name": "smallest_class_share",
                "value": metrics.smallest_class_share(predicted, 10),
                "protocol": f"rarest digit among {n:,} pictures, as the judge reads them; 100 % is an even share",
                "samples": n,
                "reference": judge.name,
            }
        ]
    by_class = metrics.accuracy_by_class(predicted, asked, runtime.model.classes or ())
    protocol = f"{judge.name} reads {per_class:,} pictures of each class"
    common = {"protocol": protocol, "samples": n, "reference": judge.name}
    return [
        {"name": "judge_accuracy", "value": float(np.mean(predicted == asked)), **common, "by_class": by_class},
        {"name": "judge_worst_class", "value": min(by_class.values()), **common},
    ]


def digit_reader(judge: Path) -> Callable[[np.ndarray], np.ndarray]:
    """An ONNX digit classifier of one 28 x 28 picture in 0 .. 255 -> a function (N, 28, 28, 1) uint8 -> (N,) digits."""
    session = onnxruntime.InferenceSession(judge.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def read(pictures: np.ndarray) -> np.ndarray:
        planes = pictures.transpose(0, 3, 1, 2).astype(np.float32)  # (N, 1, 28, 28)
        return np.array([np.asarray(session.run(None, {name: plane[None]})[0]).argmax() for plane in planes])

    return read


def _fid(
    runtime: Runtime,
    name: str,
    resolution: int,
    data_folder: Path,
    samples: int,
    reference: int,
    inception: Path | None,
    device: torch.device | str,
) -> dict[str, Any]:
    import torch_fidelity

    test = data.load(name, data_folder, resolution, "test", count=reference)
    cache = data_folder / "features"
    cache.mkdir(parents=True, exist_ok=True)
    extract = inception_extractor(inception, device)

    def real(start: int, n: int) -> np.ndarray:
        return test.images[start : start + n].permute(0, 2, 3, 1).numpy()

    real_path = cache / f"{name}-{resolution}-test.npy"
    fake_path = cache / f"{runtime.model.id}-{runtime.model.sha256[:16]}.npy"
    b = features(real, len(test), extract, real_path, f"{name}, test")
    a = features(lambda start, n: generate(runtime, start, n)[0], samples, extract, fake_path, runtime.model.id)
    return {
        "name": "fid",
        "value": metrics.fid(a, b),
        "protocol": (
            f"Inception-v3 (2015-12-05), 2048 features, torch-fidelity {torch_fidelity.__version__}, "
            f"{'grey repeated to RGB, ' if test.channels == 1 else ''}{samples:,} pictures against "
            f"{len(test):,} of the test set, {resolution} px"
        ),
        "samples": samples,
        "reference": f"{test.source.name} test, first {len(test)}",
    }


def inception_extractor(inception: Path | None, device: torch.device | str) -> Callable[[np.ndarray], np.ndarray]:
    """Pictures (N, H, W, C) uint8 -> Inception features (N, 2048) float32. No path: torch-fidelity downloads them."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    weights = str(inception) if inception else None
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=weights)
    network = network.to(memory_format=torch.channels_last).to(device).eval()  # 1.4 times faster on a CPU

    @torch.no_grad()
    def extract(pictures: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(device)
        return network(batch.expand(-1, 3, -1, -1))[0].cpu().numpy()

    return extract


def features(
    pictures: Callable[[int, int], np.ndarray],
    n: int,
    extract: Callable[[np.ndarray], np.ndarray],
    path: Path,
    label: str,
) -> np.ndarray:
    """Features of pictures 0 .. n-1 -> (n, 2048), kept in `path` as they come, and taken from there."""
    kept = np.load(path) if path.exists() else np.empty((0, 2048), np.float32)
    with tqdm(total=n, initial=min(len(kept), n), unit="img", desc=f"Inception features: {label}") as bar:
        while len(kept) < n:
            fresh = []
            stop = min(n, len(kept) + KEEP_EVERY)
            for start in range(len(kept), stop, INCEPTION_BATCH):
                fresh.append(extract(pictures(start, min(INCEPTION_BATCH, stop - start))))
                bar.update(len(fresh[-1]))
            kept = np.concatenate([kept, *fresh])
            partial = path.with_suffix(".partial.npy")
            np.save(partial, kept)
            partial.replace(path)
    return kept[:n]
