"""ONNX Runtime sessions: latents in, uint8 pictures out. One place for CPU and CUDA.

On the CPU the bytes of a picture do not depend on the batch it was in or on the number of threads: a session computes
on one thread, and several threads take different pictures. Measured with ONNX Runtime 1.31 on an AMD EPYC (AVX-512):
on its own threads, the 1x1 -> 4x4 transposed convolution that begins a DCGAN gives other bits at 3, 5, 6, 7 or 8 of
them than at 1, because they cut its matrix product at other places. On one thread DCGAN, cGAN, MLP and mapping graphs
gave identical bits at 15 batch sizes from 1 to 128, and a synthesis graph at 12 from 1 to 32, so a batch of 1 needs no
padding. A batch gained nothing: one thread of a busy machine made 3039 DCGAN pictures a second at 1 and 2989 at 64.
"""

import ctypes
import logging
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
from serving.engine.onnx_file import has_external_data
from serving.engine.repository import Model

logger = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
MAX_BATCH = {CPU: 16, CUDA: 64}  # pictures in one run of a graph: bounds its memory


class Runtime:
    """A model, loaded and proved by a real inference. Its methods may be called from several threads at once.

    Raises ModelError where the graphs are not what model.json says. `threads`: how many pictures are computed at a
    time on the CPU; the affinity mask and cgroup quota unless given.
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
            logger.warning("%s: CUDA does not work, so the CPU is used: %s", model.id, _first_line(error))
            self.provider = CPU
            self._load()
        logger.info("%s: ready on %s, %d threads", model.id, self.provider, self.threads)

    def map(self, z: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """Style models: latents z (N, Z) and truncation psi (N, L), both float32 -> w (N, L, W) float32."""
        return self._run("mapping.onnx", {"z": z, "psi": psi})

    def synthesize(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The last graph: {"z"}, {"z", "label"} or {"w"}, each (N, ...) -> pictures (N, H, W, C) uint8."""
        images = self._run(GRAPHS[self.model.family][-1], inputs)  # (N, C, H, W)
        return np.ascontiguousarray(np.moveaxis(images, 1, -1))  # (N, H, W, C)

    def generate(
        self, z: np.ndarray, labels: Sequence[int] | np.ndarray | None = None, psi: np.ndarray | None = None
    ) -> np.ndarray:
        """All graphs: latents z (N, Z) float32 -> pictures (N, H, W, C) uint8, for any N.

        labels (N,): class indices; conditional models need them and others have none. psi (L,) or (N, L) float32:
        truncation strengths of a style model, 1 unless given. Raises ValueError where the model takes no such thing.
        """
        if (labels is None) != (self.model.classes is None):
            raise ValueError(f"{self.model.id}: `labels` must be given for a conditional model, and only for one.")
        if self.model.style is not None:
            psi = np.ones(1, np.float32) if psi is None else psi
            return self.synthesize({"w": self.map(z, np.broadcast_to(psi, (len(z), self.model.style.layers)))})
        if psi is not None:
            raise ValueError(f"{self.model.id}: `psi` is for style models.")
        return self.synthesize({"z": z} if labels is None else {"z": z, "label": np.asarray(labels, np.int64)})

    def _load(self) -> None:
        """Opens the sessions, and proves each by a real inference at two batch sizes."""
        self._sessions = {name: self._open(name) for name in GRAPHS[self.model.family]}
        for name, session in self._sessions.items():
            expected = signature(self.model, name)
            for n in (1, 3):
                zeros = {key: np.zeros((n, *tensor.shape), tensor.dtype) for key, tensor in expected.inputs.items()}
                try:
                    found = _compute(session, expected.output, zeros).shape
                except Exception as error:
                    raise graph_error(self.model, name, f"fails at batch {n}: {_first_line(error)}") from error
                right = (n, *expected.result.shape)
                if found != right:
                    raise graph_error(self.model, name, f"gives `{expected.output}` as {found} and not as {right}.")

    def _open(self, name: str) -> onnxruntime.InferenceSession:
        data = self.model.read(name)  # the very bytes that were hashed: a file can change between two readings
        try:
            external = has_external_data(data)
        except ValueError as error:
            raise graph_error(self.model, name, f"is not an ONNX model: it {error}.") from None
        if external:
            raise graph_error(self.model, name, "keeps weights in another file, which no sha256 covers.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal only: an error is raised, and so said once
        # Heuristic search: the exhaustive one costs 0.6 s at each new batch size. TF32 would keep 10 bits of 23.
        cuda = [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})] if self.provider == CUDA else []
        try:
            session = onnxruntime.InferenceSession(data, options, providers=[*cuda, CPU])
        except Exception as error:
            raise graph_error(self.model, name, f"cannot be loaded: {_first_line(error)}") from error
        if session.get_providers()[0] != self.provider:
            raise RuntimeError(f"ONNX Runtime gave {session.get_providers()[0]}")
        check_signature(self.model, name, session)
        return session

    def _run(self, name: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """One graph on N rows, in pieces of at most MAX_BATCH that as many threads as there are take in turn."""
        session, expected = self._sessions[name], signature(self.model, name)
        n = len(next(iter(inputs.values())))
        output = np.empty((n, *expected.result.shape), expected.result.dtype)
        workers = self.threads if self.provider == CPU else 1
        todo = deque(_pieces(n, workers, MAX_BATCH[self.provider]))

        def work() -> None:
            while True:
                try:
                    piece = todo.popleft()  # atomic
                except IndexError:
                    return
                rows = {key: array[piece] for key, array in inputs.items()}
                if self.provider == CUDA:
                    rows = _pad_to_power_of_two(rows)
                output[piece] = _compute(session, expected.output, rows)[: piece.stop - piece.start]

        others = [self._pool.submit(work) for _ in range(min(workers, len(todo)) - 1)]
        work()  # the calling thread is a worker too, so a single picture meets no pool
        for other in others:
            other.result()
        return output


def _compute(session: onnxruntime.InferenceSession, output: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return cast(np.ndarray, session.run([output], inputs)[0])


def _pieces(n: int, workers: int, most: int) -> list[slice]:
    """0 to n in slices of nearly equal length, at most `most`, and where n allows as many for each worker."""
    rounds = -(-n // (workers * most))
    count = min(n, rounds * workers)
    return [slice(n * i // count, n * (i + 1) // count) for i in range(count)]


def _pad_to_power_of_two(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Repeats the last row: CUDA chooses its algorithms anew at each batch size, so let there be few."""
    n = len(next(iter(rows.values())))
    padding = (1 << (n - 1).bit_length()) - n
    return {name: np.concatenate([array, np.repeat(array[-1:], padding, axis=0)]) for name, array in rows.items()}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@cache
def _cuda_present() -> bool:
    """Whether ONNX Runtime has CUDA built in and the machine its driver; without one, asking logs errors in vain."""
    if CUDA not in onnxruntime.get_available_providers():
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    onnxruntime.preload_dlls()  # CUDA and cuDNN from the nvidia packages, where those are installed
    return True
