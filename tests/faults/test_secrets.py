"""An API key is nowhere but in the request that bears it: in no log at any level, and in no reply."""

import base64
import contextlib
import hashlib
import os
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from server import serving

pytestmark = pytest.mark.slow

KEY = "c0ffee" * 8
WRONG = "decade" * 8
PATHS = ["/v1/models", "/v1/models/none", "/v1/images/tiny-dcgan/7/0.png", "/v1/images/x/y/z.png", "/metrics", "/docs",
         "/openapi.json", "/schema.json", "/readyz", "/nowhere", "/"]  # fmt: skip


def forms(key: str) -> list[str]:
    """A key as it may turn up."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return [key, key[:20], base64.b64encode(key.encode()).decode()[:20], digest]


@pytest.mark.parametrize("level", ["debug"])
def test_a_key_is_in_no_log_and_no_reply(repository_folder: Path, tmp_path: Path, level: str):
    keys, log = tmp_path / "keys.txt", tmp_path / "log.txt"
    keys.write_text(f"{hashlib.sha256(KEY.encode()).hexdigest()} alice\n")
    settings = {"GANYMEDE_API_KEYS_FILE": str(keys), "GANYMEDE_LOG_LEVEL": level, "GANYMEDE_DRAIN": "0"}
    replies = []
    with serving(repository_folder, log, env=settings) as server, httpx2.Client(base_url=server.url) as client:
        for key in (KEY, WRONG):
            basic = base64.b64encode(f"alice:{key}".encode()).decode()
            for value in (f"Bearer {key}", f"bearer  {key}", f"Basic {basic}", key, f"Bearer {key}, {key}"):
                headers = {"Authorization": value, "X-Api-Key": key, "Cookie": f"key={key}"}
                replies += [client.get(path, headers=headers, params={"key": key}) for path in PATHS]
                replies += [client.post("/v1/sample", headers=headers, json=body) for body in ({}, {"n": 0})]
                replies.append(client.post("/v1/sample", headers=headers, content=b"{"))
                replies.append(client.request("TRACE", "/v1/sample", headers=headers))
        raw = b""
        for sent in (f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nnonsense\r\n\r\n", f"{KEY}\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(sent.encode())
                raw += connection.makefile("rb").read()
        keys.write_text(f"{KEY}\n")  # a mistake that is easily made
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 401
        assert server.stop() == 0
    assert {reply.status_code for reply in replies} >= {200, 401, 404, 405, 415, 422}
    told = log.read_text() + raw.decode() + "".join(f"{reply.headers}{reply.text}" for reply in replies)
    assert b"400" in raw and "401" in told
    assert [form for key in (KEY, WRONG) for form in forms(key) if form in told] == []
    assert os.environ.get("GANYMEDE_API_KEYS_FILE") is None


@pytest.mark.parametrize("listening", [False, True])
def test_what_opens_the_collector_of_traces_is_in_no_log(repository_folder: Path, tmp_path: Path, listening: bool):
    """Its key is a header or a part of its address. One collector cannot be reached, the other refuses."""
    log, collector = tmp_path / "log.txt", socket.socket()
    collector.bind(("127.0.0.1", 0))
    if listening:
        collector.listen()
        threading.Thread(target=refuse, args=(collector,), daemon=True).start()
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://alice:{KEY}@127.0.0.1:{collector.getsockname()[1]}",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={KEY},authorization=Bearer {WRONG}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "GANYMEDE_LOG_LEVEL": "debug",
        "GANYMEDE_DRAIN": "0",
    }
    with collector, serving(repository_folder, log, env=settings) as server:
        for _ in range(3):
            assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200
        deadline = time.monotonic() + 20
        while "Failed to export" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert server.stop() == 0
    said = log.read_text()
    assert "Failed to export" in said and "Traceback" not in said
    assert [form for key in (KEY, WRONG) for form in forms(key) if form in said] == []


def refuse(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection = listener.accept()[0]
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.close()
