"""Files, disks and settings that are not as they should be: one line that says what and why, and never half a server.

Disks are broken in a mount namespace of the server's own, which takes no privilege where Linux lets users have one;
elsewhere those tests are left out, and say so.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2
import onnx
import pytest
from onnx import TensorProto

from server import ROOT, free_port, serve, serving

pytestmark = pytest.mark.slow

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
NOBODY = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]  # in no list of users, without a home
READ_ONLY = """
while read -r _ folder kind _; do
    [ "$kind" = proc ] || mount -o remount,bind,ro "$folder"  # /proc is where the user is changed
done < /proc/self/mounts
if touch /tmp/probe . 2> /dev/null; then echo "it can still be written to" >&2; exit 77; fi
"""


def start(models: Path, *, inside: Sequence[str] = (), workers: str = "1", **settings: str) -> str:
    """What a start prints that must fail with exit code 1: its only line."""
    environment = os.environ | settings
    command = [*inside, *serve(models, free_port(), "--workers", workers)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr)
    said = [line for line in done.stderr.splitlines() if '"level": "info"' not in line]  # what went well before
    assert (done.returncode, done.stdout, len(said)) == (1, "", 1), done.stderr + done.stdout
    assert said[0].startswith("ganymede: ")
    assert "Traceback" not in done.stderr
    return said[0]


@pytest.fixture
def models(repository_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(repository_folder, tmp_path / "models"))


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Leaves a test out where Linux gives this user no namespaces."""
    works = shutil.which("unshare") and subprocess.run([*NAMESPACE, "mount -t tmpfs none /tmp"], capture_output=True)
    if not works or works.returncode:
        pytest.skip("this user may not make mount namespaces here")


def sign(folder: Path) -> None:
    """Makes model.json say what its files are: sha256 and size hide nothing from here on."""
    path = folder / "model.json"
    document = json.loads(path.read_text())
    for name, entry in document["files"].items():
        data = (folder / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    path.write_text(json.dumps(document))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def truncate(folder: Path) -> None:
    os.truncate(folder / "generator.onnx", 1000)


def truncate_and_sign(folder: Path) -> None:
    truncate(folder)
    sign(folder)


def flip(folder: Path) -> None:
    path = folder / "generator.onnx"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)


def wrong_sha256(folder: Path) -> None:
    edit(folder, lambda document: document["files"]["generator.onnx"].update(sha256="0" * 64))


def external_data(folder: Path) -> None:
    path = folder / "generator.onnx"
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (folder / "weights").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    path.write_bytes(model.SerializeToString())
    sign(folder)


def link_out(folder: Path) -> None:
    path = folder / "generator.onnx"
    path.symlink_to(path.rename(folder.parent.parent / "elsewhere.onnx"))


def other_shapes(folder: Path) -> None:
    edit(folder, lambda document: document["image"].update(height=28, width=28))


def other_latent(folder: Path) -> None:
    edit(folder, lambda document: document.update(latent_size=9))


