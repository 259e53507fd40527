"""Workers as Ray Data actors, on the cluster of RAY_ADDRESS or on a temporary cluster of this machine.

Each actor holds a session of the model, on a GPU if the cluster has one. The model's files are sent to the actors, so
nodes need only the `ray` extra. All nodes must be able to write to the directory, such as s3://bucket/folder.
"""

import logging
import os
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from serving.bulk.errors import BulkError
from serving.bulk.job import Job, Shard
from serving.bulk.sources import LocalSource
from serving.bulk.statistics import Statistics
from serving.bulk.storage import Store
from serving.bulk.worker import Worker
from serving.engine.repository import Model


class Maker:
    """State of an actor. Input rows are shard numbers; output rows are statistics documents or error texts."""

    def __init__(self, job: Job, url: str, files: list[Any]):
        """files: one reference to the model's files, in a list because Ray would resolve a bare reference too early."""
        import ray

        self._job = job
        self._folder = tempfile.TemporaryDirectory(prefix="ganymede-model-")
        contents: Any = ray.get(files[0])
        for name, data in contents.items():
            Path(self._folder.name, name).write_bytes(data)
        self._worker = Worker(job, LocalSource(Path(self._folder.name)), Store(url))

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[Any]]:
        statistics, errors = [], []
        for number in rows["shard"]:
            try:
                statistics.append(self._worker.make(self._job.shard(int(number))).document())
                errors.append("")
            except BulkError as error:  # Ray would retry after an exception and print its own traceback
                statistics.append(b"")
                errors.append(str(error))
        return {"statistics": statistics, "error": errors}


def run(job: Job, shards: Sequence[Shard], store: Store, model: Model, workers: int | None) -> Generator[Statistics]:
    """Generate all `shards` and yield the statistics of each when it is complete. Raises BulkError.

    workers: number of actors; default: the number of GPUs in the cluster, or else of CPU cores.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends usage statistics
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future default, without its warning
    try:
        import ray
        import ray.data
    except ImportError:
        raise BulkError("`engine ray` needs Ray; install the `ray` extra.") from None
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            # "local" prevents joining an existing cluster of this machine.
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BulkError(f"Ray cannot start (RAY_ADDRESS={address}): {error}") from error
    try:
        yield from _run(ray, job, shards, store, model, workers)
    finally:
        ray.shutdown()


def _run(
    ray: Any, job: Job, shards: Sequence[Shard], store: Store, model: Model, workers: int | None
) -> Generator[Statistics]:
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    resources = ray.cluster_resources()
    gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    document = {"model.json": (model.folder / "model.json").read_bytes()}
    files = ray.put(document | {name: model.read(name) for name in model.files})  # lives until the run ends
    count = min(workers or gpus or cpus, len(shards))
    rows = ray.data.from_items([{"shard": shard.number} for shard in shards], override_num_blocks=len(shards))
    made = rows.map_batches(
        Maker,
        fn_constructor_args=(job, store.url, [files]),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=count),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )
    for row in made.iter_rows():
        if row["error"]:
            raise BulkError(row["error"])
        statistics = Statistics.parse(row["statistics"])
        assert statistics is not None
        yield statistics
