"""Bytes over a connection as no client sends them, what comes back, and what a process holds meanwhile."""

import json
import re
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 0.3  # seconds without a byte after which nothing more is waited for
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def send(connection: socket.socket, parts: Iterable[bytes]) -> bool:
    """Whether all of it went; where not, the server hung up."""
    try:
        for part in parts:
            connection.sendall(part)
    except OSError:
        return False
    return True


def receive(connection: socket.socket, patience: float = PATIENCE) -> bytes:
    """What comes until the connection ends or nothing comes any more."""
    received = bytearray()
    try:
        while select.select([connection], [], [], patience)[0] and (part := connection.recv(1 << 16)):
            received += part
    except ConnectionResetError:
        pass
    return bytes(received)


def talk(port: int, *parts: bytes, patience: float = PATIENCE) -> list[int]:
    """The statuses of what is answered to these bytes, each packet sent by itself. Then the connection is reset."""
    with connect(port) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send(connection, parts)
        return statuses(receive(connection, patience))


def statuses(received: bytes) -> list[int]:
    """Of each reply in a stream of them. Every one must be well-formed, and an error a problem document.

    What is no HTTP is answered by the HTTP server: 400 or 431 without a body.
    """
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/1\.[01] ([1-5][0-9][0-9]) [A-Za-z -]+", first)
        assert end and status, f"this is no reply: {head[:200]!r}"
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        content, received = received[:length], received[length:]
        found.append(int(status[1]))
        if found[-1] in (400, 431) and not length:
            assert headers["connection"] == "close", head
        elif found[-1] >= 400:
            assert headers["content-type"] == "application/problem+json", head
            document = json.loads(content)
            assert (document["status"], document["request_id"]) == (found[-1], headers["x-request-id"])
    return found


@dataclass(frozen=True)
class Held:
    """What a process holds: resident memory in KiB, and open file descriptors."""

    resident: int
    descriptors: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        folder = Path("/proc", str(pid))
        resident = re.search(r"^VmRSS:\s+(\d+) kB$", (folder / "status").read_text(), re.M)
        assert resident is not None
        return cls(int(resident[1]), len(list((folder / "fd").iterdir())))

    def __str__(self) -> str:
        return f"{self.resident / 1024:.1f} MiB, {self.descriptors} descriptors"


def settled(pid: int, descriptors: int, seconds: float) -> Held:
    """What a process holds once it has at most so many descriptors, or when the time is over."""
    deadline = time.monotonic() + seconds
    while (held := Held.by(pid)).descriptors > descriptors and time.monotonic() < deadline:
        time.sleep(0.1)
    return held
