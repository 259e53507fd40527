"""What each part of `serving` needs to be imported: never torch, and the client and the engine little else."""

import subprocess
import sys

import pytest

from server import ROOT

BLOCK = """
import sys, importlib
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
importlib.import_module({module!r})
"""
TRAINING = {"torch", "torchvision", "onnx", "onnxscript", "torch_fidelity", "training"}
HTTP = {"bentoml", "granian", "starlette", "uvicorn", "pydantic", "prometheus_client"}
ENGINE = ["latents", "repository", "runtime", "generation", "batcher", "images", "encoding"]


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("serving.api.service", TRAINING),
        ("serving.api.server", TRAINING | {"bentoml", "prometheus_client"}),  # it sets a variable for the latter first
        ("serving.api.worker", TRAINING | {"bentoml"}),
        ("serving.__main__", TRAINING | HTTP | {"httpx2", "onnxruntime", "numpy"}),
        ("serving.client", TRAINING | HTTP | {"onnxruntime", "serving.engine"}),
        ("serving.bulk.command", TRAINING | HTTP | {"ray", "pyarrow", "serving.api"}),
        *((f"serving.engine.{name}", TRAINING | HTTP | {"httpx2"}) for name in ENGINE),
    ],
)
def test_a_module_imports_without(module: str, blocked: set[str]):
    code = BLOCK.format(blocked=sorted(blocked), module=module)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
