"""Starts load generators from tests: a process each, so that a client costs its server no more than it must.

Where there are several processors, the last is the generators' own and the others are the server's: `SERVERS`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

GENERATOR = Path(__file__).with_name("load_generator.py")
CPUS = sorted(os.sched_getaffinity(0)) if shutil.which("taskset") else []
SERVERS = ["taskset", "-c", ",".join(map(str, CPUS[:-1]))] if len(CPUS) > 1 else []
CLIENTS = ["taskset", "-c", str(CPUS[-1])] if len(CPUS) > 1 else []


class Load:
    """Requests for images under way; `options` are those of the generator. Ends with the block."""

    def __init__(self, port: int, **options: float | str):
        command = [*CLIENTS, sys.executable, str(GENERATOR), "--port", str(port)]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """No more requests; the replies to those that were sent are still awaited."""
        self._process.terminate()

    def report(self) -> dict[str, Any]:
        """Waits for the end and tells what came of the requests."""
        assert self._process.stdout is not None
        report = json.loads(self._process.stdout.read())
        report["statuses"] = {int(status): count for status, count in report["statuses"].items()}
        return report


def load(port: int, **options: float | str) -> dict[str, Any]:
    """A whole campaign, and what came of it."""
    with Load(port, **options) as running:
        return running.report()
