"""Who may import whom, held for every file of training/ and serving/.

training ──────> serving.engine <────── serving.api
                       ^
                 serving.bulk ────────> serving.client

Within training/ the sub-packages import each other one way only, each those above it.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(file for package in ("serving", "training") for file in (ROOT / package).rglob("*.py"))

# Sub-packages of training, each importing only those before it.
TRAINING = tuple(f"training.{name}" for name in ("networks", "datasets", "monitoring", "loop", "publish", "evaluation"))
# room -> the other rooms it imports. Every room may import `serving` itself, which holds the version.
ARROWS: dict[str, set[str]] = {
    "training": {"serving.engine", "training.networks"},
    "training.networks": {"training"},
    "training.datasets": {"training"},
    "training.monitoring": {"serving.engine", "training"},
    "training.loop": {"serving.engine", "training", *TRAINING[:3]},
    "training.publish": {"serving.engine", "training", *TRAINING[:4]},
    "training.evaluation": {"serving.engine", "training", *TRAINING[:5]},
    "training.series": {"training", *TRAINING},
    "training.__main__": {"serving.engine", "training", "training.series", *TRAINING},
    "serving": set(),
    "serving.engine": set(),
    "serving.client": set(),
    "serving.api": {"serving.engine"},
    "serving.bulk": {"serving.engine", "serving.client"},
    "serving.__main__": {"serving.engine", "serving.client", "serving.api", "serving.bulk"},
}
# The rooms that are usable on their own, and all that they need from outside of the standard library.
SELF_CONTAINED: dict[str, set[str]] = {
    "serving": set(),
    "serving.engine": {"numpy", "onnxruntime", "PIL", "zlib_ng"},
    "serving.client": {"av", "httpx2", "numpy", "PIL"},
}
TRAINING_ONLY = {"torch", "torchvision", "torch_fidelity", "onnx", "onnxscript", "training"}
HTTP = {"bentoml", "granian", "starlette", "uvicorn", "pydantic", "prometheus_client"}
OURS = {"serving", "training"}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file) for file in FILES}
PACKAGES = {module_name(file) for file in FILES if file.name == "__init__.py"}


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def room_of(module: str) -> str:
    return max((name for name in ARROWS if within(module, name)), key=len)


def imports(source: str, module: str) -> Iterator[str]:
    """Every module that the source imports, under `if TYPE_CHECKING` and within functions too, by absolute name."""
    package = module.split(".") if module in PACKAGES else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(origin, names, level):
                base = package[: len(package) - level + 1] if level else []
                name = ".".join([*base, *([origin] if origin else [])])
                for alias in names:
                    member = f"{name}.{alias.name}"
                    # `from serving import engine` imports the room; a room that is not built yet counts as one.
                    yield member if member in MODULES or member in ARROWS else name
            case ast.Call(func=ast.Name("__import__") | ast.Attribute(attr="import_module"), args=[ast.Constant(name)]):
                yield str(name)


def violations(source: str, module: str) -> list[str]:
    here, found = room_of(module), []
    for name in imports(source, module):
        top = name.partition(".")[0]
        if not within(here, "training") and top in TRAINING_ONLY:
            found.append(f"{module} imports {name}: serving must do without {top}")
        elif top in OURS and room_of(name) not in {here, "serving", *ARROWS[here]}:
            found.append(f"{module} imports {name}: there is no arrow from {here} to {room_of(name)}")
        elif here in SELF_CONTAINED and top not in OURS | SELF_CONTAINED[here] and top not in sys.stdlib_module_names:
            found.append(f"{module} imports {name}: {here} needs nothing but {sorted(SELF_CONTAINED[here])}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_along_the_arrows_only(file: Path):
    assert violations(file.read_text(), module_name(file)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("training.publish.export", "from serving.api import service"),
        ("training.publish.export", "from serving import client"),
        ("training.datasets.loaders", "from training.loop import trainer"),
        ("training.loop.loop", "from training.evaluation import fid_kid"),
        ("serving.api.service", "import torch"),
        ("serving.api.service", "def late():\n    import training.recipe"),
        ("serving.api.service", "from serving.client import Client"),
        ("serving.engine.runtime", "import onnx"),
        ("serving.engine.runtime", "import bentoml"),
        ("serving.engine.runtime", "from starlette.responses import Response"),
        ("serving.engine.runtime", "import pydantic"),
        ("serving.engine.runtime", "from ..api import problems"),
        ("serving.client.results", "from serving.engine import images"),
        ("serving.client.results", "import importlib\nimportlib.import_module('onnxruntime')"),
        ("serving.bulk.shards", "from serving.api import service"),
    ],
)
def test_an_import_against_the_arrows_is_found(module: str, source: str):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "training.publish.export",
            "import torch\nfrom serving.engine.runtime import Runtime\nfrom serving import __version__",
        ),
        ("serving.engine.runtime", "import numpy as np\nfrom .latents import latents\nfrom PIL import Image"),
        ("serving.bulk.shards", "from serving.engine import images\nfrom serving.client import Client"),
        ("serving.api.service", "import bentoml\nfrom serving.engine import generation"),
    ],
)
def test_an_import_along_the_arrows_is_not_found(module: str, source: str):
    assert violations(source, module) == []


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("serving", TRAINING_ONLY),
        ("serving.engine", TRAINING_ONLY | HTTP | {"httpx2", "serving.api"}),
        ("serving.client", TRAINING_ONLY | HTTP | {"onnxruntime", "serving.engine"}),
        (
            "serving.api.server",
            TRAINING_ONLY | {"bentoml", "prometheus_client"},
        ),  # it sets a variable for the latter first
        ("serving.api.worker", TRAINING_ONLY | {"bentoml"}),
        ("serving.bulk.command", TRAINING_ONLY | HTTP | {"ray", "pyarrow", "serving.api"}),
        ("serving.__main__", TRAINING_ONLY | HTTP | {"httpx2", "onnxruntime", "numpy"}),
    ],
)
def test_it_imports_where_what_it_does_without_is_absent(name: str, absent: set[str]):
    """A module, or every module of a room: each in this order, in one process."""
    modules = sorted(module for module in MODULES if within(module, name))
    code = (
        f"import importlib, sys\nsys.modules |= dict.fromkeys({absent})\nfor m in {modules}: importlib.import_module(m)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
