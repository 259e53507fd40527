"""`python -m serving serve`: what it says at its start, and how it ends."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

import pictures
from server import ROOT, free_port, serve, serving


def refused(models: Path, port: int, *options: str) -> str:
    """What a start that must fail prints; exit code 1."""
    done = subprocess.run(
        serve(models, port, *options), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_file_that_was_changed_is_one_line_and_no_server(repository_folder: Path, tmp_path: Path):
    models = shutil.copytree(repository_folder, tmp_path / "models")
    file = models / "tiny-style" / "mapping.onnx"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    (line,) = refused(models, free_port()).splitlines()
    assert "tiny-style" in line and "mapping.onnx" in line and "sha256" in line


def test_a_folder_without_models_is_one_line_and_no_server(tmp_path: Path):
    (line,) = refused(tmp_path, free_port()).splitlines()
    assert str(tmp_path) in line


def test_a_port_that_is_taken_is_one_line_and_no_server(repository_folder: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (line,) = refused(repository_folder, port).splitlines()
    assert f"127.0.0.1, port {port}" in line and "in use" in line


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_cannot_be_one_is_one_line_and_no_server(repository_folder: Path, host: str):
    (line,) = refused(repository_folder, free_port(), "--host", host).splitlines()
    assert f"cannot listen on {host}, port" in line and line.endswith(": this is no host's name.")


def test_the_command_that_it_prints_works(repository_folder: Path, tmp_path: Path):
    with serving(repository_folder, tmp_path / "log.txt") as server:
        deadline = time.monotonic() + 10  # it is printed once another than this test has seen the server ready
        while "curl" not in server.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        (command,) = re.findall(r"^ +(curl .*)$", server.log.read_text(), re.M)
        assert server.url in server.log.read_text()
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    assert pictures.decode((tmp_path / "pictures.png").read_bytes()).shape == (256, 256, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_it_answers_what_is_in_flight_and_ends_without_a_trace(
    repository_folder: Path, tmp_path: Path, number: signal.Signals, workers: str
):
    with serving(repository_folder, tmp_path / "log.txt", "--workers", workers) as server:
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "tiny-style", "n": 256, "scale": 16}  # 4096 x 4096: packing them takes a while
            reply = pool.submit(httpx2.post, f"{server.url}/v1/sample", json=body, timeout=30)
            deadline = time.monotonic() + 20
            while "ganymede_requests_in_flight 2" not in httpx2.get(f"{server.url}/metrics").text:  # and this one
                assert time.monotonic() < deadline
            assert server.stop(number) == 0
            assert reply.result().status_code == 200
            assert pictures.decode(reply.result().content).shape == (4096, 4096, 3)
        assert "Traceback" not in server.log.read_text()
        with pytest.raises(ProcessLookupError):  # no process of its group is left, once the last has noticed
            for _ in range(50):
                os.killpg(server.process.pid, 0)
                time.sleep(0.1)
