"""Bad HTTP: the server lives, serves others meanwhile, and holds no more memory or descriptors afterwards.

FAULTS=full python -m pytest tests/faults/test_sockets.py    some minutes, and memory after each round
"""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults import attacks
from faults.wire import Held, connect, receive, settled, statuses, talk
from processes import worker
from server import Server, serving

ROUNDS = 20  # of the full form
MOST_RESIDENT = 8 * 1024  # KiB more than after the first round
LONGEST = 2.0  # seconds that a good request may take, on a machine with other work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]


@pytest.fixture(scope="module")
def server(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    settings = {"GANYMEDE_READ_TIMEOUT": "1", "GANYMEDE_KEEP_ALIVE": "2", "GANYMEDE_DRAIN": "0"}
    with serving(repository_folder, tmp_path_factory.mktemp("server") / "log.txt", env=settings) as server:
        yield server


class Bystander(threading.Thread):
    """A client that sends a good request ten times a second and keeps count of what it waited."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self.waited: list[float] = []
        self.failure: BaseException | None = None
        self._port = port
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(0.1):
                self.waited.append(ask(self._port))
        except BaseException as error:
            self.failure = error

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def ask(port: int) -> float:
    """Seconds until a good request is answered with its image."""
    began = time.monotonic()
    with connect(port) as connection:
        connection.sendall(attacks.GOOD.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert statuses(receive(connection, patience=10)) == [200]
    return time.monotonic() - began


def test_bad_http_costs_nothing_that_lasts(server: Server, full: bool, tell: Callable[[str], None]):
    pid, rng = worker(server.process.pid), random.Random(5)
    answered: dict[str, Counter[int]] = {attack.__name__: Counter() for attack in attacks.SHORT}
    bystander = Bystander(server.port)
    bystander.start()
    held: list[Held] = []
    idle = Held.by(pid).descriptors
    tell("")
    for number in range(ROUNDS + 1 if full else 2):  # the first shows what the server needs for all this
        for attack, amount in attacks.SHORT.items():
            answered[attack.__name__].update(attack(server.port, amount, rng))
            assert ask(server.port) < LONGEST, attack.__name__
        held.append(settled(pid, idle + 1, 10))  # the bystander's may be open
        tell(f"after round {number}: {held[-1]}")
    bystander.stop()
    held[-1] = settled(pid, idle, 10)
    for name, found in answered.items():
        tell(f"{name}: {sum(found.values())} answers, {dict(sorted(found.items()))}")
    tell(f"others meanwhile: {len(bystander.waited)} requests, the longest {max(bystander.waited):.3f} s")
    assert not any(status >= 500 for found in answered.values() for status in found)
    assert max(bystander.waited) < LONGEST
    assert held[-1].descriptors <= idle
    assert held[-1].resident - held[0].resident < MOST_RESIDENT
    assert worker(server.process.pid) == pid and "Traceback" not in server.log.read_text()


def test_an_offer_of_another_protocol_is_passed_over(server: Server):
    """Of HTTP/2, say, by Java's client: the request has its body all the same, and so have those that follow."""
    for offer in (
        "h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMA",
        "websocket\r\nConnection: upgrade",
    ):
        offering = attacks.GOOD.replace(b"Host: x", f"Host: x\r\nUpgrade: {offer}".encode())
        assert talk(server.port, offering * 3 + attacks.GET, patience=1) == [200, 200, 200, 200]
    assert talk(server.port, offering.replace(b"tiny-dcgan", b"none-dcgan")) == [404]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("CONNECT example.org:443", 404), ("GET http://other/livez", 200), ("GET //livez", 404), ("GET http://[", 400)],
)
def test_a_target_that_is_no_path_is_answered(server: Server, line: str, expected: int):
    assert talk(server.port, f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) == [expected]


def test_a_header_in_several_lines_is_a_list(server: Server):
    """RFC 9110, section 5.3."""
    accepts = attacks.GOOD.replace(b"Host: x", b"Host: x\r\nAccept: text/html\r\nAccept: image/png")
    assert talk(server.port, accepts) == [200]
    held = (
        b'GET /v1/images/tiny-dcgan/7/0.png HTTP/1.1\r\nHost: x\r\nIf-None-Match: "other"\r\nIf-None-Match: *\r\n\r\n'
    )
    assert talk(server.port, held) == [304]
