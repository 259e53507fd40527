"""Generate a dataset, from settings to manifest: keep complete shards and generate missing ones."""

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from serving.bulk.errors import BulkError, unwritable
from serving.bulk.job import Job, Shard
from serving.bulk.statistics import Statistics, manifest
from serving.bulk.storage import OWN, Store

SETTINGS = f"{OWN}/settings.json"
MANIFEST = "manifest.json"
CHECKS = 4  # files verified at a time

Engine = Callable[[Job, Sequence[Shard], Store], Generator[Statistics]]  # closing it ends its workers


class Part(NamedTuple):
    """Shards of one machine: machine `number` of `of` generates every `of`-th shard."""

    number: int = 0
    of: int = 1


@dataclass(frozen=True)
class Outcome:
    made: int  # shards generated
    kept: int  # shards that were complete
    damaged: tuple[str, ...]  # shards with wrong content, generated again
    whole: bool  # all shards and the manifest are complete


class Progress:
    """Receives progress; `progress.Bar` displays it."""

    def begin(self, job: Job, images: int, shards: int) -> None: ...
    def shard(self, statistics: Statistics) -> None: ...
    def end(self) -> None: ...


def begun_with(store: Store) -> dict[str, Any] | None:
    """Return the settings stored in a directory, None if there are none. Raises BulkError if they are unreadable."""
    try:
        text = store.read(SETTINGS)
        if text is None:
            return None
        match json.loads(text):
            case {"seed": int()} as found:
                return found
    except OSError as error:
        raise BulkError(f"{store.url} cannot be read: {error.strerror or error}.") from error
    except ValueError:
        pass
    raise BulkError(f"{store.url}: {SETTINGS} is damaged; delete it and run again with the original settings.")


def generate(
    job: Job,
    store: Store,
    engine: Engine,
    *,
    part: Part = Part(),  # noqa: B008 - a constant
    verify: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Generate the missing shards of `job` in `store`, with `verify` also damaged ones.

    The part that completes the dataset writes the manifest. Raises BulkError; the same call resumes.
    """
    try:
        return _generate(job, store, engine, part, verify, progress or Progress())
    except OSError as error:
        raise unwritable(store.url, error) from error


def _generate(job: Job, store: Store, engine: Engine, part: Part, verify: bool, progress: Progress) -> Outcome:
    _settle(job, store)
    store.clean()
    shards = [shard for shard in job.shards() if shard.number % part.of == part.number]
    there = _there(job, store, shards)
    damaged: list[str] = []
    if verify:
        damaged = _damaged(store, [there[number] for number in sorted(there)])
        there = {number: found for number, found in there.items() if found.shard.name not in damaged}
    todo = [shard for shard in shards if shard.number not in there]
    progress.begin(job, sum(shard.n for shard in todo), len(todo))
    kept = len(there)
    try:
        if todo:
            with closing(engine(job, todo, store)) as made:
                for statistics in made:
                    if statistics.job != job.sha256:
                        raise BulkError(
                            f"{statistics.shard.name} was generated with other library versions than {SETTINGS} lists; "
                            "install the listed versions on that machine."
                        )
                    there[statistics.shard.number] = statistics
                    progress.shard(statistics)
        # The last of several parts finds the shards of the others.
        whole = _finish(job, store, there if part.of == 1 else _there(job, store, job.shards()))
    finally:
        progress.end()
        store.clean()
    return Outcome(len(todo), kept, tuple(damaged), whole)


def _settle(job: Job, store: Store) -> None:
    """Store the settings in the directory, or resume if the stored settings are equal."""
    wanted = json.loads(json.dumps(job.settings()))
    found = begun_with(store)
    if found is None:
        stranger = _stranger(job, store)
        found = begun_with(store)  # another run may have stored its settings in the meantime
        if stranger and found is None:
            raise BulkError(
                f"{store.url} contains {stranger}, which is not part of this dataset; use another directory "
                "or the original settings."
            )
    if found is None:
        store.create(SETTINGS, (json.dumps(wanted, indent=1) + "\n").encode())
        found = begun_with(store) or {}
    differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if differing:
        told = "; ".join(
            f"`{name}` was {_shown(found.get(name))} and is {_shown(wanted.get(name))}" for name in differing
        )
        raise BulkError(f"{store.url} has other settings: {told}. Use the original settings or another directory.")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _stranger(job: Job, store: Store) -> str | None:
    """Return a file that conflicts with `job` in a directory without settings, or None."""
    ours = {name for statistics in _known(job, store) for name in statistics.files}
    taken = (name for name in sorted(store.sizes()) if name.startswith("shard-") or (name == MANIFEST and not ours))
    return next((name for name in taken if name not in ours), None)


def _known(job: Job, store: Store) -> Iterator[Statistics]:
    wanted = job.sha256
    for document in store.read_all(f"{OWN}/shards").values():
        found = Statistics.parse(document)
        if found is not None and found.job == wanted:
            yield found


def _there(job: Job, store: Store, shards: Sequence[Shard]) -> dict[int, Statistics]:
    """Return the statistics of complete shards by number. Checks job and file sizes; `verify` checks the content."""
    sizes = store.sizes()
    known = {
        found.shard: found
        for found in _known(job, store)
        if all(sizes.get(name) in (-1, digest.bytes) for name, digest in found.files.items())
    }
    return {shard.number: known[shard] for shard in shards if shard in known}


def _damaged(store: Store, shards: Sequence[Statistics]) -> list[str]:
    def check(statistics: Statistics) -> bool:
        return all(store.digest(name) == digest for name, digest in statistics.files.items())

    with ThreadPoolExecutor(CHECKS) as pool:
        sound = list(pool.map(check, shards))
    return [statistics.shard.name for statistics, good in zip(shards, sound, strict=True) if not good]


def _finish(job: Job, store: Store, there: dict[int, Statistics]) -> bool:
    """Write the manifest if all shards are complete. Return True if they are."""
    shards = job.shards()
    if not all(shard.number in there for shard in shards):
        return False
    text = manifest(job, [there[shard.number] for shard in shards])
    if store.read(MANIFEST) != text:
        store.write(MANIFEST, text)
    return True
