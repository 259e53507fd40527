"""What pyproject.toml and the locks promise to whoever installs this."""

import importlib
import itertools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import serving

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    name: (ROOT / "requirements" / f"{name}.txt").read_text()
    for name in ("serve", "cuda", "bulk", "sbom", "train", "dev")
}
EXTRAS = {
    "serve": ["serve", "client", "tracing"],
    "cuda": ["serve", "client", "tracing", "cuda"],
    "bulk": ["serve", "client", "tracing", "bulk", "ray", "cluster"],
    "sbom": ["sbom"],
    "train": ["train"],
    "dev": ["serve", "client", "tracing", "bulk", "ray", "sbom", "train", "dev"],
}
# The first versions without a publicly known advisory.
FLOORS = {
    "bentoml": "1.4.39",
    "onnx": "1.21",
    "pillow": "12.2.0",
    "python-multipart": "0.0.27",
    "starlette": "1.3.1",
    "torch": "2.10",
}
# uv writes one package as "name==version ; marker \", then its hashes, then "# via ...".
ENTRY = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>\S+)(?: ;[^\\\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+$", re.M
)


def pins(lock: str) -> dict[str, Version]:
    return {entry["name"]: Version(entry["version"]) for entry in ENTRY.finditer(LOCKS[lock])}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_only_hashed_exact_versions_and_comments(lock: str):
    assert len(pins(lock)) > 30
    rest = ENTRY.sub("", LOCKS[lock])
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_host_or_folder_of_a_machine(lock: str):
    assert re.findall(r"\S*(?:://|@ |index-url|find-links|file:)\S*|(?<![\w-])/\w+", LOCKS[lock]) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_meets_what_pyproject_asks_for(lock: str):
    found = pins(lock)
    for text in [text for extra in EXTRAS[lock] for text in PROJECT["optional-dependencies"][extra]]:
        wanted = Requirement(text)
        if wanted.name != PROJECT["name"] and (wanted.marker is None or wanted.marker.evaluate()):
            assert wanted.specifier.contains(found[canonicalize_name(wanted.name)]), text


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_version_with_a_known_advisory(lock: str):
    found = pins(lock)
    assert {name: str(found[name]) for name in FLOORS if name in found and found[name] < Version(FLOORS[name])} == {}


def test_pyproject_asks_for_no_version_with_a_known_advisory():
    floors: dict[str, Version] = {}
    for wanted in map(Requirement, itertools.chain(*PROJECT["optional-dependencies"].values())):
        lowest = [Version(bound.version) for bound in wanted.specifier if bound.operator in (">=", "==")]
        floors[wanted.name] = min([floors.get(wanted.name, lowest[0]), *lowest]) if lowest else Version("0")
    assert {name: str(floors[name]) for name in FLOORS if floors[name] < Version(FLOORS[name])} == {}


def test_serving_installs_no_training_package():
    training_only = {"torch", "torchvision", "onnx", "onnxscript", "torch-fidelity", "dicebear-core", "triton"}
    assert pins("serve").keys() & training_only == set()
    assert pins("train").keys() >= training_only


@pytest.mark.parametrize("lock", ["cuda", "bulk"])
def test_every_image_serves_with_the_same_versions(lock: str):
    assert pins("serve").items() <= pins(lock).items()


def test_serving_installs_nothing_of_bulk_generation():
    assert pins("serve").keys() & {"ray", "pyarrow", "pandas", "datasets", "webdataset"} == set()


def test_the_client_installs_three_packages_and_what_they_need():
    names = {Requirement(text).name for text in PROJECT["optional-dependencies"]["client"]}
    assert names == {"httpx2", "numpy", "pillow"}


@pytest.mark.parametrize("lock", ["serve", "sbom", "train"])
def test_the_dev_lock_holds_every_other_lock(lock: str):
    """Installing dev is installing serve, so `make test` leaves nothing for `make serve` to do."""
    assert pins(lock).items() <= pins("dev").items()


def test_what_is_published_names_no_folder_of_a_machine():
    files = [
        ROOT / "pyproject.toml",
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        *(ROOT / "training" / "recipes").glob("*.toml"),
    ]
    files += [file for file in (ROOT / "models").rglob("*") if file.suffix in {".json", ".md"}]
    found = {
        str(file.relative_to(ROOT)): re.findall(r"/(?:home|mnt|opt|root|tmp|Users|work)/\S+", file.read_text())
        for file in files
    }
    assert {name: paths for name, paths in found.items() if paths} == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / f"ganymede-{serving.__version__}-py3-none-any.whl")


def test_the_wheel_holds_both_packages_whole_and_nothing_else(wheel: zipfile.ZipFile):
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    here = {file for package in ("serving", "training") for file in (ROOT / package).rglob("*") if file.is_file()}
    assert packaged == {file.relative_to(ROOT).as_posix() for file in here if "__pycache__" not in file.parts}
    assert "serving/py.typed" in packaged
    assert any(re.fullmatch(r"training/recipes/.+\.toml", name) for name in packaged)


def test_the_wheel_trains_where_the_user_stands(wheel: zipfile.ZipFile, tmp_path: Path):
    """Its recipes travel with it; runs/ is made in the folder that the command is given in."""
    wheel.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    run = ["train", "dcgan-mnist", "network.base_channels=8", "optimizer.batch=16", "total_kimg=0.032"]
    options = ["optimizer.decay_kimg=0", "--data", str(ROOT / "tests" / "data"), "--threads", "1", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "training", *run, *options],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "runs" / "00000-dcgan-mnist" / "checkpoint.pt").is_file()


def test_the_wheel_carries_the_licence_and_the_version(wheel: zipfile.ZipFile):
    folder = f"ganymede-{serving.__version__}.dist-info"
    metadata = wheel.read(f"{folder}/METADATA").decode()
    assert f"Version: {serving.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("script", PROJECT["scripts"].items(), ids=lambda script: script[0])
def test_a_script_leads_to_a_function(script: tuple[str, str]):
    module, _, function = script[1].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_changelog_has_an_entry_for_this_version():
    assert re.search(rf"^## \[{re.escape(serving.__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_every_test_is_in_one_tier_whatever_its_marks():
    runs = re.findall(r'-m pytest.* -m "?([a-z ]+)"?$', (ROOT / "Makefile").read_text(), re.M)
    for slow, serial in itertools.product((True, False), repeat=2):
        assert sum(bool(eval(run, {"slow": slow, "serial": serial})) for run in runs) == 1, (slow, serial)
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^(?:TOOLS=all )?make (test\S*)$", ci, re.M) == ["test", "test-slow"]
