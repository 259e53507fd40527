"""Throughput and latency of the raw model without a server: the limit of every server."""

import time
from statistics import median
from threading import Thread

import numpy as np

from serving.engine.runtime import Runtime


def images_per_second(runtime: Runtime, seconds: float) -> float:
    """Return the images/s with one thread for each CPU core and batches of the best size, without latents and PNG."""
    z = np.random.default_rng(7).standard_normal((runtime.max_batch, runtime.model.latent_size), np.float32)
    ends, counts = time.perf_counter() + seconds, []

    def loop() -> None:
        count = 0
        while time.perf_counter() < ends:
            runtime.compute({"z": z})
            count += len(z)
        counts.append(count)

    threads = [Thread(target=loop) for _ in range(runtime.concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def latency(runtime: Runtime, seconds: float) -> float:
    """Return the median latency of one image in seconds."""
    z = np.random.default_rng(7).standard_normal((1, runtime.model.latent_size), np.float32)
    ends, times = time.perf_counter() + seconds, []
    while (began := time.perf_counter()) < ends:
        runtime.compute({"z": z})
        times.append(time.perf_counter() - began)
    return median(times)
