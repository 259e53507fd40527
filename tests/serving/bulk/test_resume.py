"""Whatever ends a run, run the same command to resume, and what it ends with is what it would have been."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

import tools
from directories import contents, manifest
from processes import spawned, wait
from server import ROOT

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
JOB = ["tiny-cgan", "-n", 30_000, "--seed", 7, "--shard-size", 500]


@pytest.fixture(scope="module")
def whole(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run of JOB leaves."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, "-m", "serving", "generate", "--models", repository_folder, *JOB, "--out", folder]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True, capture_output=True, timeout=240)
    return contents(folder)


@pytest.fixture
def start(command: Any) -> Iterator[Any]:
    """Starts a run and waits until it has made some shards."""
    processes: list[subprocess.Popen[str]] = []

    def begin(folder: Path, *options: object, shards: int = 2) -> subprocess.Popen[str]:
        words = command(*JOB, "--out", folder, *options)
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        deadline = time.monotonic() + 60
        while len(list(folder.glob("_ganymede/shards/*"))) < shards:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.01)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def blocks_sigint(pid: int) -> bool:
    (mask,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigBlk")]
    return bool(int(mask.split()[1], 16) & 1 << signal.SIGINT - 1)


def assert_gone(pids: Collection[int]) -> None:
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)


@pytest.mark.slow
def test_sigkill_of_the_command_leaves_no_worker_and_it_resumes(
    generate: Any, start: Any, tmp_path: Path, whole: dict[str, bytes]
):
    rng = random.Random(1)
    for shards in (1, 5, 10):  # each after some more than the one before
        process = start(tmp_path, shards=shards)
        time.sleep(rng.random() / 50)
        pids = spawned(process.pid)
        if shards > 1 and not pids:
            process.wait()
            break  # a fast machine has made the rest
        assert pids
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert_gone(pids)
        assert not (tmp_path / "manifest.json").exists()
    kept = {path: (tmp_path / path).stat().st_mtime_ns for path in contents(tmp_path) if path.endswith(".tar")}
    assert all(data == whole[path] for path, data in contents(tmp_path).items() if path.endswith(".tar"))
    said = generate(*JOB, "--out", tmp_path)
    assert f"{60 - len(kept)} shards generated, {len(kept)} kept" in said.stdout or len(kept) > 10
    assert contents(tmp_path) == whole, "staging too is gone"


def test_sigkill_of_everything_leaves_what_a_rerun_repairs(
    generate: Any, start: Any, tmp_path: Path, whole: dict[str, bytes]
):
    process = start(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    generate(*JOB, "--out", tmp_path)
    found = contents(tmp_path)
    assert found.keys() ^ whole.keys() == set()
    assert [path for path in whole if found[path] != whole[path]] == []


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)],
    ids=["Ctrl-C to the group", "Ctrl-C to the command alone", "SIGTERM"],
)
def test_an_interruption_is_one_line_and_nothing_half_made(
    generate: Any, start: Any, tmp_path: Path, whole: dict[str, bytes], number: signal.Signals, to_all: bool
):
    process = start(tmp_path)
    pids = spawned(process.pid)
    assert pids and all(blocks_sigint(pid) for pid in pids), "a terminal's Ctrl-C reaches the command alone"
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err.endswith("ganymede: interrupted; run the same command to resume\n") and "Traceback" not in err
    assert_gone(pids)
    assert not list(tmp_path.glob("_ganymede/staging/*"))
    assert all(data == whole[path] for path, data in contents(tmp_path).items())
    generate(*JOB, "--out", tmp_path)
    assert contents(tmp_path) == whole


def test_a_worker_that_is_lost_is_replaced(start: Any, tmp_path: Path, whole: dict[str, bytes]):
    process = start(tmp_path, "--workers", 2)
    killed = min(spawned(process.pid))
    os.kill(killed, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert contents(tmp_path) == whole


def test_a_full_disk_is_one_line_and_room_is_all_it_needs(generate: Any, tmp_path: Path, whole: dict[str, bytes]):
    """Files may not grow past some size, which writes meet as they do a full disk."""
    limit = len(whole["shard-000000.tar"]) // 2

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    said = generate(*JOB, "--out", tmp_path, code=1, preexec_fn=limited)
    assert "cannot be written: File too large; free some space, then run the same command to resume." in said.stderr
    assert "Traceback" not in said.stderr
    assert not list(tmp_path.glob("shard-*")) and not list(tmp_path.glob("_ganymede/staging/*"))
    generate(*JOB, "--out", tmp_path)
    assert contents(tmp_path) == whole


def works() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode == 0


def on_a_disk_of(kibibytes: int, words: list[str], disk: Path, copy: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command with a disk of that size at `disk`; what is on it in the end is in `copy`."""
    disk.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={kibibytes}k none "$0" && {{ "$@"; code=$?; cp -a "$0" "$COPY"; exit $code; }}'
    command = [*NAMESPACE, script, str(disk), *words]
    environment = os.environ | {"COPY": str(copy)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


small_disks = pytest.mark.skipif(not tools.ALL and not works(), reason="no namespace to mount a small disk in")


@pytest.mark.slow
@small_disks
def test_a_disk_that_fills_up_keeps_what_is_whole(command: Any, tmp_path: Path, whole: dict[str, bytes]):
    """A real disk of 12 MB, for 61 MB of shards: then a larger one, with what the small one held."""
    words, disk, copy = command(*JOB, "--out", tmp_path / "disk"), tmp_path / "disk", tmp_path / "copy"
    done = on_a_disk_of(12 << 10, words, disk, copy)
    assert done.returncode == 1 and "No space left on device; free some space" in done.stderr, done.stderr
    kept = {path: data for path, data in contents(copy).items() if path.endswith(".tar")}
    assert 3 < len(kept) < 60 and all(data == whole[path] for path, data in kept.items())
    disk.rmdir()
    shutil.move(copy, disk)
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and f"{len(kept)} kept" in again.stdout, again.stdout
    assert contents(disk) == whole


@pytest.mark.slow
@small_disks
def test_a_shard_that_just_fits_is_kept(command: Any, tmp_path: Path):
    """On the smallest disk, to the page, that can hold the first shard, the first shard counts."""
    words, disk = command(*JOB, "--workers", 1, "--out", tmp_path / "disk"), tmp_path / "disk"

    def shards(kibibytes: int) -> tuple[int, int]:
        """In place, and counted."""
        copy = tmp_path / str(kibibytes)
        on_a_disk_of(kibibytes, words, disk, copy)
        return len(list(copy.glob("*.tar"))), len(list(copy.glob("_ganymede/shards/*")))

    too_small, enough = 16, 2048
    assert shards(too_small) == (0, 0)
    while enough - too_small > 4:
        middle = (too_small + enough) // 8 * 4
        too_small, enough = (middle, enough) if shards(middle)[0] == 0 else (too_small, middle)
    assert shards(enough) == (1, 1)


def test_a_run_that_is_done_makes_nothing_again(generate: Any, tmp_path: Path):
    small = ["tiny-dcgan", "-n", 50, "--seed", 7, "--shard-size", 20, "--out", tmp_path]
    generate(*small)
    before = {path: (tmp_path / path).stat().st_mtime_ns for path in contents(tmp_path)}
    assert "0 shards generated, 3 kept" in generate(*small).stdout
    assert before == {path: (tmp_path / path).stat().st_mtime_ns for path in contents(tmp_path)}


def test_a_seed_that_was_drawn_is_kept(generate: Any, tmp_path: Path):
    words = ["tiny-dcgan", "-n", 50, "--shard-size", 20, "--out", tmp_path]
    generate(*words)
    before = contents(tmp_path)
    (tmp_path / "shard-000001.tar").unlink()
    generate(*words)
    assert contents(tmp_path) == before


def test_other_settings_are_refused_with_the_difference(generate: Any, tmp_path: Path):
    base = {"-n": 50, "--seed": 7, "--shard-size": 20}
    words = ["tiny-cgan", "--out", tmp_path]

    def flat(**changes: object) -> list[object]:
        options = base | {
            f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}": v for name, v in changes.items()
        }
        return [word for pair in options.items() for word in pair]

    generate(*words, *flat())
    before = contents(tmp_path)
    for changes, told in [
        ({"seed": 8}, "`seed` was 7 and is 8"),
        ({"n": 60}, "`n` was 50 and is 60"),
        ({"shard_size": 10, "labels": "3,4"}, '`shard_size` was 20 and is 10; `labels` was "balanced" and is [3, 4]'),
        ({"format": "npy"}, '`format` was "webdataset" and is "npy"; `image` was "png" and is null'),
    ]:
        said = generate(*words, *flat(**changes), code=1)
        assert f"has other settings: {told}" in said.stderr
        assert said.stderr.endswith(". Use the original settings or another directory.\n")
    said = generate("tiny-dcgan", "--out", tmp_path, *flat(), code=1)
    assert '`model` was "tiny-cgan" and is "tiny-dcgan"; `model_sha256` was' in said.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("format", ["webdataset", "npy", "files", "parquet"])
