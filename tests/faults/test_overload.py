"""More requests than can be served: as many are served as ever, the others are told so at once, and none is lost.

FAULTS=full python -m pytest tests/faults/test_overload.py    a minute each; holds the figures to what is promised

That is promised of requests for 64 images. The fewer a request asks for, the more of a processor it takes to refuse
one: for 16 and 1 the figures are told, and the counts held.

Figures of a machine with other work on it say little, so the short form holds the counts alone.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from faults.load import SERVERS, load
from faults.wire import Held
from processes import wait, worker
from server import ROOT, Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

TIMES = (1, 2, 5)  # the capacity
FRESH = 20  # one in so many requests has a connection of its own
CLOSED = 32  # clients of the closed loop that shows the capacity
KEPT = 0.9  # of the peak, however much is asked
PROMPT_MS = 50  # in which a refusal is told
SECONDS = float(os.environ.get("OVERLOAD_SECONDS", 0))  # instead of 3 each, or a minute where FAULTS=full
QUEUE = 2048  # images, of the default `GANYMEDE_MAX_QUEUE`


def counted(server: Server) -> dict[int, float]:
    """Replies of /v1/sample by status, as the server counts them."""
    labels = {"route": "/v1/sample", "method": "POST"}
    return {status: server.metric("ganymede_requests_total", status=str(status), **labels) for status in (200, 503)}


def idle(server: Server) -> bool:
    return server.metric("ganymede_requests_in_flight") == 1  # this one


def figures(name: str, found: dict[str, Any]) -> str:
    served, accepted, refused = found["images_per_second"], found["accepted_ms"], found["refused_ms"]
    return (
        f"{name:>12}: {served:.0f} images/s; {found['statuses']}; accepted ms {accepted}, refused {refused}; "
        f"Retry-After {found['retry_after']}; {found['client_cpu']:.0%} of a CPU to ask"
    )


@pytest.mark.parametrize("images", [64, 16, 1])
def test_as_much_is_served_as_ever_and_the_rest_is_told_at_once(
    tmp_path: Path, images: int, full: bool, tell: Callable[[str], None]
):
    if images < 64 and not full:
        pytest.skip("the server is kept busy by HTTP there, and the machine by this; FAULTS=full")
    seconds = SECONDS or (60 if full else 3)
    settings = {"GANYMEDE_DRAIN": "0", "GANYMEDE_LOG_LEVEL": "warning"}
    options = {"model": "dcgan-mnist", "images": images}
    with serving(ROOT / "models", tmp_path / "log.txt", env=settings, under=SERVERS) as server:
        capacity = load(server.port, seconds=10 if full else 2, clients=CLOSED, **options)
        tell("\n" + figures("closed loop", capacity))
        descriptors = Held.by(worker(server.process.pid)).descriptors
        results = {}
        for times in TIMES:
            before, rate = counted(server), times * capacity["requests_per_second"]
            results[times] = found = load(server.port, seconds=seconds, rate=rate, fresh=FRESH, **options)
            tell(figures(f"{times} times", found))
            wait(lambda: idle(server), 10)
            after = counted(server)
            assert (found["lost"], found["broken"]) == (0, 0)
            assert found["statuses"].keys() <= {200, 503} and sum(found["statuses"].values()) == found["sent"]
            assert {status: after[status] - before[status] for status in found["statuses"]} == found["statuses"]
            assert all(int(told) >= 1 for told in found["retry_after"]), found["retry_after"]
        assert httpx2.post(f"{server.url}/v1/sample", json={"n": 256}).status_code == 200
        wait(lambda: Held.by(worker(server.process.pid)).descriptors <= descriptors, 10)
        assert "Traceback" not in server.log.read_text()
    if full and images == 64:
        assert results[5]["statuses"].get(503, 0) > 0, "it was no overload"
        peak = max(found["images_per_second"] for found in (capacity, *results.values()))
        for times, found in results.items():
            assert found["images_per_second"] >= KEPT * peak, f"{times} times the capacity"
            assert found["accepted_ms"]["p99"] <= 1000 * (3 * QUEUE / peak + 1), f"{times} times the capacity"
            assert not found["refused_ms"] or found["refused_ms"]["p99"] <= PROMPT_MS, f"{times} times the capacity"
