"""`ganymede generate MODEL --out DIR`: a dataset from the command line."""

import argparse
import sys
from pathlib import Path

from serving.bulk import engines, run
from serving.bulk.errors import BulkError
from serving.bulk.estimate import estimate
from serving.bulk.job import SHARD_SIZE, Job, plan
from serving.bulk.progress import Bar, duration, size
from serving.bulk.storage import Store
from serving.engine.latents import draw_seed

IMAGES = "images"

Engine = engines.Local | engines.Servers | engines.Ray


def generate(args: argparse.Namespace, models: Path) -> int:
    """Generate, resume, verify or estimate a dataset, and print the result. Raises BulkError."""
    store = _store(_directory(args.out), args.format)
    engine = _engine(args.engine or ["local"], args.model, models, args.workers)
    begun = run.begun_with(store) or {}
    seed = args.seed if args.seed is not None else begun.get("seed")
    if seed is None and args.part:
        raise BulkError("`part` needs `seed`, the same for all parts.")
    job = plan(
        engine.subject,
        n=args.n,
        seed=draw_seed(engine.subject.latents, args.start + args.n - 1) if seed is None else seed,
        start=args.start,
        shard_size=args.shard_size or SHARD_SIZE,
        format=args.format or "webdataset",
        image=args.image,
        labels=args.labels,
        truncation=args.truncation,
        edits=args.edit,
    )
    if args.dry_run:
        _estimate(job, engine, store)
        return 0
    part = run.Part(*(args.part or ()))
    outcome = run.generate(job, store, engine, part=part, verify=args.verify, progress=Bar())
    _tell(job, store, outcome, verified=args.verify)
    return 0


def _engine(words: list[str], model: str, models: Path, workers: int | None) -> Engine:
    kind, *urls = words
    if kind == "server":
        if not urls:
            raise BulkError("`engine server` needs at least one server URL.")
        return engines.Servers(urls, model, workers=workers)
    if urls:
        raise BulkError(f"`engine {kind}` takes no arguments; found {' '.join(urls)}.")
    found = {"local": engines.Local, "ray": engines.Ray}.get(kind)
    if found is None:
        raise BulkError(f"`engine` (={kind}) must be local, server URL [URL ...], or ray.")
    if not (models / model).is_dir():
        there = ", ".join(sorted(path.parent.name for path in models.glob("*/model.json"))) or "none"
        raise BulkError(f"there is no model `{model}` in {models}; there are {there}.")
    return found(models / model, workers=workers)


def _directory(text: str) -> str:
    """Return a URL unchanged and a path as absolute, because workers may have another working directory."""
    if not text:
        raise BulkError("`out` is empty; give a folder or a URL.")
    return text if "://" in text else str(Path(text).absolute())


def _store(directory: str, format: str | None) -> Store:
    """Return the store of a dataset. The `files` format uses the subfolder `images`.

    `torchvision.datasets.ImageFolder` needs at least one folder, because each folder is a class. An existing dataset
    keeps its layout.
    """
    store, inner = Store(directory), Store(f"{directory.rstrip('/')}/{IMAGES}")
    inside = run.begun_with(store) is None and (format == "files" or run.begun_with(inner) is not None)
    return inner if inside else store


def _estimate(job: Job, engine: Engine, store: Store) -> None:
    found = estimate(job, engine.source())
    rate = found.images_per_second * engine.workers
    print(f"{store.url}: {found.images:,} images of {job.subject.id}, seed {job.seed}, in {found.shards:,} shards")
    print(f"about {size(found.bytes)}, as {job.format}{f' of {job.image}' if job.image else ''}")
    print(
        f"about {duration(found.images / rate)} on {engine.workers} workers: {found.images_per_second:,.0f} "
        f"images/s per worker, measured on {found.measured:,} images"
    )


def _tell(job: Job, store: Store, outcome: run.Outcome, *, verified: bool) -> None:
    for name in outcome.damaged:
        print(f"{name} was damaged and is generated again", file=sys.stderr)
    kept = f", {outcome.kept} {'verified' if verified else 'kept'}" if outcome.kept else ""
    what = f"{job.subject.id}, seed {job.seed}, index {job.start} to {job.start + job.n - 1}"
    end = "" if outcome.whole else "; other parts are not complete yet"
    print(f"{store.url}: {what}: {outcome.made} shards generated{kept}{end}")
