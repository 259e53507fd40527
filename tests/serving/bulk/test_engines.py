"""The shards are the same bytes whichever engine made them, in whatever order, with however many workers."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from directories import contents, manifest
from fault_proxy import Fault, proxied
from processes import spawned
from server import Server
from serving.bulk import sources
from serving.bulk.engines import Local
from serving.bulk.errors import BulkError
from serving.bulk.job import Job, plan
from serving.bulk.sources import LocalSource, ServerSource, Source
from serving.bulk.storage import Store

FORMATS = ["webdataset", "parquet", "npy", "files"]


def job(format: str) -> list[object]:
    return ["tiny-cgan", "-n", 700, "--seed", 7, "--shard-size", 300, "--format", format, "--labels", "drawn"]


@pytest.mark.parametrize(
    "format", ["webdataset", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS[1:])]
)
def test_local_and_server_make_the_same_bytes(generate: Any, server: Server, tmp_path: Path, format: str):
    local, three, remote = (tmp_path / name for name in ("local", "three", "remote"))
    generate(*job(format), "--out", local, "--workers", 1)
    generate(*job(format), "--out", three, "--workers", 3)
    generate(*job(format), "--out", remote, "--engine", "server", server.url, server.url)
    found = contents(local)
    assert len([name for name in found if name.removeprefix("images/").startswith("shard-")]) >= 3
    assert found == contents(three) == contents(remote)


@pytest.mark.serial  # Ray gives its processes seconds to start
def test_ray_makes_the_same_bytes(generate: Any, tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    generate(*job("webdataset"), "--out", tmp_path / "local")
    generate(*job("webdataset"), "--out", tmp_path / "ray", "--engine", "ray", "--workers", 2, env=environment)
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_parts_made_anywhere_in_any_order_are_the_whole(generate: Any, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    generate(*job("webdataset"), "--out", whole)
    for part in ("2/3", "0/3"):
        said = generate(*job("webdataset"), "--out", parts, "--part", part)
        assert "other parts are not complete yet" in said.stdout and not (parts / "manifest.json").exists()
    generate(*job("webdataset"), "--out", parts, "--part", "1/3")
    assert contents(whole) == contents(parts)


def test_parts_need_a_seed_that_is_given_until_they_have_begun(generate: Any, tmp_path: Path):
    words = ["tiny-dcgan", "-n", 40, "--shard-size", 20, "--out", tmp_path / "out"]
    said = generate(*words, "--part", "0/2", code=1)
    assert "`part` needs `seed`, the same for all parts" in said.stderr and not (tmp_path / "out").exists()
    generate(*words, "--part", "0/2", "--seed", 7)
    generate(*words, "--part", "1/2")
    assert manifest(tmp_path / "out")["seed"] == 7


def test_a_shard_does_not_depend_on_the_range_it_is_cut_from(generate: Any, tmp_path: Path):
    """The second shard of a longer range is the first of one that starts there."""
    generate("tiny-style", "-n", 60, "--seed", 7, "--shard-size", 30, "--out", tmp_path / "a")
    generate("tiny-style", "-n", 30, "--seed", 7, "--shard-size", 30, "--start", 30, "--out", tmp_path / "b")
    assert (tmp_path / "a" / "shard-000001.tar").read_bytes() == (tmp_path / "b" / "shard-000000.tar").read_bytes()


def test_the_manifest_says_what_there_is(generate: Any, tmp_path: Path, http: Any):
    import hashlib

    generate(*job("npy"), "--out", tmp_path)
    found = manifest(tmp_path)
    assert (found["images"], found["n"], found["addresses"]) == (700, 700, {"seed": 7, "first": 0, "last": 699})
    assert found["model_sha256"] == http.get("/v1/models/tiny-cgan").json()["sha256"]
    assert found["versions"]["ganymede"]
    files = [entry for shard in found["shards"] for entry in shard["files"]]
    assert found["bytes"] == sum(entry["bytes"] for entry in files)
    for entry in files:
        data = (tmp_path / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    pixels = np.concatenate([np.load(path) for path in sorted(tmp_path.glob("shard-??????.npy"))])
    labels = np.concatenate([np.load(path) for path in sorted(tmp_path.glob("*.labels.npy"))])
    assert found["mean"] == pytest.approx([pixels.mean()], abs=1e-5)
    assert found["std"] == pytest.approx([pixels.std()], abs=1e-5)
    assert found["label_counts"] == {str(label): int((labels == label).sum()) for label in range(10)}
    assert [shard["start"] for shard in found["shards"]] == [0, 300, 600]


@pytest.fixture
def second(server: Server) -> Iterator[Any]:
    with proxied(server.port) as proxy:
        yield proxy


def test_a_server_that_fails_is_made_up_for_by_another(generate: Any, server: Server, second: Any, tmp_path: Path):
    second.faults = [Fault("reset", 0) if i else Fault("delay", 10**9) for i in range(500)]  # answers only at first
    generate(*job("webdataset"), "--out", tmp_path / "local")
    generate(*job("webdataset"), "--out", tmp_path / "remote", "--engine", "server", server.url, second.url)
    assert contents(tmp_path / "local") == contents(tmp_path / "remote")
    assert second.connections > 1, "it was asked"


def test_workers_that_hear_nothing_are_ended_together(
    repository_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("serving.bulk.processes.END_SECONDS", 1)
    engine = Local(repository_folder / "tiny-dcgan", workers=4)
    job = plan(engine.subject, n=100_000, seed=7, shard_size=100)
    made = engine(job, job.shards(), Store(str(tmp_path)))
    next(made)
    pids = spawned(os.getpid())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    made.close()
    assert len(pids) == 4 and time.monotonic() - began < 4, "not one after another"
    assert not spawned(os.getpid())


def test_a_server_down_from_the_start_is_replaced_and_named(generate: Any, server: Server, tmp_path: Path):
    dead = "http://127.0.0.1:9"
    generate(*job("npy"), "--out", tmp_path / "local")
    said = generate(*job("npy"), "--out", tmp_path / "remote", "--engine", "server", dead, server.url)
    assert contents(tmp_path / "local") == contents(tmp_path / "remote")
    assert f"`engine server {dead}` is skipped" in said.stderr


def test_a_rate_limit_takes_as_long_as_it_says(generate: Any, serve: Any, tmp_path: Path):
    """Of six pages in flight, two to each URL, it lets in one a second."""
    words = ["tiny-dcgan", "-n", 1536, "--seed", 7, "--workers", 1, "--format", "npy"]
    with serve(GANYMEDE_RATE_LIMIT="256") as limited:
        generate(*words, "--out", tmp_path / "remote", "--engine", "server", *[limited.url] * 3)
    generate(*words, "--out", tmp_path / "local")
    assert contents(tmp_path / "local") == contents(tmp_path / "remote")


@pytest.fixture
def asked(server: Server) -> Job:
    """Ten batches."""
    return plan(sources.subject_of_servers([server.url], "tiny-dcgan"), n=2560, seed=7)


def read_images(job: Job, source: Source) -> np.ndarray:
    return np.concatenate([batch.images for batch in source.batches(job, job.shard(0))])


@pytest.fixture
def asking() -> Iterator[Any]:
    """`asking(url, url)`: a source whose threads and connections end with the test."""
    made: list[ServerSource] = []

    def ask(*urls: str) -> ServerSource:
        made.append(ServerSource(urls))
        return made[-1]

    yield ask
    for source in made:
        source._pool.shutdown()
        for server in source._servers:
            server.client.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are of hundredths of a second."""
    monkeypatch.setattr(sources, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sources, "LONGEST_PAUSE", 0.05)


