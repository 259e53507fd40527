"""Starts the real server as a process of its own, on a free port, and stops it."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent
START_SECONDS = 60  # uncompiled imports on a busy machine take 10
STOP_SECONDS = 20


@dataclass
class Server:
    """A running server. `log` is what it prints, on either stream."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks the process to end and returns its exit code; kills it where it does not.

        SIGINT and SIGHUP are a terminal's.
        """
        if self.process.poll() is None and number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(self.process.pid, number)  # a terminal sends it to the workers, too
        elif self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise

    def logged(self, *texts: str) -> str:
        """What it has printed, once all of `texts` are there: a request's line follows its reply by a moment."""
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            log = self.log.read_text()
            if all(text in log for text in texts) or time.monotonic() > deadline:
                return log
            time.sleep(0.01)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server was not ready in {START_SECONDS} s:\n{self.log.read_text()}")
            time.sleep(0.05)

    def wait_for_workers(self, count: int) -> None:
        """The first is enough to be ready."""
        deadline = time.monotonic() + START_SECONDS
        while self.metric("ganymede_ready_workers") != count:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"not all of {count} workers were ready in {START_SECONDS} s:\n{self.log.read_text()}"
                )
            time.sleep(0.1)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self._get("/metrics"))
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def serve(repository: Path, port: int, *options: str) -> list[str]:
    """The command that serves a model repository."""
    return [sys.executable, "-m", "serving", "serve", "--port", str(port), "--models", str(repository), *options]


@contextmanager
def serving(
    repository: Path, log: Path, *options: str, env: Mapping[str, str] | None = None, under: Sequence[str] = ()
) -> Iterator[Server]:
    """That command on a free port, once it is ready and until the block ends; `under` is what stands before it."""
    port = free_port()
    with running([*under, *serve(repository, port, *options)], port, log, env=env) as server:
        yield server


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[Server]:
    """A command that serves on `port`, once it is ready and until the block ends."""
    environment = os.environ | {"BENTOML_DO_NOT_TRACK": "True"} | dict(env or {})
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=cwd, env=environment, start_new_session=True
        )
    server = Server(process, port, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A port for a server that a test is about to start.

    Below those that Linux gives to outgoing connections (32,768 and up), of which tests beside this one open many.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
