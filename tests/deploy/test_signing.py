"""Signed models, with the commands of docs/deployment.md: verification detects every change."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    if words[0] == "model_signing":
        words = [sys.executable, "-m", "model_signing", *words[1:]]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def commands() -> dict[str, str]:
    """Commands of the page, by their first two words."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.S)
    (block,) = [block for block in blocks if "model_signing sign" in block]
    lines = block.replace("\\\n", " ").strip().splitlines()
    return {" ".join(line.split()[:2]): line for line in lines}


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory, commands: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("signed") / "work"
    shutil.copytree(ROOT / "models", folder / "models")
    for name in ("openssl ecparam", "openssl ec", "model_signing sign"):
        done = run(commands[name], folder)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    """A folder with signed models and their keys, to be changed."""
    return shutil.copytree(signed_once, tmp_path / "signed")


def test_signed_models_are_verified(signed: Path, commands: dict[str, str]):
    done = run(commands["model_signing verify"], signed)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", ["changed bit", "added file", "removed file", "other key"])
def test_a_change_fails_the_verification(signed: Path, commands: dict[str, str], change: str):
    file = signed / "models" / "dcgan-mnist" / "generator.onnx"
    match change:
        case "changed bit":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "added file":
            (signed / "models" / "dcgan-mnist" / "other.onnx").write_bytes(b"x")
        case "removed file":
            (signed / "models" / "dcgan-mnist" / "README.md").unlink()
        case "other key":
            (signed / "models.pem").unlink()
            run(commands["openssl ecparam"], signed)
            run(commands["openssl ec"], signed)
    assert run(commands["model_signing verify"], signed).returncode != 0
