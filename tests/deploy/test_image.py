"""Container image: its contents, and how it serves with minimal privileges.

Skipped unless GANYMEDE_IMAGE names an image. `make image test-image` builds and tests one.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import serving
from containers import HARDENED, IMAGE, LIMITS, PODMAN, RUN, Container, contained, inspect, podman, python
from faults.load import Load
from processes import wait
from serving.engine.repository import load_repository

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IMAGE, reason="GANYMEDE_IMAGE is not set; run `make image test-image`"),
]

BASE_MB = 125  # python:3.11-slim, unpacked; a stand-in may be larger, so only the added size is tested
MOST_MB = 375  # Granian's library alone has 22 MB
REQUEST = {"model": "stylegan-lite-critters", "seed": 7}


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Container that serves the models of the image."""
    with contained(tmp_path_factory.mktemp("container") / "log.txt", settings={"GANYMEDE_DRAIN": "0"}) as container:
        yield container


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """PNG that this checkout generates for REQUEST."""
    path = tmp_path_factory.mktemp("image") / "image.png"
    command = [sys.executable, "-m", "serving", "generate", REQUEST["model"], "--seed", "7", "-o", str(path)]
    subprocess.run(command, cwd=ROOT, check=True)
    return path.read_bytes()


def post(container: Container, body: dict) -> httpx2.Response:
    return httpx2.post(f"{container.url}/v1/sample", json=body, timeout=30)


# Contents


def test_its_configuration_and_labels():
    config = inspect(IMAGE)["Config"]
    assert config["User"] == "1034:1034" and config["StopSignal"] in ("SIGTERM", "15")
    assert config["Entrypoint"] == ["python", "-m", "serving"] and config["Cmd"] == ["serve", "--host", "0.0.0.0"]
    assert "3000/tcp" in config["ExposedPorts"] and "BENTOML_DO_NOT_TRACK=True" in config["Env"]
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == "Ganymede" and labels["licenses"] == "Apache-2.0"
    assert labels["version"] == serving.__version__
    assert len(labels["revision"]) == 40 and datetime.fromisoformat(labels["created"])


def test_it_is_small(tell: Callable[[str], None]):
    (base,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Containerfile").read_text(), re.M)
    whole, below = inspect(IMAGE)["Size"] / 1e6, inspect(base)["Size"] / 1e6
    tell(f"image: {whole:.0f} MB, {below:.0f} MB of it is the base and {whole - below:.0f} MB is added")
    assert 50 < whole - below < MOST_MB - BASE_MB


def test_it_has_exactly_the_packages_of_the_lock():
    code = (
        "import importlib.metadata as m, json\n"
        "paths = ['/opt/ganymede/lib/python3.11/site-packages']\n"
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions(path=paths)}))"
    )
    found = {canonicalize_name(name): version for name, version in json.loads(python(code)).items()}
    lock = (ROOT / "requirements" / "serve.txt").read_text()
    wanted = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if line[:1].isalnum()]
    pins = {canonicalize_name(w.name): str(w.specifier)[2:] for w in wanted if not w.marker or w.marker.evaluate()}
    assert found == pins
    assert not found.keys() & {"torch", "onnx", "pip", "setuptools", "ray", "pyarrow"}


def test_it_has_no_compiler_no_cache_and_no_unused_code():
    code = (
        "import os, shutil, json\n"
        "tools = [t for t in ('cc', 'gcc', 'g++', 'clang', 'make', 'ld', 'uv') if shutil.which(t)]\n"
        "kept = [p for p in ('/root/.cache', '/tmp/pip', '/build', '/var/cache/apt/archives') "
        "if os.path.isdir(p) and os.access(p, os.R_OK) and [n for n in os.listdir(p) if n.endswith('.deb') or p != "
        "'/var/cache/apt/archives']]\n"
        "print(json.dumps([tools, kept, sorted(os.listdir('/app'))]))"
    )
    assert json.loads(python(code)) == [[], [], ["models", "sbom.cdx.json", "serving"]]


