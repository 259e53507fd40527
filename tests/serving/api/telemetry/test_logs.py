"""What is logged: JSON with the request id for machines, lines for people, and never an end of line from outside."""

import io
import json
import logging
import os
import pty
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

from server import ROOT, Server, free_port, serve
from serving.api.telemetry import logs

Serve = Callable[..., AbstractContextManager[Server]]


def lines(server: Server, *texts: str) -> list[dict]:
    return [json.loads(line) for line in server.logged(*texts).splitlines() if line.startswith("{")]


def test_a_request_is_a_line_of_json_with_its_id(server: Server, http: httpx2.Client):
    http.post("/v1/sample", json={"n": 3}, headers={"X-Request-Id": "test-logs-1"})
    http.post("/v1/sample", json={"n": 0}, headers={"X-Request-Id": "test-logs-2"})
    found = lines(server, "test-logs-1", "test-logs-2")
    good, bad = (line for line in found if line.get("request_id", "").startswith("test-logs-"))
    assert good["message"] == "POST /v1/sample 200" and good["route"] == "/v1/sample"
    assert (good["level"], good["logger"], good["client"]) == ("info", "ganymede.access", "127.0.0.1")
    assert (good["status"], good["images"]) == (200, 3) and 0 < good["ms"] < 10_000
    assert good["time"].endswith("Z") and "T" in good["time"]
    assert (bad["status"], bad["code"]) == (422, "invalid-request")


def test_every_line_is_json_but_the_words_of_welcome(server: Server, http: httpx2.Client):
    http.get("/none%0a%7b%22level%22%3a%22forged%22%7d")
    text = server.logged("/none\\n")
    assert "/none\\n" in text
    assert not [line for line in lines(server) if line["level"] == "forged"]
    welcome = [line for line in text.splitlines() if line and not line.startswith("{")]
    assert len(welcome) <= 3, welcome


def test_health_is_not_logged(server: Server, http: httpx2.Client):
    http.get("/readyz", headers={"X-Request-Id": "test-logs-health"})
    assert "test-logs-health" not in server.log.read_text()


def test_a_level_leaves_out_what_went_well(serve: Serve):
    with serve(GANYMEDE_LOG_LEVEL="warning") as server:
        httpx2.post(f"{server.url}/v1/sample", json={"n": 256}, headers={"X-Request-Timeout": "0.0001"})
        httpx2.post(f"{server.url}/v1/sample", json={})
        (line,) = lines(server, "deadline-exceeded")
        assert (line["level"], line["status"], line["code"]) == ("warning", 504, "deadline-exceeded")


def test_a_fault_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json())
    logger = logging.Logger("ganymede")
    logger.addHandler(handler)
    try:
        raise RuntimeError("é\nbroken")
    except RuntimeError:
        logger.exception("failed", extra={logs.FIELDS: {"request_id": "7"}})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found["request_id"] == "7" and "RuntimeError: é\nbroken" in found["exception"]


@pytest.mark.slow
def test_on_a_terminal_it_is_plain_text(repository_folder: Path):
    ours, theirs = pty.openpty()
    port = free_port()
    process = subprocess.Popen(
        serve(repository_folder, port), cwd=ROOT, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL
    )
    os.close(theirs)
    try:
        text, deadline = b"", time.monotonic() + 60
        while b"Ctrl-C" not in text and time.monotonic() < deadline:
            text += os.read(ours, 65536)
        httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers={"X-Request-Id": "terminal"})
        while b"terminal" not in text and time.monotonic() < deadline:
            text += os.read(ours, 65536)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours)
    assert b" INFO GET /v1/models 200 in " in text and b"[terminal]" in text and b'{"time"' not in text
