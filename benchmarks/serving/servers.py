"""The servers that are compared: how each is installed, started and asked."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import ROOT

ENVIRONMENTS = ROOT / ".bench"  # a virtual environment for each peer; git ignores it
# Every peer has the same ONNX Runtime and PNG encoder, to the byte.
MODEL = [
    f"onnxruntime-gpu=={version('onnxruntime-gpu')}",
    "numpy",
    f"pillow=={version('pillow')}",
    f"zlib-ng=={version('zlib-ng')}",
    "uvloop==0.23.0",
    "httptools==0.9.0",
]


@dataclass(frozen=True)
class Server:
    """`packages` make its environment, and none means this one's; `command` follows the Python of it."""

    name: str
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()
    python: str = "3.11"  # what its environment is made with
    environment: dict[str, str] = field(default_factory=dict)
    arrays: bool = False  # it takes requests for many images
    triton: bool = False  # it speaks KServe's protocol

    @property
    def interpreter(self) -> Path:
        return ENVIRONMENTS / self.packages[0].partition("[")[0].partition("=")[0] / "bin" / "python"

    def install(self) -> None:
        """Makes its environment where there is none with these packages. Raises CalledProcessError; uv said why."""
        if not self.packages:
            return
        folder = self.interpreter.parents[1]
        wanted, installed = "\n".join([*self.packages, *MODEL]), folder / "installed.txt"
        if installed.exists() and installed.read_text() == wanted:
            return
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", self.python, str(folder)], check=True)
        command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(self.interpreter)]
        try:
            subprocess.run([*command, *self.packages, *MODEL], check=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(folder)
            raise
        installed.write_text(wanted)

    def start(self, model: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
        """A process group of its own, which answers on `port` of 127.0.0.1 some time later."""
        python = str(self.interpreter) if self.packages else sys.executable
        environment = (
            os.environ
            | self.environment
            | {
                "MODEL": str(model),
                "GANYMEDE_MODELS": str(model.parent),
                "PORT": str(port),
                "PYTHONPATH": str(ROOT),
                "BENTOML_DO_NOT_TRACK": "True",
                "RAY_USAGE_STATS_ENABLED": "0",
            }
        )
        command = [python, *(part.replace("{port}", str(port)) for part in self.command)]
        with log.open("wb") as stream:
            return subprocess.Popen(
                command, stdout=stream, stderr=stream, cwd=ROOT, env=environment, start_new_session=True
            )


PEERS = "benchmarks.serving.peers"
FASTAPI = ("fastapi==0.165.0", "uvicorn==0.54.0")
DEBIAN = "/usr/bin/python3.11"  # Triton's binary wants a Python of the system's

SERVERS = {
    server.name: server
    for server in (
        Server("Ganymede", ("-m", "serving", "serve", "--port", "{port}"), arrays=True),
        Server("FastAPI, batcher", ("-m", f"{PEERS}.fastapi_app"), FASTAPI, environment={"BATCHER": "1"}, arrays=True),
        Server("FastAPI, lock", ("-m", f"{PEERS}.fastapi_app"), FASTAPI, arrays=True),
        Server(
            "Triton",
            ("-m", f"{PEERS}.triton_app"),
            ("nvidia-pytriton==0.7.0",),
            python=DEBIAN if Path(DEBIAN).exists() else "3.11",
            triton=True,
        ),
        Server("LitServe", ("-m", f"{PEERS}.litserve_app"), ("litserve==0.2.19", *FASTAPI)),
        Server("Ray Serve", ("-m", f"{PEERS}.ray_app"), ("ray[serve]==2.60.0",)),
        Server(
            "BentoML, adaptive",
            ("-m", "bentoml", "serve", f"{PEERS}.adaptive:Adaptive", "--port", "{port}", "--host", "127.0.0.1"),
        ),
    )
}
