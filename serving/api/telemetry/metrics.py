"""Metrics for Prometheus, through prometheus_client; with several workers in its multiprocess mode.

Label values are few, whatever is sent: routes are templates, unknown routes are "unknown", unknown methods "other".
Names and labels are a contract with the dashboards and alerts in `deploy/`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from serving import __version__
from serving.api.http.context import RequestContext
from serving.engine.repository import Model

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)
SUMMED = {"process_resident_memory_bytes", "process_cpu_seconds", "process_open_fds"}
FILE_BYTES = 2**20  # the initial size of prometheus_client's files

disable_created_metrics()


class Metrics:
    """The metrics of this process; `render` adds those of the other processes that share the folder.

    Raises OSError where the folder has no space.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._folder = Path(folder) if (folder := os.environ.get(FOLDER)) else None
        if self._folder is not None:
            _allocate(self._folder)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._requests = self._counter(
            "ganymede_requests_total", "Requests answered, by route template, method and status.", "route method status"
        )
        self._request_seconds = self._histogram(
            "ganymede_request_seconds", "Time from the headers of a request to the last byte of its reply.", "route"
        )
        self._rejected = self._counter(
            "ganymede_refused_requests_total", "Requests answered with a problem, by its code.", "reason"
        )
        self._in_flight = self._gauge("ganymede_requests_in_flight", "Requests in flight.")
        self._images = self._counter("ganymede_images_total", "Images in replies, by model.", "model")
        self._queue_seconds = self._histogram(
            "ganymede_queue_seconds", "Time from a request's arrival at a model to its first micro-batch.", "model"
        )
        self._compute_seconds = self._histogram(
            "ganymede_compute_seconds", "Time from a request's first micro-batch to its last image.", "model"
        )
        self._batch_images = self._histogram("ganymede_batch_images", "Images in a micro-batch.", "model", IMAGES)
        self._batch_seconds = self._counter("ganymede_batch_seconds_total", "Time spent in micro-batches.", "model")
        self._queued = self._gauge("ganymede_queue_images", "Images of requests that wait or are computed.", "model")
        self._ready = self._gauge("ganymede_ready_workers", "Processes whose /readyz answers 200.")

    def count_in_flight(self, change: int) -> None:
        self._in_flight.inc(change)

    def answered(self, context: RequestContext, route: str, seconds: float) -> None:
        """Count a request whose reply ends; an observer of `ContextMiddleware`."""
        method = context.method if context.method in METHODS else "other"
        self._child(self._requests, route, method, str(context.status)).inc()
        self._child(self._request_seconds, route).observe(seconds)
        if context.problem is not None:
            self._child(self._rejected, context.problem.code).inc()

    def generated(self, model: str, context: RequestContext) -> None:
        """Count the images of a reply."""
        self._child(self._images, model).inc(context.images)
        self._child(self._queue_seconds, model).observe(context.times.queue)
        self._child(self._compute_seconds, model).observe(context.times.compute)

    def queued(self, model: str, images: int) -> None:
        """Count `images` that arrive at a model's queue, or leave it where negative."""
        self._child(self._queued, model).inc(images)

    def batch(self, model: str, images: int, seconds: float) -> None:
        """Count a micro-batch; called on the model's threads."""
        self._child(self._batch_images, model).observe(images)
        self._child(self._batch_seconds, model).inc(seconds)

    def ready(self, change: int) -> None:
        self._ready.inc(change)

    def render(self, models: Iterable[Model]) -> bytes:
        """Return the metrics of all processes in Prometheus' text format 0.0.4."""
        registry = CollectorRegistry()
        pids: list[int | str] = ["self"]
        if self._folder is not None:
            pids = []
            for pid in _processes(self._folder):
                if _lives(pid):
                    pids.append(pid)
                else:
                    with suppress(FileNotFoundError):  # another process has done it
                        mark_process_dead(pid, str(self._folder))
            MultiProcessCollector(registry, str(self._folder))
        registry.register(_Processes(pids))
        registry.register(_Info(models))
        own = b"" if self._folder is not None else generate_latest(self._registry)
        return own + generate_latest(registry)

    def _counter(self, name: str, text: str, labels: str = "") -> Counter:
        return Counter(name, text, labels.split(), registry=self._registry)

    def _gauge(self, name: str, text: str, labels: str = "") -> Gauge:
        return Gauge(name, text, labels.split(), registry=self._registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, text: str, labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(name, text, labels.split(), registry=self._registry, buckets=buckets)

    def _child(self, metric: Any, *labels: str) -> Any:
        """Return `metric.labels(*labels)`, which takes a lock and several calls, from a dictionary."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


class _Processes(Collector):
    """What prometheus_client reports of a process, summed over processes."""

    def __init__(self, pids: Sequence[int | str]):
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for pid in self._pids:
            for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():
                if family.name not in SUMMED:
                    continue
                if known := families.get(family.name):
                    total = known.samples[0].value + family.samples[0].value
                    known.samples[0] = known.samples[0]._replace(value=total)
                else:
                    families[family.name] = family
        yield from families.values()


class _Info(Collector):
    def __init__(self, models: Iterable[Model]):
        self._models = models

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("ganymede_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        served = GaugeMetricFamily("ganymede_model_info", "A served model.", labels=["model", "family", "sha256"])
        for model in self._models:
            served.add_metric([model.id, model.family, model.sha256], 1)
        yield from (info, served)


def _allocate(folder: Path) -> None:
    """Allocate this process's files, which prometheus_client would leave sparse: on a full disk, a write into the
    memory map of a sparse file ends the process (SIGBUS). Raises OSError."""
    for kind in ("counter", "histogram", "gauge_livesum"):
        path = folder / f"{kind}_{os.getpid()}.db"
        with path.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None


def _processes(folder: Path) -> set[int]:
    """Return the processes that have gauges in the folder."""
    return {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_livesum_*.db")}


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
