"""Hours of requests: memory and file descriptors stay where they were."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from faults.load import Load
from processes import worker
from server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

RATE = float(os.environ.get("SOAK_RATE", 40))  # requests a second
ESTABLISHED = "01"  # in proc(5)'s net/tcp
SECONDS = float(os.environ.get("SOAK_SECONDS", 0))  # instead of 20, or an hour where FAULTS=full
REQUEST = b'POST /v1/sample HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"n": 1}'
REQUESTS = [
    ("POST", "/v1/sample", {"model": "tiny-cgan", "n": 3, "labels": 4}, "application/zip"),
    ("POST", "/v1/sample", {"model": "tiny-style", "n": 64, "truncation": 0.5, "scale": 4}, "image/webp"),
    ("POST", "/v1/digits", {"digits": "2026"}, "application/json"),
    ("POST", "/v1/interpolate", {"keyframes": [1, 2], "frames": 16}, "image/gif"),
    ("POST", "/v1/style-mix", {"rows": [1, 2], "columns": [3]}, "image/jpeg"),
    ("POST", "/v1/sample", {"n": 0}, "*/*"),
    ("POST", "/v1/sample", {"n": 1}, "text/html"),
    ("GET", "/v1/models", None, "*/*"),
    ("GET", "/metrics", None, "*/*"),
]


def samples(server: Server) -> tuple[float, int, int]:
    """Resident MiB, open file descriptors, and how many of them are connections that a client has open, too."""
    pid = worker(server.process.pid)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    connections = sum(row[3] == ESTABLISHED and row[1].endswith(f":{server.port:04X}") for row in table)
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, descriptors, connections


def wander(server: Server, stop: threading.Event) -> None:
    """One client that asks for everything, for new images and unknown paths, and hangs up now and then."""
    rng = random.Random(7)
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        while not stop.wait(0.02):
            method, path, body, accept = rng.choice(REQUESTS)
            client.request(method, path, json=body, headers={"Accept": accept})
            client.get(f"/v1/images/tiny-dcgan/{rng.randrange(2**53)}/0.png")
            client.get(f"/nowhere/{rng.random()}")
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(
                    b"POST /v1/sample HTTP/1.1\r\nContent-Type: application/json\r\nContent-Le"[: rng.randrange(80)]
                )


def test_memory_and_descriptors_stay_where_they_were(
    repository_folder: Path, tmp_path: Path, full: bool, tell: Callable[[str], None]
):
    seconds = SECONDS or (3600 if full else 20)
    found: list[tuple[float, float, int, int]] = []
    stop = threading.Event()
    with serving(repository_folder, tmp_path / "log.txt") as server:
        wanderer = threading.Thread(target=wander, args=(server, stop))
        with Load(server.port, rate=RATE, seconds=seconds + 60, images=16, fresh=4) as clients:
            wanderer.start()
            began = time.monotonic()
            while (now := time.monotonic() - began) < seconds:
                found.append((now, *samples(server)))
                time.sleep(0.2)
            stop.set()
            wanderer.join()
            clients.stop()
            answered = clients.report()
    assert set(answered["statuses"]) == {200} and answered["lost"] == 0
    times, memory, descriptors, connections = np.array(found)[
        len(found) * 2 // 5 :
    ].T  # buffers and threads are made at first
    (slope, level), covariance = np.polyfit(times - times[0], memory, 1, cov=True)
    growth = slope * (times[-1] - times[0])
    first, last = np.array_split(descriptors - connections, 2)
    tell(f"soak, {seconds:.0f} s: {level:.1f} MiB, {3600 * slope:+.2f} +- {3600 * covariance[0, 0] ** 0.5:.2f} MiB/h "
         f"({growth:+.2f} MiB in the last {times[-1] - times[0]:.0f} s); descriptors {np.median(first):.0f}, then "
         f"{np.median(last):.0f}, beside {np.median(connections):.0f} connections; "
         f"{answered['sent']} requests of the load")  # fmt: skip
    assert growth < 4
    assert abs(np.median(last) - np.median(first)) <= 2
