"""What lies elsewhere is the same as what lies here, and nothing is ever seen half-written."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from directories import contents
from server import ROOT
from serving.bulk.engines import Local
from serving.bulk.errors import BulkError
from serving.bulk.job import Job, plan
from serving.bulk.run import generate
from serving.bulk.sources import LocalSource
from serving.bulk.storage import Store
from serving.bulk.worker import Worker


class Watched(MemoryFileSystem):
    """Not this machine's disk, and no rename: a move is a copy. Notes every name that was written to, in order."""

    protocol = "watched"
    store: dict[str, Any] = {}  # noqa: RUF012 - its parent's own way
    pseudo_dirs = [""]  # noqa: RUF012
    written: list[str] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(path.replace("watched://", "memory://"))

    def _open(self, path: str, *arguments: Any, **options: Any) -> Any:
        if "w" in [*arguments, options.get("mode", "rb")][0]:
            self.written.append(path)
        return super()._open(path, *arguments, **options)

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self.written.append(path2)
        super().cp_file(path1, path2, **options)


@pytest.fixture
def elsewhere() -> Iterator[Watched]:
    fsspec.register_implementation("watched", Watched, clobber=True)
    Watched.written.clear()
    yield Watched()
    Watched.store.clear()
    Watched.pseudo_dirs[:] = [""]


def make(job: Job, store: Store, folder: Path, *, verify: bool = False) -> Any:
    """In this process, whose memory the store is."""

    def engine(job: Job, shards: Any, store: Store) -> Any:
        worker = Worker(job, LocalSource(folder), store)
        yield from (worker.make(shard) for shard in shards)

    return generate(job, store, engine, verify=verify)


def job(folder: Path, format: str) -> Job:
    return plan(Local(folder).subject, n=50, seed=7, shard_size=20, format=format)


@pytest.mark.parametrize("format", ["webdataset", "parquet", "npy", "files"])
def test_a_store_elsewhere_holds_what_a_folder_here_does(
    repository_folder: Path, tmp_path: Path, elsewhere: Watched, format: str
):
    model = repository_folder / "tiny-cgan"
    make(job(model, format), Store(str(tmp_path)), model)
    outcome = make(job(model, format), Store("watched://bucket/set"), model)
    assert outcome.made == 3 and outcome.whole
    found = {path.removeprefix("/bucket/set/"): elsewhere.cat_file(path) for path in elsewhere.find("/bucket/set")}
    assert found == contents(tmp_path)
    again = make(job(model, format), Store("watched://bucket/set"), model)
    assert (again.made, again.kept) == (0, 3)


def test_elsewhere_a_file_has_another_name_until_it_is_whole(repository_folder: Path, elsewhere: Watched):
    model = repository_folder / "tiny-cgan"
    make(job(model, "webdataset"), Store("watched://bucket/set"), model)
    shards = [name for name in elsewhere.written if name.endswith(".tar")]
    assert shards == [f"/bucket/set/shard-{i:06}.tar" for i in range(3)], "each once, by a move"
    uploads = [name for name in elsewhere.written if "/_ganymede/staging/" in name]
    assert len(uploads) == 8, "settings, three shards, their statistics, the manifest"
    places = [elsewhere.written.index(f"/bucket/set/shard-{i:06}.tar") for i in range(3)]
    notes = [elsewhere.written.index(f"/bucket/set/_ganymede/shards/shard-{i:06}.json") for i in range(3)]
    assert all(place < note for place, note in zip(places, notes, strict=True)), "the statistics come after the shard"
    assert elsewhere.written[-1] == "/bucket/set/manifest.json"


def test_no_two_uploads_have_one_name(elsewhere: Watched):
    """Nor of two machines, whose processes may have one number."""
    for _ in range(2):
        Store("watched://bucket/set").write("manifest.json", b"{}")
    uploads = [name for name in elsewhere.written if "/_ganymede/staging/" in name]
    assert len(set(uploads)) == 2


def test_an_object_store_is_given_each_object_once(repository_folder: Path, elsewhere: Watched, monkeypatch: Any):
    monkeypatch.setattr("serving.bulk.storage.OBJECT_STORES", {"watched"})
    model = repository_folder / "tiny-cgan"
    make(job(model, "webdataset"), Store("watched://bucket/set"), model)
    assert len(elsewhere.written) == len(set(elsewhere.written)) == 8
    assert not [name for name in elsewhere.written if "staging" in name]