def test_a_server_that_is_gone_for_a_while_is_waited_for(
    asked: Job, asking: Any, repository_folder: Path, second: Any, impatient: None
):
    second.faults = [Fault("reset", 0)] * 40
    found = read_images(asked, asking(second.url))
    assert not second.faults and np.array_equal(
        found, read_images(asked, LocalSource(repository_folder / "tiny-dcgan"))
    )


def test_a_hanging_server_costs_its_timeout_once(
    asked: Job, asking: Any, server: Server, second: Any, repository_folder: Path
):
    second.faults = [Fault("delay", 0, seconds=60)] * 99
    source = asking(server.url, second.url)
    for one in source._servers:
        one.client = one.client.with_options(timeout=3)
    assert np.array_equal(read_images(asked, source), read_images(asked, LocalSource(repository_folder / "tiny-dcgan")))
    assert second.connections == 2, "the two pages that were its own at first"


def test_a_server_that_is_back_is_asked_again(asked: Job, asking: Any, server: Server, second: Any, impatient: None):
    second.faults = [Fault("reset", 0)] * 2
    source = asking(server.url, second.url)
    while second.connections < 3:
        read_images(asked, source)
    assert not second.faults


def test_servers_without_images_for_ten_minutes_end_the_run(
    asked: Job, asking: Any, second: Any, impatient: None, monkeypatch: pytest.MonkeyPatch
):
    assert sources.PATIENCE == 600
    monkeypatch.setattr(sources, "PATIENCE", 0.3)
    second.faults = [Fault("reset", 0)] * 999
    with pytest.raises(
        BulkError, match=rf"No server returned images for .* minutes; the last error is from {second.url}"
    ):
        read_images(asked, asking(second.url))