def test_a_start_compiles_nothing():
    code = (
        "import os, importlib.util as u\n"
        "roots = ['/opt/ganymede/lib/python3.11/site-packages/' + p for p in "
        "('bentoml', 'starlette', 'numpy', 'onnxruntime', 'granian', 'prometheus_client')] + ['/app/serving']\n"
        "files = [os.path.join(d, f) for r in roots for d, _, fs in os.walk(r) for f in fs if f.endswith('.py')]\n"
        "print(len(files), [f for f in files if not os.path.exists(u.cache_from_source(f))])\n"
        "print(open(u.cache_from_source('/app/serving/__init__.py'), 'rb').read()[4:8])"
    )
    count, missing = python(code).splitlines()[0].split(" ", 1)
    assert int(count) > 500 and missing == "[]"
    assert python(code).splitlines()[1] == repr(bytes([1, 0, 0, 0])), "unchecked hash: never compared with the source"


def test_the_sbom_is_valid_and_complete():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = python("print(open('/app/sbom.cdx.json').read())")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    kinds: dict[str, dict[str, dict]] = {}
    for component in document["components"]:
        kinds.setdefault(component["type"], {})[component["name"]] = component
    listed = {canonicalize_name(name): c["version"] for name, c in kinds["library"].items()}
    lock = (ROOT / "requirements" / "serve.txt").read_text()
    assert {"bentoml", "numpy", "onnxruntime-gpu"} <= listed.keys()
    assert all(f"\n{name}=={version} " in f"\n{lock}" for name, version in listed.items())
    models = load_repository(ROOT / "models")
    assert kinds["machine-learning-model"].keys() == models.keys()
    for id, model in models.items():
        files = kinds["machine-learning-model"][id]["components"]
        assert {f["name"]: f["hashes"][0]["content"] for f in files} == {n: f.sha256 for n, f in model.files.items()}


# Behaviour


def test_it_serves_the_models_and_images_of_the_checkout(container: Container, png: bytes):
    ids = {model["id"] for model in httpx2.get(f"{container.url}/v1/models").json()["models"]}
    assert ids == {path.parent.name for path in (ROOT / "models").glob("*/model.json")}
    assert post(container, REQUEST).content == png


def test_it_has_no_privileges(container: Container):
    status = container.exec("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1034"] * 4 and fields["Gid"].split() == ["1034"] * 4
    assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16} and fields["NoNewPrivs"] == "1"
    assert {"--read-only", "no-new-privileges"} <= set(HARDENED)
    for path in ("/app", "/opt/ganymede", "/etc", "/"):
        assert "denied" in container.exec(
            f"try: open('{path}/x', 'w')\nexcept OSError as error: print('denied', error)"
        ), path


def test_it_stays_within_cpu_and_memory_limits(tmp_path: Path, tell: Callable[[str], None]):
    """It has as many threads as the quota has CPU cores, and its memory stays far below the limit."""
    assert LIMITS[:4] == ["--memory", "1g", "--cpus", "2"]
    with contained(tmp_path / "log.txt", run=["--cpus", "1", "--memory", "512m"]) as container:
        limit = container.exec(
            "import glob\nprint(*(open(p).read().strip() for p in glob.glob('/sys/fs/cgroup/memory.max') "
            "+ glob.glob('/sys/fs/cgroup/memory/memory.limit_in_bytes')))"
        ).split()
        assert limit == [str(512 << 20)]
        assert "1 threads" in container.logged("threads")
        for seed in range(20):
            assert post(container, {"model": "dcgan-mnist", "n": 64, "seed": seed}).status_code == 200
        metrics = httpx2.get(f"{container.url}/metrics").text
        (line,) = [line for line in metrics.splitlines() if line.startswith("process_resident_memory_bytes ")]
        resident = float(line.split()[1]) / 1e6
        tell(f"image: {resident:.0f} MB resident after 1,280 images; the limit is 537 MB")
        assert resident < 350


def test_it_serves_a_mounted_repository(repository_folder: Path, tmp_path: Path):
    with contained(tmp_path / "log.txt", repository=repository_folder) as container:
        ids = {model["id"] for model in httpx2.get(f"{container.url}/v1/models").json()["models"]}
        assert ids == {"tiny-cgan", "tiny-dcgan", "tiny-style"}


