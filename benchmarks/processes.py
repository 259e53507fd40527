"""Processes of the servers that are measured."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_SECONDS = 60


def serve(port: int) -> list[str]:
    """Return the command that serves `models/`, as `make serve` does."""
    return [sys.executable, "-m", "serving", "serve", "--port", str(port)]


@contextmanager
def running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Start a server on `port` of 127.0.0.1, wait until it is ready, and yield its process id.

    stdout and stderr go to `log`. Raises RuntimeError if the server ends or is not ready within START_SECONDS.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=stream, stderr=stream)
    try:
        ends = time.monotonic() + START_SECONDS
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(
                    f"`{' '.join(command)}` ended or is not ready after {START_SECONDS} s. Its log:\n{log.read_text()}"
                )
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
