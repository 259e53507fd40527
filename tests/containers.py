"""Runs the image that GANYMEDE_IMAGE names as it should be run: hardened, and with podman.

On the host's network, since a test finds a free port there, and with few descriptors and processes, which a nested
podman may not raise.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from server import Server, free_port, running

IMAGE = os.environ.get("GANYMEDE_IMAGE", "")
PODMAN = ["podman", *(["--runtime", "runc"] if shutil.which("runc") else [])]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
LIMITS = ["--memory", "1g", "--cpus", "2", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
RUN = ["run", "--rm", "--pull", "never", "--log-driver", "none", *HARDENED, *LIMITS]


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PODMAN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}: {done.stderr}"
    return done


def inspect(image: str) -> dict[str, Any]:
    (document,) = json.loads(podman("image", "inspect", image).stdout)
    return document


def python(code: str) -> str:
    """What a program prints in a container of its own, without a network."""
    return podman(*RUN, "--network", "none", "--entrypoint", "python", IMAGE, "-c", code).stdout


class Container(Server):
    """A server whose process is `podman run`, which passes signals and the exit code on."""

    name: str

    def exec(self, code: str) -> str:
        return podman("exec", self.name, "python", "-c", code).stdout


@contextmanager
def contained(
    log: Path,
    *options: str,
    repository: Path | None = None,
    run: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Iterator[Container]:
    """The image, serving: its own models, or a repository from outside. `run`: further options of `podman run`."""
    port, name = free_port(), f"ganymede-test-{uuid.uuid4().hex[:12]}"
    command = [*PODMAN, *RUN, "--name", name, "--network", "host", *run]
    if repository is not None:
        command += ["--volume", f"{repository}:/models:ro", "--env", "GANYMEDE_MODELS=/models"]
    for variable, value in (settings or {}).items():
        command += ["--env", f"{variable}={value}"]
    try:
        with running([*command, IMAGE, "serve", "--port", str(port), *options], port, log) as server:
            container = Container(server.process, server.port, server.log)
            container.name = name
            yield container
    finally:
        podman("rm", "--force", "--ignore", "--time", "0", name, check=False)