def no_onnx(folder: Path) -> None:
    (folder / "generator.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    sign(folder)


def rewrite(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(folder / "generator.onnx")
    change(model)
    (folder / "generator.onnx").write_bytes(model.SerializeToString())
    sign(folder)


def random_operator(folder: Path) -> None:
    """Noise anew for each image, as StyleGAN2's generators are exported by default."""

    def change(model: onnx.ModelProto) -> None:
        (relu,) = [node for node in model.graph.node if "Relu_4" in node.output]
        nodes = [onnx.helper.make_node("RandomNormalLike", ["Relu_4"], ["n"], scale=0.5)]
        nodes += [onnx.helper.make_node("Add", ["Relu_4", "n"], ["noisy"])]
        at = list(model.graph.node).index(relu) + 1
        for node in model.graph.node[at:]:
            node.input[:] = ["noisy" if name == "Relu_4" else name for name in node.input]
        for node in reversed(nodes):
            model.graph.node.insert(at, node)

    rewrite(folder, change)


def nan_weight(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        tensor.raw_data = b"\0\0\xc0\x7f" + tensor.raw_data[4:]

    rewrite(folder, change)


def constant_image(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 4:
                tensor.raw_data = bytes(len(tensor.raw_data))

    rewrite(folder, change)


def pipe(folder: Path) -> None:
    (folder / "generator.onnx").unlink()
    os.mkfifo(folder / "generator.onnx")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "`generator.onnx` has 1000 bytes; `model.json` requires"),
        (truncate_and_sign, "`generator.onnx` is not an ONNX model: it is truncated"),
        (flip, "`generator.onnx` has sha256"),
        (wrong_sha256, f"`model.json` requires {'0' * 64}"),
        (external_data, "`generator.onnx` has weights in an external file"),
        (link_out, "`generator.onnx` is a link to a file outside"),
        (other_shapes, "`generator.onnx` has `image` as tensor(uint8) ['N', 1, 16, 16]; model.json requires"),
        (other_latent, "`generator.onnx` has `z` as tensor(float) ['N', 8]; model.json requires"),
        (no_onnx, "`generator.onnx` is not an ONNX model"),
        (pipe, "has no file `generator.onnx`"),
        (random_operator, "`generator.onnx` contains the random operator RandomNormalLike"),
        (nan_weight, "`generator.onnx` has non-finite weights: weight_"),
        (constant_image, "`generator.onnx` gives constant images (all pixels are 128)"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_model_that_is_not_what_it_says(models: Path, damage: Callable[[Path], None], reason: str):
    damage(models / "tiny-dcgan")
    line = start(models)
    assert f"{models / 'tiny-dcgan'}: " in line and reason in line


def test_a_repository_that_is_empty_or_none(tmp_path: Path):
    assert f"{tmp_path}: contains no model" in start(tmp_path)
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'}: cannot be read as a model repository" in start(tmp_path / "file")
    (tmp_path / "circle").symlink_to("circle")
    assert f"{tmp_path / 'circle'}: cannot be read as a model repository" in start(tmp_path / "circle")


def test_a_file_that_may_not_be_read(models: Path, namespaces: None):
    (models / "tiny-dcgan" / "generator.onnx").chmod(0)
    assert "`generator.onnx` cannot be read: Permission denied." in start(models, inside=NOBODY)  # root may read it


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"GANYMEDE_TIMEOUT": "soon"}, "`GANYMEDE_TIMEOUT` (=soon) must be a number between 0.1 and 600."),
        ({"GANYMEDE_WORKERS": "many"}, "`GANYMEDE_WORKERS` (=many) must be a whole number between 1 and 256."),
        ({"GANYMEDE_MAX_QUEUE": "0"}, "`GANYMEDE_MAX_QUEUE` (=0) must be"),
        ({"GANYMEDE_LOG_LEVEL": "loud"}, "`GANYMEDE_LOG_LEVEL` (=loud) must be one of debug, info, warning, error."),
        ({"GANYMEDE_CORS_ORIGINS": "example.org"}, "`GANYMEDE_CORS_ORIGINS` (=example.org) must be"),
    ],
)
def test_a_setting_that_cannot_be(repository_folder: Path, settings: Mapping[str, str], reason: str):
    assert reason in start(repository_folder, **settings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "has no API key"),
        (b"sesame-1 alice\n", "line 1 must be 64 hexadecimal digits"),  # the key itself, which is not repeated
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_a_file_of_keys_that_cannot_be(repository_folder: Path, tmp_path: Path, content: bytes | None, reason: str):
    path = tmp_path / "keys.txt"
    if content is not None:
        path.write_bytes(content)
    line = start(repository_folder, GANYMEDE_API_KEYS_FILE=str(path))
    assert f"{path}: " in line and reason in line and "sesame" not in line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_of_two_that_start_for_one_port_one_serves(repository_folder: Path, workers: str):
    """Not only where the other listens already: at any moment of the two starts."""
    command = serve(repository_folder, port := free_port(), "--workers", workers)
    at_once = os.environ | {"GANYMEDE_DRAIN": "0"}
    both = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=at_once)
        for _ in range(2)
    ]
    try:
        deadline = time.monotonic() + 60
        while all(process.poll() is None for process in both) and time.monotonic() < deadline:
            time.sleep(0.05)
        (failed,) = [process for process in both if process.poll() is not None]
        assert failed.returncode == 1 and failed.stderr is not None
        (line,) = failed.stderr.read().splitlines()
        assert line == f"ganymede: cannot listen on 127.0.0.1, port {port}: Address already in use."
    finally:
        for process in both:
            process.terminate()
        for process in both:
            process.communicate()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--host", "none.invalid"], "cannot listen on none.invalid, port 3000: "),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1, port 3000: Cannot assign requested address."),
        (["--port", "65536"], "65536 is not between 0 and 65535"),
        (["--workers", "0"], "0 is not between 1 and 256"),
    ],
)
def test_an_option_that_cannot_be(repository_folder: Path, options: Sequence[str], reason: str):
    command = serve(repository_folder, 3000, *options)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "") and reason in line