def test_a_server_that_comes_back_with_other_files_ends_the_run(asked: Job, asking: Any, server: Server):
    """The files of a server that failed at the start are checked with its first response."""
    other = replace(asked, subject=replace(asked.subject, sha256="0" * 64))
    with pytest.raises(BulkError, match="has other files of tiny-dcgan"):
        read_images(other, asking(server.url))


def test_ctrl_c_does_not_wait_for_a_server(asked: Job, asking: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(sources, "LONGEST_PAUSE", 60.0)
    source = asking("http://127.0.0.1:9")
    timer = threading.Timer(0.5, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        read_images(asked, source)
    began = time.monotonic()
    source._pool.shutdown()
    assert time.monotonic() - began < 30


def test_without_any_server_it_is_one_line_and_exit_code_1(generate: Any, tmp_path: Path):
    said = generate(*job("npy"), "--out", tmp_path, "--engine", "server", "http://127.0.0.1:9", code=1)
    assert said.stderr.count("\n") == 1 and "http://127.0.0.1:9" in said.stderr


def test_servers_with_other_files_of_the_model_are_rejected(
    generate: Any, server: Server, repository_folder: Path, serve: Any, tmp_path: Path
):
    import hashlib
    import shutil

    from tiny_models import generator

    other = tmp_path / "models"
    shutil.copytree(repository_folder, other)
    data, path = generator(conditional=True, seed=9), other / "tiny-cgan" / "generator.onnx"
    path.write_bytes(data)
    document = json.loads((other / "tiny-cgan" / "model.json").read_text())
    document["files"]["generator.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (other / "tiny-cgan" / "model.json").write_text(json.dumps(document))
    with serve("--models", str(other)) as odd:
        said = generate(*job("npy"), "--out", tmp_path / "out", "--engine", "server", server.url, odd.url, code=1)
    assert "has other files of tiny-cgan" in said.stderr and odd.url in said.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (["gpu"], "`engine` (=gpu) must be local, server URL [URL ...], or ray."),
        (["server"], "`engine server` needs at least one server URL"),
        (["local", "http://127.0.0.1:9"], "`engine local` takes no arguments"),
    ],
)
def test_a_wrong_engine_is_told(generate: Any, tmp_path: Path, engine: list[str], message: str):
    assert message in generate(*job("npy"), "--out", tmp_path, "--engine", *engine, code=1).stderr