def test_what_is_damaged_elsewhere_is_found_and_made_again(repository_folder: Path, elsewhere: Watched):
    model = repository_folder / "tiny-cgan"
    store = Store("watched://bucket/set")
    make(job(model, "files"), store, model)
    before = {path: elsewhere.cat_file(path) for path in elsewhere.find("/bucket/set")}
    elsewhere.pipe_file("/bucket/set/shard-000001/000000000023.png", b"no image")
    elsewhere.rm("/bucket/set/shard-000002", recursive=True)
    outcome = make(job(model, "files"), store, model, verify=True)
    assert outcome.damaged == ("shard-000001",) and (outcome.made, outcome.kept) == (2, 1)
    assert {path: elsewhere.cat_file(path) for path in elsewhere.find("/bucket/set")} == before


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_of_two_that_begin_at_once_one_is_told(repository_folder: Path, tmp_path: Path, elsewhere: Watched, place: str):
    model = repository_folder / "tiny-cgan"
    url = {"here": str(tmp_path), "elsewhere": "watched://bucket/set"}[place]

    class Slow(Store):
        """Another run begins between its look and its word."""

        def create(self, name: str, data: bytes) -> None:
            super().create(name, data.replace(b'"seed": 7', b'"seed": 8'))
            super().create(name, data)

    with pytest.raises(BulkError, match="has other settings: `seed` was 8 and is 7"):
        make(job(model, "npy"), Slow(url), model)


@pytest.mark.parametrize("damage", ["{", "[1, 2]", "[]", "null", "{}"])
def test_damaged_settings_are_named_and_without_them_it_resumes(repository_folder: Path, tmp_path: Path, damage: str):
    model, store = repository_folder / "tiny-cgan", Store(str(tmp_path))
    make(job(model, "npy"), store, model)
    before = contents(tmp_path)
    (tmp_path / "_ganymede" / "settings.json").write_text(damage)
    with pytest.raises(BulkError, match=r"_ganymede/settings.json is damaged; delete it and run again"):
        make(job(model, "npy"), store, model)
    (tmp_path / "_ganymede" / "settings.json").unlink()
    assert make(job(model, "npy"), store, model).kept == 3
    assert contents(tmp_path) == before


def test_shards_of_another_job_are_not_taken_for_this_ones(repository_folder: Path, tmp_path: Path):
    """Whatever the settings have come to say: their numbers, ranges and, of bare pixels, sizes are the same."""
    model = repository_folder / "tiny-cgan"
    seven = job(model, "npy")
    eight = replace(seven, seed=8)
    for each in (seven, eight):
        make(each, Store(str(tmp_path / str(each.seed))), model)
    shutil.copy(tmp_path / "8" / "_ganymede" / "settings.json", tmp_path / "7" / "_ganymede")
    assert make(eight, Store(str(tmp_path / "7")), model).made == 3
    assert contents(tmp_path / "7") == contents(tmp_path / "8")


@pytest.mark.parametrize("name", ["manifest.json", "shard-000000.tar", "shard-000000/image.png", "shard-9.zip"])
def test_a_folder_that_holds_others_files_is_rejected(repository_folder: Path, tmp_path: Path, name: str):
    model = repository_folder / "tiny-cgan"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("somebody's")
    with pytest.raises(BulkError, match=f" contains {name.partition('/')[0]}, which is not part of this dataset"):
        make(job(model, "webdataset"), Store(str(tmp_path)), model)
    assert contents(tmp_path) == {name: b"somebody's"}


def test_other_files_are_left_alone(repository_folder: Path, tmp_path: Path):
    model = repository_folder / "tiny-cgan"
    (tmp_path / "README.md").write_text("somebody's")
    assert make(job(model, "webdataset"), Store(str(tmp_path)), model).whole
    assert (tmp_path / "README.md").read_text() == "somebody's"


def test_another_seed_is_rejected_though_settings_are_deleted(repository_folder: Path, tmp_path: Path):
    model, store = repository_folder / "tiny-cgan", Store(str(tmp_path))
    make(job(model, "webdataset"), store, model)
    (tmp_path / "_ganymede" / "settings.json").unlink()
    before = contents(tmp_path)
    with pytest.raises(BulkError, match=r" contains manifest.json, which is not part of this dataset"):
        make(replace(job(model, "webdataset"), seed=8), store, model)
    assert contents(tmp_path) == before