def sealed(folder: Path, size: str | None = None, fill: int = 0, user: Sequence[str] = ()) -> list[str]:
    """Runs a command where every disk is read-only but `folder`, a tmpfs of `size` with `fill` KiB in it already."""
    script = READ_ONLY
    if size is not None:
        script += f"mount -t tmpfs -o size={size} none '{folder}'\n"
        script += f"dd if=/dev/zero of='{folder}/filled' bs=1K count={fill} 2> /dev/null\n"
    return [*NAMESPACE, f'{script} exec "$@"', "sh", *user]


def test_several_workers_without_a_temporary_folder(repository_folder: Path, tmp_path: Path, namespaces: None):
    line = start(repository_folder, inside=sealed(tmp_path), workers="2", TMPDIR=str(tmp_path))
    assert f"No usable temporary directory found in ['{tmp_path}'" in line and "`TMPDIR`" in line


def test_several_workers_on_a_full_disk(repository_folder: Path, tmp_path: Path, namespaces: None):
    line = start(repository_folder, inside=sealed(tmp_path, "64k", 64), workers="2", TMPDIR=str(tmp_path))
    assert f"No usable temporary directory found in ['{tmp_path}'" in line


def test_a_disk_without_space_for_shared_metrics(repository_folder: Path, tmp_path: Path, namespaces: None):
    line = start(repository_folder, inside=sealed(tmp_path, "4m"), workers="2", TMPDIR=str(tmp_path))
    assert str(tmp_path) in line and "No space left on device" in line


def test_one_worker_needs_no_temporary_folder(
    repository_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, namespaces: None
):
    """It shares its metrics with no other process."""
    log = tmp_path_factory.mktemp("log") / "log.txt"
    environment = {"TMPDIR": str(tmp_path), "GANYMEDE_DRAIN": "0"}
    with serving(repository_folder, log, env=environment, under=sealed(tmp_path)) as server:
        assert httpx2.post(f"{server.url}/v1/sample", json={"n": 256, "scale": 8}).status_code == 200
        assert server.metric("ganymede_images_total") == 256
        assert server.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_serves_any_user_on_a_read_only_root(
    repository_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, workers: str, namespaces: None
):
    """As a container runs: with a /tmp of its own and nothing else. A disk that fills up later does it no harm."""
    log = tmp_path_factory.mktemp("log") / "log.txt"
    inside = sealed(tmp_path, "16m", user=NOBODY)
    environment = {"TMPDIR": str(tmp_path), "HOME": "/nonexistent", "GANYMEDE_DRAIN": "0"}
    with serving(repository_folder, log, "--workers", workers, env=environment, under=inside) as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        disk = Path(f"/proc/{server.process.pid}/root{tmp_path}")
        with (disk / "full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 16))
        with httpx2.Client(base_url=server.url, timeout=30) as client:
            for path in ("/v1/images/tiny-dcgan/7/0.png", "/v1/models", "/metrics", "/readyz", "/nowhere"):
                assert client.get(path).status_code == (404 if path == "/nowhere" else 200)
            assert client.post("/v1/sample", json={"n": 256, "scale": 8}).status_code == 200
        assert server.stop() == 0
    said = log.read_text()
    assert "Traceback" not in said


def test_a_log_that_cannot_be_written_stops_nothing(repository_folder: Path, tmp_path: Path):
    """Standard output and error on a full disk."""
    inside = ["sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh"]
    with serving(repository_folder, tmp_path / "log.txt", env={"GANYMEDE_DRAIN": "0"}, under=inside) as server:
        for _ in range(3):
            assert httpx2.post(f"{server.url}/v1/sample", json={"n": 2}).status_code == 200
            assert httpx2.get(f"{server.url}/nowhere").status_code == 404
        assert server.stop() == 0
