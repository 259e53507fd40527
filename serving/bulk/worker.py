"""Worker that generates shards one at a time. All engines use it."""

from serving.bulk import packing
from serving.bulk.errors import unwritable
from serving.bulk.job import Job, Shard
from serving.bulk.sources import Source
from serving.bulk.statistics import Statistics, Tally
from serving.bulk.storage import Store, digest


class Worker:
    def __init__(self, job: Job, source: Source, store: Store):
        self._job = job
        self._source = source
        self._store = store

    def make(self, shard: Shard) -> Statistics:
        """Generate a shard and its statistics. Raises BulkError and then leaves no files."""
        tally = Tally(self._job.subject.channels)
        try:
            with self._store.staging() as folder:
                writer = packing.writer(self._job, shard, folder)
                for batch in self._source.batches(self._job, shard):
                    writer.add(batch.start, batch.images, batch.labels)
                    tally.add(batch.images, batch.labels)
                writer.close()
                files = {name: digest(folder / name) for name in writer.files}
                statistics = Statistics(self._job.sha256, shard, files, tally)
                # Staged before the files are committed, so a full disk leaves no shard without statistics.
                (folder / "statistics").write_bytes(statistics.document())
                for name in writer.files:
                    self._store.commit(folder / name, name)
                self._store.commit(folder / "statistics", Statistics.name(shard))
        except OSError as error:
            raise unwritable(self._store.url, error) from error
        return statistics