def test_what_an_equal_run_has_begun_meanwhile_is_no_strangers(repository_folder: Path, tmp_path: Path):
    model = repository_folder / "tiny-cgan"

    class Slow(Store):
        """Another run leaves a shard, without its statistics yet, before the first list."""

        def sizes(self) -> dict[str, int]:
            make(job(model, "npy"), Store(str(tmp_path)), model)
            shutil.rmtree(tmp_path / "_ganymede" / "shards")
            return super().sizes()

    assert make(job(model, "npy"), Slow(str(tmp_path)), model).whole


def test_an_empty_directory_name_is_told(generate: Any):
    assert "`out` is empty" in generate("tiny-dcgan", "--out", "", code=1).stderr


def test_a_machine_with_other_versions_is_told(repository_folder: Path, tmp_path: Path):
    model = repository_folder / "tiny-cgan"

    def engine(job: Job, shards: Any, store: Store) -> Any:
        with pytest.MonkeyPatch.context() as there:
            there.setattr("serving.bulk.job.__version__", "0.0.0")
            made = Worker(job, LocalSource(model), store).make(shards[0])
        yield made

    with pytest.raises(BulkError, match=r"shard-000000 was generated with other library versions than _ganymede"):
        generate(job(model, "npy"), Store(str(tmp_path)), engine)


@pytest.mark.parametrize("name", ["a[1]", "b::c", "d*e?"])
@pytest.mark.parametrize("format", ["npy", "files"])
def test_a_path_may_hold_any_signs(repository_folder: Path, tmp_path: Path, name: str, format: str):
    model, store = repository_folder / "tiny-cgan", Store(str(tmp_path / name))
    assert make(job(model, format), store, model).made == 3
    assert make(job(model, format), store, model, verify=True).kept == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_pattern_elsewhere_is_told(elsewhere: Watched):
    with pytest.raises(BulkError, match=r"`out` \(=watched://bucket/\[1\]\) contains one of"):
        Store("watched://bucket/[1]")


def test_only_what_the_dead_of_this_machine_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A process of another container of the same name lives, though its number is none here."""
    store, host = Store(str(tmp_path)), socket.gethostname()
    staging = tmp_path / "_ganymede" / "staging"
    dead = f"from serving.bulk.storage import *\nwith Store({store.url!r}).staging():\n os._exit(9)"
    assert subprocess.run([sys.executable, "-c", dead], cwd=ROOT, check=False).returncode == 9
    assert len(list(staging.iterdir())) == 1
    monkeypatch.setattr("os.getpid", lambda: 2**22 + 1)  # more than there can be
    with store.staging() as living:
        (staging / f"{host}.domain.{os.getpid()}.left").mkdir()
        Store(store.url).clean()
        assert {path.name for path in staging.iterdir()} == {living.name, f"{host}.domain.{os.getpid()}.left"}


def test_a_folder_cleaned_before_its_lock_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, mkdtemp = Store(str(tmp_path)), tempfile.mkdtemp
    made: list[str] = []

    def slow(**options: Any) -> str:
        made.append(mkdtemp(**options))
        if len(made) < 3:
            store.clean()
        return made[-1]

    monkeypatch.setattr("tempfile.mkdtemp", slow)
    with store.staging() as folder:
        assert str(folder) == made[2] and [Path(path).exists() for path in made] == [False, False, True]


def test_equal_folders_moved_at_once_do_not_hinder_each_other(tmp_path: Path):
    """Nor one that reads them meanwhile: at worst it finds them damaged."""
    store = Store(str(tmp_path))

    def put() -> None:
        for _ in range(20):
            with store.staging() as folder:
                (folder / "shard").mkdir()
                for i in range(20):
                    (folder / "shard" / str(i)).write_text("")
                store.commit(folder / "shard", "shard")

    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(put) for _ in range(4)]
        while not all(put.done() for put in puts):
            store.digest("shard")
        assert [put.result() for put in puts] == [None] * 4
    assert contents(tmp_path) == {f"shard/{i}": b"" for i in range(20)}


def test_a_store_that_nobody_knows_is_told():
    with pytest.raises(BulkError, match=r"`out` \(=nowhere://x\) cannot be reached"):
        Store("nowhere://x")


def test_a_folder_that_cannot_be_written_is_told(generate: Any, tmp_path: Path):
    (tmp_path / "file").write_text("")
    said = generate("tiny-dcgan", "-n", 5, "--seed", 7, "--out", tmp_path / "file" / "out", code=1)
    assert said.stderr.count("\n") == 1 and "cannot be read: Not a directory" in said.stderr
