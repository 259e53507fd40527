"""ONNX Runtime sessions for CPU and CUDA: latents in, uint8 images out.

On the CPU the bytes of an image do not depend on its batch or on the number of threads: each session run uses one
thread, and different threads compute different images. Measured with ONNX Runtime 1.31 on an AMD EPYC (AVX-512): with
3, 5, 6, 7 or 8 intra-op threads, the first layer of a DCGAN (1x1 -> 4x4 transposed convolution) gives other bits than
with 1 thread, because the matrix product is split at other places. On one thread DCGAN, cGAN, MLP and mapping graphs
gave identical bits at 15 batch sizes from 1 to 128, and a synthesis graph at 12 from 1 to 32, so a batch of 1 needs no
padding. Batching did not increase throughput: 3039 images/s at batch 1 vs 2989 at 64 (DCGAN, one thread).
"""

import ctypes
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

import numpy as np
import onnxruntime

from serving.engine.cpus import available_cpus
from serving.engine.graphs import check_signature, graph_error, signature
from serving.engine.model_json import GRAPHS
from serving.engine.onnx_file import has_external_data, non_finite_weights, operators
from serving.engine.repository import Model

logger = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MAX_BATCH = {CPU: 16, CUDA: 64}  # images in one run of a graph ...
MAX_PIXELS = {CPU: 2**18, CUDA: 2**22}  # ... and their pixels; both limit memory
BATCHES = {CPU: (1, 3), CUDA: (1, 2, 4, 8, 16, 32, 64)}  # tested at start-up; CUDA uses no others
RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"
}  # fmt: skip
MAYBE_RANDOM = {"BatchNormalization", "Dropout"}  # if they are in training mode
DEVICE = {CPU: "cpu", CUDA: "cuda"}
CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive search costs 0.6 s at each new batch size
    "use_tf32": "0",  # TF32 keeps 10 of 23 mantissa bits
    "arena_extend_strategy": "kSameAsRequested",  # the default may allocate twice the needed memory
}