def test_verify_finds_what_is_damaged_and_makes_it_again(generate: Any, tmp_path: Path, format: str):
    words = ["tiny-cgan", "-n", 100, "--seed", 7, "--shard-size", 20, "--format", format, "--out", tmp_path]
    generate(*words)
    folder = tmp_path / "images" if format == "files" else tmp_path
    before = contents(folder)
    shards = sorted({name.split(".")[0] for name in os.listdir(folder) if name.startswith("shard")})
    suffix = {"webdataset": ".tar", "npy": ".npy", "parquet": ".parquet"}.get(format)
    victims = [folder / f"{s}{suffix}" if suffix else sorted((folder / s).iterdir())[3] for s in shards]
    data = bytearray(victims[0].read_bytes())
    data[len(data) // 2] ^= 1  # one bit, of the same size and date
    victims[0].write_bytes(data)
    victims[1].write_bytes(victims[1].read_bytes()[:-1])
    victims[2].unlink()
    (folder / "_ganymede" / "shards" / f"{shards[3]}.json").write_text("{")
    (folder / "manifest.json").write_text("{}")
    said = generate(*words, "--verify")
    assert f"{shards[0]} was damaged and is generated again" in said.stderr
    assert "4 shards generated, 1 verified" in said.stdout
    assert contents(folder) == before
    assert "0 shards generated, 5 verified" in generate(*words, "--verify").stdout


def test_damaged_settings_are_told(generate: Any, tmp_path: Path):
    words = ["tiny-dcgan", "-n", 5, "--seed", 7, "--out", tmp_path]
    generate(*words)
    (tmp_path / "_ganymede" / "settings.json").write_text("{")
    assert "_ganymede/settings.json is damaged" in generate(*words, code=1).stderr


def test_a_dry_run_says_what_it_comes_to_and_writes_nothing(generate: Any, tmp_path: Path):
    words = ["tiny-dcgan", "-n", 3000, "--seed", 7, "--shard-size", 1000, "--out", tmp_path / "out"]
    said = generate(*words, "--dry-run", "--workers", 2).stdout
    assert "3,000 images of tiny-dcgan, seed 7, in 3 shards" in said and "on 2 workers" in said
    assert not (tmp_path / "out").exists()
    generate(*words)
    real = manifest(tmp_path / "out")["bytes"]
    told = float(said.split("about ")[1].split(" MB")[0]) * 1e6
    assert abs(told - real) < 0.02 * real


def test_progress_says_pictures_time_and_bytes(generate: Any, tmp_path: Path):
    said = generate("tiny-dcgan", "-n", 3000, "--seed", 7, "--shard-size", 1000, "--out", tmp_path).stderr
    last = said.strip().split("\r")[-1]
    assert "100%" in last and "3.00k/3.00k" in last and "img/s" in last and "MB" in last


def test_the_library_does_what_the_command_does(repository_folder: Path, generate: Any, tmp_path: Path):
    from serving.bulk.engines import Local
    from serving.bulk.job import plan
    from serving.bulk.run import generate as make
    from serving.bulk.storage import Store

    generate("tiny-style", "-n", 50, "--seed", 7, "--shard-size", 20, "--out", tmp_path / "command")
    engine = Local(repository_folder / "tiny-style", workers=2)
    job = plan(engine.subject, n=50, seed=7, shard_size=20)
    outcome = make(job, Store(str(tmp_path / "library")), engine)
    assert (outcome.made, outcome.kept, outcome.whole) == (3, 0, True)
    assert contents(tmp_path / "library") == contents(tmp_path / "command")
    assert json.loads((tmp_path / "library" / "manifest.json").read_bytes())["images"] == 50
