"""Servers of the benchmark: how to install and start each one, and which requests it accepts."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import ROOT

ENVIRONMENTS = ROOT / ".bench"  # a virtual environment for each peer; git ignores it
# Every peer has the same versions of ONNX Runtime and the PNG encoder.
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
    """Server and its virtual environment. A server without `packages` runs in the current environment.

    `command` holds the arguments of the environment's Python. `{port}` and `{models}` are filled in.
    """

    name: str
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()
    python: str = "3.11"  # version or path of the Python of its environment
    environment: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT  # checkout whose code it runs
    repository: bool = False  # serves all models of a repository; a request names the model
    arrays: bool = False  # accepts requests for several images
    triton: bool = False  # uses the Open Inference Protocol (KServe v2)

    @property
    def interpreter(self) -> Path:
        return ENVIRONMENTS / self.packages[0].partition("[")[0].partition("=")[0] / "bin" / "python"

    def install(self) -> None:
        """Create the environment unless it has these packages already. Raises CalledProcessError if uv fails."""
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
        """Start the server on `port` of 127.0.0.1 in a new process group. Do not wait until it is ready."""
        python = str(self.interpreter) if self.packages else sys.executable
        environment = (
            os.environ
            | self.environment
            | {
                "MODEL": str(model),
                "PORT": str(port),
                "PYTHONPATH": str(self.root),
                "BENTOML_DO_NOT_TRACK": "True",
                "RAY_USAGE_STATS_ENABLED": "0",
            }
        )
        command = [python, *(part.format(port=port, models=model.parent) for part in self.command)]
        with log.open("wb") as stream:
            return subprocess.Popen(
                command, stdout=stream, stderr=stream, cwd=self.root, env=environment, start_new_session=True
            )


PEERS = "benchmarks.serving.peers"
FASTAPI = ("fastapi==0.165.0", "uvicorn==0.54.0")
DEBIAN = "/usr/bin/python3.11"  # Triton's binary needs the system's Python
GANYMEDE = Server(
    "Ganymede",
    ("-m", "serving", "serve", "--port", "{port}", "--models", "{models}"),
    repository=True,
    arrays=True,
)

SERVERS = {
    server.name: server
    for server in (
        GANYMEDE,
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


def older(revision: str, checkout: Path) -> Server:
    """Return the server of an older revision of the project, whose files are in `checkout`."""
    return replace(GANYMEDE, name=f"Ganymede, {revision}", root=checkout)