class Runtime:
    """Loaded model, verified by a real inference. Its methods are thread-safe.

    Raises ModelError if the graphs do not match model.json. `threads`: number of images computed at a time on the CPU;
    default: the CPU cores of the affinity mask and cgroup quota.
    """

    def __init__(self, model: Model, *, threads: int | None = None):
        self.model = model
        self.threads = available_cpus() if threads is None else threads
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix=f"runtime-{model.id}")
        self.provider = CUDA if _cuda_present() else CPU
        try:
            self._load()
        except Exception as error:
            if self.provider == CPU:
                raise
            logger.warning("%s: CUDA failed, using the CPU: %s", model.id, _first_line(error))
            self.provider = CPU
            self._load()
        logger.info("%s: ready on %s, %d threads", model.id, self.provider, self.threads)

    @property
    def concurrency(self) -> int:
        """Number of concurrent calls of `compute` that increase throughput."""
        return self.threads if self.provider == CPU else 1

    @property
    def max_batch(self) -> int:
        """Maximum number of images of one `compute` call, a power of two."""
        pixels = self.model.image.height * self.model.image.width
        fitting = max(1, MAX_PIXELS[self.provider] // pixels)
        return min(MAX_BATCH[self.provider], 1 << fitting.bit_length() - 1)

    def compute(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Compute at most `max_batch` rows on the calling thread; otherwise as `synthesize`."""
        n = len(next(iter(inputs.values())))
        inputs = self.with_latents(inputs)
        if self.provider == CUDA:
            inputs = _pad_to_power_of_two(inputs)
        images = self._from_latents(inputs) if "psi" in inputs else self._run(GRAPHS[self.model.family][-1], inputs)
        return np.ascontiguousarray(images[:n].transpose(0, 2, 3, 1))  # (N, H, W, C)

    def with_latents(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the rows with "address" replaced by "z"."""
        if "address" not in inputs:
            return inputs
        others = {name: values for name, values in inputs.items() if name != "address"}
        return {"z": self.model.latents(inputs["address"]), **others}

    def synthesize(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Return the images (N, H, W, C) uint8 of N rows, N at least 1.

        "address" (N, 2) uint64, seed and index, or "z" (N, Z) float32; with it "label" (N,) int64 for a conditional
        model, and for a style model "psi" (N, L) float32 and optionally "edit" (N, L, W) float32, which is added to w.
        Or, for a style model, "w" (N, L, W) float32 alone.
        """
        n, spec = len(next(iter(inputs.values()))), self.model.image
        images = np.empty((n, spec.height, spec.width, spec.channels), np.uint8)
        todo = deque(_pieces(n, self.concurrency, self.max_batch))

        def work() -> None:
            while True:
                try:
                    piece = todo.popleft()  # atomic
                except IndexError:
                    return
                images[piece] = self.compute({name: values[piece] for name, values in inputs.items()})

        others = [self._pool.submit(work) for _ in range(min(self.concurrency, len(todo)) - 1)]
        work()  # the calling thread works too, so a single image does not use the pool
        for other in others:
            other.result()
        return images

    def map(self, z: np.ndarray, psi: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """Map latents z (N, Z) with truncation psi (N, L), both float32, to w (N, L, W) float32. For style models.

        label (N,) int64: class indices, for a conditional model.
        """
        rows, parts = {"z": z, "psi": psi} | ({} if label is None else {"label": label}), []
        for piece in _pieces(len(z), 1, self.max_batch):
            inputs = {name: values[piece] for name, values in rows.items()}
            if self.provider == CUDA:
                inputs = _pad_to_power_of_two(inputs)
            parts.append(self._run("mapping.onnx", inputs)[: piece.stop - piece.start])
        return np.concatenate(parts)

    def generate(
        self, z: np.ndarray, labels: Sequence[int] | np.ndarray | None = None, psi: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the images (N, H, W, C) uint8 of latents z (N, Z) float32, for any N.

        labels (N,): class indices, required for conditional models only. psi (L,) or (N, L) float32: truncation
        strengths of a style model, default 1. Raises ValueError if labels or psi do not fit the model.
        """
        if (labels is None) != (self.model.classes is None):
            raise ValueError(f"{self.model.id}: `labels` must be given for a conditional model, and only for one.")
        rows = {"z": z} if labels is None else {"z": z, "label": np.asarray(labels, np.int64)}
        if self.model.style is not None:
            psi = np.ones(1, np.float32) if psi is None else psi
            rows["psi"] = np.broadcast_to(psi, (len(z), self.model.style.layers))
        elif psi is not None:
            raise ValueError(f"{self.model.id}: `psi` is for style models.")
        return self.synthesize(rows)

    def _load(self) -> None:
        """Open the sessions and verify them by inference at several batch sizes, the smallest twice."""
        self._operators: set[str] = set()
        self._sessions = {name: self._open(name) for name in GRAPHS[self.model.family]}
        smallest, *others = [n for n in BATCHES[self.provider] if n <= self.max_batch]
        first = found = self._probe(smallest)
        repeats = [(smallest, "two runs of one input", 0 if self.provider == CPU else 1)]
        for n, what, tolerance in [*repeats, *((n, "two batches with one input", 1) for n in others)]:
            began = time.perf_counter()
            found = self._probe(n)
            self.seconds_per_image = (time.perf_counter() - began) / n  # of one thread; the last batch size is kept
            self._compare(first, found, what, tolerance=tolerance)
        name, images = list(found.items())[-1]
        if all(image.min() == image.max() for image in images):
            raise graph_error(self.model, name, f"gives constant images (all pixels are {images[0].min()}).")

    def _probe(self, n: int) -> dict[str, np.ndarray]:
        """Run the graphs in order on n rows that alternate between two addresses. Raises ModelError."""
        rows = np.arange(n) % 2
        addresses = np.stack([np.zeros(n, np.uint64), rows.astype(np.uint64)], axis=1)
        known = {"z": self.model.latents(addresses), "label": np.zeros(n, np.int64)}
        if self.model.style is not None:
            known["psi"] = np.ones((n, self.model.style.layers), np.float32)
        found: dict[str, np.ndarray] = {}
        for name in self._sessions:
            expected = signature(self.model, name)
            try:
                result = self._run(name, {key: known[key] for key in expected.inputs})
            except Exception as error:
                raise graph_error(self.model, name, f"fails at batch {n}: {_first_line(error)}") from error
            right = (n, *expected.result.shape)
            if result.shape != right:
                raise graph_error(self.model, name, f"gives `{expected.output}` as {result.shape}; it must be {right}.")
            if result.dtype != np.uint8 and not np.isfinite(result).all():
                raise graph_error(self.model, name, f"gives `{expected.output}` with non-finite values.")
            known[expected.output] = found[name] = result
        return found

    def _compare(
        self, first: dict[str, np.ndarray], second: dict[str, np.ndarray], what: str, *, tolerance: int
    ) -> None:
        """Raise ModelError if a graph gives different results for the same input. `tolerance`: levels of 255."""
        for name, results in first.items():
            right, found = results[0].astype(np.float32), second[name][::2].astype(np.float32)
            limit = tolerance if results.dtype == np.uint8 else tolerance * 1e-3 * max(1.0, float(np.abs(right).max()))
            if np.abs(found - right).max() > limit:
                having = ", ".join(sorted(self._operators & MAYBE_RANDOM))
                reason = f"gives {what} different results{having and f'; it contains {having}'}."
                raise graph_error(self.model, name, f"{reason} One address must give one image.")

    def _open(self, name: str) -> onnxruntime.InferenceSession:
        data = self.model.read(name)  # the bytes that were hashed; a second read could give others
        try:
            external, found, broken = has_external_data(data), operators(data), non_finite_weights(data)
        except ValueError as error:
            raise graph_error(self.model, name, f"is not an ONNX model: it {error}.") from None
        if external:
            raise graph_error(
                self.model, name, "has weights in an external file, which no sha256 covers. Export it as one file."
            )
        if random := ", ".join(sorted(found & RANDOM)):
            reason = f"contains the random operator {random}; export it with constant noise."
            raise graph_error(self.model, name, reason)
        if broken:
            reason = f"has non-finite weights: {', '.join(broken[:3])}{', ...' if broken[3:] else ''}."
            raise graph_error(self.model, name, reason)
        self._operators |= found
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        if self.max_batch == 1:  # at 1024 px: 0.8 GB less memory per thread between runs, 12 % more time
            options.enable_cpu_mem_arena = False
        options.log_severity_level = 4  # fatal only: errors are raised as exceptions
        cuda = [(CUDA, CUDA_OPTIONS)] if self.provider == CUDA else []
        try:
            session = onnxruntime.InferenceSession(data, options, providers=[*cuda, CPU])
        except Exception as error:
            raise graph_error(self.model, name, f"cannot be loaded: {_first_line(error)}") from error
        if session.get_providers()[0] != self.provider:
            raise RuntimeError(f"ONNX Runtime gave {session.get_providers()[0]}")
        check_signature(self.model, name, session)
        return session

    def _run(self, name: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return cast(np.ndarray, self._sessions[name].run(None, inputs)[0])  # each graph has one output

    def _from_latents(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Run both graphs of a style model. w stays on the GPU or in ONNX Runtime's memory, unless an edit is added."""
        mapping, synthesis = self._sessions["mapping.onnx"], self._sessions["synthesis.onnx"]
        first = mapping.io_binding()
        for name, values in inputs.items():
            if name == "edit":
                continue
            first.bind_cpu_input(name, np.ascontiguousarray(values))
        first.bind_output("w", DEVICE[self.provider])
        mapping.run_with_iobinding(first)
        second = synthesis.io_binding()
        if "edit" in inputs:
            second.bind_cpu_input("w", first.get_outputs()[0].numpy() + inputs["edit"])
        else:
            second.bind_ortvalue_input("w", first.get_outputs()[0])
        second.bind_output("image", "cpu")
        synthesis.run_with_iobinding(second)
        return cast(np.ndarray, second.get_outputs()[0].numpy())


def _pieces(n: int, workers: int, most: int) -> list[slice]:
    """Split 0 to n into slices of nearly equal length, at most `most`; if possible, the same number for each worker."""
    rounds = -(-n // (workers * most))
    count = min(n, rounds * workers)
    return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]


def _pad_to_power_of_two(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Repeat the last row. CUDA selects algorithms for each batch size, so few sizes are used."""
    n = len(next(iter(rows.values())))
    padding = (1 << (n - 1).bit_length()) - n
    return {name: np.concatenate([array, np.repeat(array[-1:], padding, axis=0)]) for name, array in rows.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@cache
def _cuda_present() -> bool:
    """Return True if ONNX Runtime includes CUDA and the driver is installed. Otherwise CUDA would only log errors."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    onnxruntime.preload_dlls()  # CUDA and cuDNN from the nvidia packages, where those are installed
    return True
