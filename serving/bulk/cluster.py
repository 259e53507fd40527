"""Workers as actors of Ray Data: on the cluster that RAY_ADDRESS names, or one of this machine for as long as it takes.

An actor holds the model's session, on a GPU where the cluster has any. The model's files travel with it, so nodes need
nothing but the `ray` extra; the directory must be one that all of them reach, such as s3://bucket/folder.
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
    """What an actor holds. A row is the number of a shard; out comes its statistics document, or an error's text."""

    def __init__(self, job: Job, url: str, files: list[Any]):
        """files: the one reference to the model's, in a list because Ray would look a bare one up too early."""
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
            except BulkError as error:  # an exception would be tried again, and shown as Ray shows them
                statistics.append(b"")
                errors.append(str(error))
        return {"statistics": statistics, "error": errors}


def run(job: Job, shards: Sequence[Shard], store: Store, model: Model, workers: int | None) -> Generator[Statistics]:
    """Makes all `shards`, giving each one's statistics as it is done. Raises BulkError.

    workers: actors; as many as the cluster has GPUs, or else processors, unless given.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray calls home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, without its warning
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
            # "local": or it would join whatever cluster this machine was last part of.
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BulkError(f"Ray does not start (RAY_ADDRESS={address}): {error}") from error
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
