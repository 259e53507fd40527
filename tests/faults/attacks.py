"""Attacks on the HTTP of a server: each opens some connections and gives the statuses of what was answered.

They need no more than a port. Where they are random, they are so from `rng` alone.
"""

import contextlib
import random
import selectors
import socket
import time
from collections.abc import Callable, Iterator

from faults.wire import AT_ONCE, connect, receive, send, statuses, talk

BODY = b'{"model": "tiny-dcgan", "seed": 7}'
HEAD = b"POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

Attack = Callable[[int, int, random.Random], Iterator[int]]  # port, how much of it, randomness -> statuses


def nonsense(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """No HTTP at all: NULs, TLS, HTTP/2, other protocols, anything."""
    fixed = [b"\0" * 4096, b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 5000]
    fixed += [b"*1\r\n$4\r\nPING\r\n", b"EHLO x\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 70_000]
    for i in range(amount):
        yield from talk(port, fixed[i] if i < len(fixed) else rng.randbytes(rng.randint(1, 3000)), patience=0.05)


def damaged_requests(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """Good requests with bytes taken out, put in or changed, in packets of any size."""
    for _ in range(amount):
        request = bytearray(rng.choice([GOOD, GET, GOOD + GET, CHUNKED + b"5\r\n" + BODY[:5] + b"\r\n"]))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(request))
            request[at : at + rng.randint(0, 3)] = rng.choice([b"", b"\0", b"\r\n", b"\n", b":", rng.randbytes(3)])
        cut = rng.randrange(len(request) + 1)
        yield from talk(port, bytes(request[:cut]), bytes(request[cut:]), patience=0.05)


def wrong_heads(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """What the standard forbids or leaves open: lengths that disagree, names that are none, other versions."""
    fields = [
        *(f"Content-Length: {length}" for length in ("-1", "+5", "1e3", "0x10", "5, 5", "5, 6", "", "9" * 30, "٣")),
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        *(
            f"Transfer-Encoding: {coding}"
            for coding in ("gzip", "chunked, gzip", "identity", "chunked\x0b", "xchunked")
        ),
        "No colon",
        " Folded: x",
        "X: a\r\n folded",
        "X: a\0b",
        "X: \x7f\x01",
        "Spaced : x",
        "\u00e9: x",
        ": x",
        "Expect: 100-continue",
        "Expect: miracles",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: close, keep-alive",
        "Host: x\r\nHost: y",
    ]
    lines = ["GET / HTTP/1.1", "CONNECT x:443 HTTP/1.1", "GET /%00%ff%zz HTTP/1.1", "GET * HTTP/1.1", "GET / HTTP/1.0"]
    lines += ["GET http://other/livez HTTP/1.1", "GET //livez HTTP/1.1", "get / HTTP/1.1", "GET / HTTP/2.0", "GET  /  "]
    lines += ["GET /../../etc/passwd HTTP/1.1", "GET /docs/..%2f..%2fetc%2fpasswd HTTP/1.1", "POST /v1/sample HTTP/1.1"]
    for _ in range(amount):
        line, field = rng.choice(lines), rng.choice(fields)
        yield from talk(port, f"{line}\r\nHost: x\r\n{field}\r\n\r\n".encode() + BODY[:5], patience=0.05)


def half_requests(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """Requests that end somewhere, with an orderly close or a reset, and some whose answer nobody takes."""
    for _ in range(amount):
        with connect(port) as connection:
            if rng.random() < 0.7:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            requests = GOOD * rng.choice([1, 5])
            send(connection, [requests[: rng.randint(0, len(requests))]])
    yield from ()


def tiny_chunks(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """A body of so many chunks of one byte: up to 64 KiB it is read, and beyond that refused."""
    room = max(0, min(amount, 60_000) - len(BODY))
    for padding in (room, amount):
        body = b" " * padding + BODY
        yield from talk(port, CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n", patience=5)
    for _ in range(amount // 10_000):  # each in a packet of its own
        packets = (b"1;%s\r\n \r\n" % rng.randbytes(8).hex().encode() for _ in range(2000))
        yield from talk(port, CHUNKED, *packets, b"2\r\n{}\r\n0\r\n\r\n", patience=5)


def broken_chunks(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    sizes = [
        b"-1",
        b"g",
        b"",
        b"0x5",
        b"5 5",
        b"f" * 17,
        b"f" * 9000,
        b"\0",
        b"5;" + b"x" * 70_000,
        b"00000005",
        b"5\n",
    ]
    ends = [b"\r\n", b"\n", b"", b"\r\n\r\n", b"\r\nX: y"]
    for i in range(amount):
        size, end = sizes[i] if i < len(sizes) else rng.choice(sizes), rng.choice(ends)
        yield from talk(port, CHUNKED + size + b"\r\n" + BODY[:5] + end + b"0\r\n\r\n", patience=0.05)


def endless_heads(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """Request lines, headers, their number, trailers and extensions of chunks that do not stop by themselves."""
    begun = [
        b"GET /",
        b"GET / HTTP/1.1\r\nX: ",
        b"GET / HTTP/1.1\r\n",
        CHUNKED + b"0\r\n",
        CHUNKED + b"1;",
        b"GET",
        b"\r\n",
    ]
    more = [b"x" * 8192, b"X-%d: y\r\n" % rng.randrange(10**6) * 500, b" " * 8192]
    for i in range(amount):
        start = begun[i] if i < len(begun) else rng.choice(begun)
        yield from talk(port, start, *[rng.choice(more)] * 128, patience=1)


def pipelines(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """So many requests in one packet: all are answered, in order."""
    kinds = [(GOOD, 200), (GET, 200), (GET.replace(b"livez", b"none"), 404), (GOOD.replace(b"dcgan", b"other"), 404)]
    chosen = [rng.choice(kinds) for _ in range(amount)]
    with connect(port) as connection:
        sent, received = b"".join(request for request, _ in chosen), bytearray()
        with selectors.DefaultSelector() as selector:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and received.count(b"HTTP/1.1 ") < amount:
                for _, events in selector.select(1):
                    if events & selectors.EVENT_READ:
                        received += connection.recv(1 << 16)
                    elif sent:
                        sent = sent[connection.send(sent) :]
                        if not sent:
                            selector.modify(connection, selectors.EVENT_READ)
            connection.setblocking(True)
        received += receive(connection)
    answered = statuses(bytes(received))
    assert answered == [status for _, status in chosen], f"{len(answered)} of {amount} were answered"
    yield from answered


def slow_senders(port: int, amount: int, rng: random.Random) -> Iterator[int]:
    """So many at once, a byte at a time, in a head, in a body or not at all. All are hung up on in time."""
    with contextlib.ExitStack() as stack:
        waiting = {stack.enter_context(connect(port)): b"" for _ in range(amount)}
        for i, connection in enumerate(waiting):
            send(connection, [(b"", GET[:20], HEAD + b"Content-Length: 500\r\n\r\n")[i % 3]])
            connection.setblocking(False)
        talking = [connection for i, connection in enumerate(waiting) if i % 3]
        deadline = time.monotonic() + 20
        while waiting and time.monotonic() < deadline:
            time.sleep(0.1)
            for connection in talking:
                with contextlib.suppress(OSError):
                    connection.send(b" ")
            for connection in list(waiting):
                try:
                    part = connection.recv(1 << 16)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    part = b""
                waiting[connection] += part
                if not part:
                    yield from statuses(waiting.pop(connection))
        assert not waiting, f"{len(waiting)} of {amount} slow senders are still connected: {list(waiting.values())[:3]}"


SHORT: dict[Attack, int] = {  # how much of each is done beside other tests
    nonsense: 100,
    damaged_requests: 150,
    wrong_heads: 100,
    half_requests: 300,
    tiny_chunks: 100_000,
    broken_chunks: 40,
    endless_heads: 10,
    pipelines: 300,
    slow_senders: 90,
}
