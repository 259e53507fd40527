"""What the service counts of itself, as Prometheus reads it (text format 0.0.4).

Labels have few values, whatever is sent: routes are templates and unknown ones are "unknown", methods that nobody has
are "other". Several processes add up through `counters`; gauges are those of the processes that live. A request is
counted just before the last byte of its reply is sent, so whoever has a reply finds it counted.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from serving import __version__
from serving.api.counters import Counters
from serving.api.http.context import Exchange
from serving.engine.repository import Model

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)

FAMILIES = {  # name -> type and what it says
    "ganymede_requests_total": ("counter", "Requests answered, by route template, method and status."),
    "ganymede_request_seconds": ("histogram", "From a request's headers to the last byte of its reply, by route."),
    "ganymede_refused_requests_total": ("counter", "Requests answered with a problem, by its code."),
    "ganymede_requests_in_flight": ("gauge", "Requests under way."),
    "ganymede_images_total": ("counter", "Images in replies, by model."),
    "ganymede_queue_seconds": ("histogram", "From a request's arrival at a model to its first micro-batch, by model."),
    "ganymede_compute_seconds": ("histogram", "From a request's first micro-batch to its last image, by model."),
    "ganymede_batch_images": ("histogram", "Images in a micro-batch, by model."),
    "ganymede_batch_seconds_total": ("counter", "Seconds that micro-batches took, by model."),
    "ganymede_queue_images": ("gauge", "Images of requests that wait for a model or are computed, by model."),
    "ganymede_ready_workers": ("gauge", "Processes whose /readyz says yes."),
    "ganymede_model_info": ("gauge", "A model that is served."),
    "ganymede_info": ("gauge", "The version that runs."),
    "process_resident_memory_bytes": ("gauge", "Resident memory of all processes together."),
    "process_cpu_seconds_total": ("counter", "Processor time of the processes that live."),
    "process_open_fds": ("gauge", "Open file descriptors of all processes together."),
}
SAMPLES = ("_bucket", "_sum", "_count")  # of a histogram
PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class Histogram:
    """Counts of values up to each of `bounds`, their sum and their number.

    A value is counted at its own bound alone; `_cumulate` adds up what is below, as Prometheus wants it.
    """

    def __init__(self, counters: Counters, name: str, labels: str, bounds: tuple[float, ...]):
        self._counters = counters
        self._bounds = bounds
        self._buckets = [counters.slot(f'{name}_bucket{{{labels},le="{le}"}}') for le in (*map(_text, bounds), "+Inf")]
        self._sum = counters.slot(f"{name}_sum{{{labels}}}")
        self._count = counters.slot(f"{name}_count{{{labels}}}")

    def observe(self, value: float) -> None:
        self._counters.add_at(self._buckets[bisect_left(self._bounds, value)], 1)
        self._counters.add_at(self._sum, value)
        self._counters.add_at(self._count, 1)


class Metrics:
    """The numbers of this process, and those of the others that count in the same `folder`."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._histograms: dict[tuple[str, str], Histogram] = {}

    @cached_property
    def _counters(self) -> Counters:
        """Made by whoever counts first: the process that merely starts the workers counts nothing."""
        return Counters(self._folder)

    def began(self) -> None:
        self._counters.add("ganymede_requests_in_flight")

    def ended(self) -> None:
        self._counters.add("ganymede_requests_in_flight", -1)

    def answered(self, exchange: Exchange, route: str, seconds: float) -> None:
        method = exchange.method if exchange.method in METHODS else "other"
        labels = f'route="{route}",method="{method}",status="{exchange.status}"'
        self._counters.add(f"ganymede_requests_total{{{labels}}}")
        self._observe("ganymede_request_seconds", f'route="{route}"', SECONDS, seconds)
        if exchange.problem is not None:
            self.refused(exchange.problem.code)

    def refused(self, reason: str) -> None:
        self._counters.add(f'ganymede_refused_requests_total{{reason="{reason}"}}')

    def drawn(self, model: str, exchange: Exchange) -> None:
        self._counters.add(f'ganymede_images_total{{model="{model}"}}', exchange.images)
        self._observe("ganymede_queue_seconds", f'model="{model}"', SECONDS, exchange.times.queue)
        self._observe("ganymede_compute_seconds", f'model="{model}"', SECONDS, exchange.times.compute)

    def queued(self, model: str, images: int) -> None:
        """`images` more at a model, or fewer."""
        self._counters.add(f'ganymede_queue_images{{model="{model}"}}', images)

    def batch(self, model: str, images: int, seconds: float) -> None:
        """Called on the model's own thread."""
        self._observe("ganymede_batch_images", f'model="{model}"', IMAGES, images)
        self._counters.add(f'ganymede_batch_seconds_total{{model="{model}"}}', seconds)

    def ready(self, change: int) -> None:
        self._counters.add("ganymede_ready_workers", change)

    def render(self, models: Iterable[Model]) -> str:
        samples = self._sum()
        samples[f'ganymede_info{{version="{__version__}"}}'] = 1
        for model in models:
            labels = f'model="{model.id}",family="{model.family}",sha256="{model.sha256}"'
            samples[f"ganymede_model_info{{{labels}}}"] = 1
        return "".join(_lines(samples))

    def _observe(self, name: str, labels: str, bounds: tuple[float, ...], value: float) -> None:
        histogram = self._histograms.get((name, labels))
        if histogram is None:
            histogram = self._histograms[name, labels] = Histogram(self._counters, name, labels, bounds)
        histogram.observe(value)

    def _sum(self) -> dict[str, float]:
        samples: dict[str, float] = {}
        for pid, numbers in self._counters.processes():
            process = _process(pid)
            lives = process or pid == os.getpid()
            for sample, value in (numbers | process).items():
                if lives or FAMILIES[_family(sample)][0] != "gauge":
                    samples[sample] = samples.get(sample, 0) + value
        return _cumulate(samples)


def _cumulate(samples: dict[str, float]) -> dict[str, float]:
    """Each bucket of a histogram with those before it; they come in the order of their bounds."""
    sums: dict[str, float] = {}
    for sample, value in samples.items():
        histogram, bucket, _ = sample.partition(',le="')
        if bucket:
            samples[sample] = sums[histogram] = sums.get(histogram, 0) + value
    return samples


def _process(pid: int) -> dict[str, float]:
    """What Linux says of a process; nothing of one that is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5), from field 3 on
        return {
            "process_resident_memory_bytes": int(stat[21]) * PAGE,
            "process_cpu_seconds_total": (int(stat[11]) + int(stat[12])) / TICKS,
            "process_open_fds": len(os.listdir(f"/proc/{pid}/fd")),
        }
    except OSError:
        return {}


def _lines(samples: Mapping[str, float]) -> Iterator[str]:
    by_family: dict[str, list[str]] = {}
    for sample in samples:
        by_family.setdefault(_family(sample), []).append(sample)
    for family, (kind, text) in FAMILIES.items():
        if family in by_family:
            yield f"# HELP {family} {text}\n# TYPE {family} {kind}\n"
            yield from (f"{sample} {_text(samples[sample])}\n" for sample in by_family[family])


def _family(sample: str) -> str:
    name = sample.partition("{")[0]
    for suffix in SAMPLES:
        if name not in FAMILIES:
            name = name.removesuffix(suffix)
    return name


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
