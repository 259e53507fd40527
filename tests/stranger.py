"""A server that answers as it is told, byte for byte: what is no Ganymede server, or a proxy before one."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ECHO = b"echoed-id"  # in an answer, the id of the request that it answers


@dataclass
class Stranger:
    """Answers each connection's request with the next of `answers`, and ends the connection."""

    url: str
    answers: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)  # as they came, head and body


@contextmanager
def listening() -> Iterator[Stranger]:
    """A stranger on a free port."""

    def request(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def answer() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                if stopped.is_set():
                    return
                found.requests.append(request(connection))
                if found.answers:
                    sent = re.search(rb"(?i)x-request-id: (\S+)", found.requests[-1])
                    connection.sendall(found.answers.pop(0).replace(ECHO, sent[1] if sent else b""))

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Stranger(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer)
        thread.start()
        yield found
        stopped.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


def raw(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A reply, with its length unless that is -1; one that succeeds has the id of its request unless given."""
    if status == "200 OK" and not any(header.lower().startswith("x-request-id") for header in headers):
        headers = (*headers, f"X-Request-Id: {ECHO.decode()}")
    headers = (*headers, "Connection: close")  # as it does: the next call must not find the connection half closed
    lines = [f"HTTP/1.1 {status}", *([] if length == -1 else [f"Content-Length: {length or len(body)}"]), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