def test_a_model_with_a_changed_file_is_not_served(repository_folder: Path, tmp_path: Path):
    models = Path(shutil.copytree(repository_folder, tmp_path / "models"))
    (models / "tiny-dcgan" / "generator.onnx").write_bytes(b"something else")
    with (
        pytest.raises(RuntimeError, match="ended with 1"),
        contained(tmp_path / "log.txt", repository=models),
    ):
        pass
    assert "`generator.onnx` has 14 bytes; `model.json` requires" in (tmp_path / "log.txt").read_text()


def test_it_needs_no_network(png: bytes, tmp_path: Path):
    name = f"ganymede-test-alone-{os.getpid()}"
    process = subprocess.Popen([*PODMAN, *RUN, "--network", "none", "--name", name, IMAGE], stdout=subprocess.DEVNULL)
    try:
        wait(lambda: podman("healthcheck", "run", name, check=False).returncode == 0, 60)
        code = (
            "import http.client, json, sys\n"
            "c = http.client.HTTPConnection('127.0.0.1', 3000)\n"
            f"c.request('POST', '/v1/sample', json.dumps({REQUEST}), {{'Content-Type': 'application/json'}})\n"
            "print(c.getresponse().read().hex())"
        )
        assert bytes.fromhex(podman("exec", name, "python", "-c", code).stdout) == png
        podman("stop", "--time", "20", name)
        assert process.wait(20) == 0
    finally:
        podman("rm", "--force", "--ignore", "--time", "0", name, check=False)
        process.wait()


def test_sigterm_drains_it_and_readyz_fails(tmp_path: Path, tell: Callable[[str], None]):
    with contained(tmp_path / "log.txt", settings={"GANYMEDE_DRAIN": "2"}) as container:
        with Load(container.port, rate=50, images=4, seconds=60, fresh=5, model="dcgan-mnist") as clients:
            time.sleep(1.5)
            container.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            wait(lambda: httpx2.get(f"{container.url}/readyz").status_code == 503, 2)
            time.sleep(0.3)
            clients.stop()
            found = clients.report()
            assert container.process.wait(20) == 0
        tell(f"image: SIGTERM: {found['sent']} requests, all answered; exit 0 after {time.monotonic() - began:.1f} s")
    assert found["statuses"] == {200: found["sent"]} and (found["broken"], found["lost"]) == (0, 0)
    assert found["sent"] > 50


def test_sigkill_ends_it_with_an_error(tmp_path: Path):
    with contained(tmp_path / "log.txt") as container:
        podman("kill", "--signal", "KILL", container.name)
        assert container.process.wait(20) == 128 + signal.SIGKILL


def test_a_worker_that_keeps_dying_ends_it_with_an_error(repository_folder: Path, tmp_path: Path):
    """The worker dies twice within 5 s."""
    kill_newest = (
        "import os, signal\n"
        "parents = {int(p): open(f'/proc/{p}/stat').read().rpartition(')')[2].split()[1] "
        "for p in os.listdir('/proc') if p.isdigit()}\n"
        "newest = max(pid for pid, parent in parents.items() if parent == '1')\n"
        "os.kill(newest, signal.SIGKILL)\n"
        "print(newest)"
    )
    with contained(tmp_path / "log.txt", "--workers", "2", repository=repository_folder) as container:
        container.wait_for_workers(2)
        killed = container.exec(kill_newest)
        wait(lambda: container.process.poll() is not None or container.exec(kill_newest) != killed, 20)
        assert container.process.wait(30) == 1
    assert "Worker crash loop detected, exiting" in (tmp_path / "log.txt").read_text()


def test_it_generates_an_image_without_a_server(png: bytes, tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    volume = ["--network", "none", "--volume", f"{folder}:/out"]
    podman(*RUN, *volume, IMAGE, "generate", REQUEST["model"], "--seed", "7", "-o", "/out/image.png")
    assert (folder / "image.png").read_bytes() == png
