"""`python -m serving serve`: its start, TLS, and its end."""

import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

import pictures
from processes import wait
from server import ROOT, Server, free_port, serve, serving


def failed(models: Path, port: int, *options: str) -> str:
    """The output of a start that must fail with exit code 1."""
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
    (line,) = failed(models, free_port()).splitlines()
    assert "tiny-style" in line and "mapping.onnx" in line and "sha256" in line


def test_a_folder_without_models_is_one_line_and_no_server(tmp_path: Path):
    (line,) = failed(tmp_path, free_port()).splitlines()
    assert str(tmp_path) in line


def test_a_port_that_is_taken_is_one_line_and_no_server(repository_folder: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (line,) = failed(repository_folder, port).splitlines()
    assert f"127.0.0.1, port {port}" in line and "in use" in line


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_is_none_is_one_line_and_no_server(repository_folder: Path, host: str):
    (line,) = failed(repository_folder, free_port(), "--host", host).splitlines()
    assert f"cannot listen on {host}, port" in line and line.endswith(": this is not a host name.")


def test_the_command_that_it_prints_works(repository_folder: Path, tmp_path: Path):
    with serving(repository_folder, tmp_path / "log.txt") as server:
        log = server.logged("curl")  # it is printed once another than this test has seen the server ready
        (command,) = re.findall(r"^ +(curl .*)$", log, re.M)
        assert server.url in server.log.read_text()
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    assert pictures.decode((tmp_path / "images.png").read_bytes()).shape == (256, 256, 1)


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed certificate for 127.0.0.1, its key, another key, and a file that is neither."""
    folder = tmp_path_factory.mktemp("tls")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", folder / "key.pem"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl("req", "-x509", *new_key, "-days", "2", *names, "-out", folder / "certificate.pem")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "other.pem")
    (folder / "text.pem").write_text("certificate")
    return folder


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_it_serves_https_and_says_so(repository_folder: Path, tmp_path: Path, tls: Path, workers: str):
    options = ["--ssl-certificate", str(tls / "certificate.pem"), "--ssl-key", str(tls / "key.pem")]
    port, log = free_port(), tmp_path / "log.txt"
    command = serve(repository_folder, port, *options, "--workers", workers)
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True)
    server = Server(process, port, log)
    try:
        assert f"serves images at https://127.0.0.1:{port}" in server.logged("curl https://")
        trusted = ssl.create_default_context(cafile=tls / "certificate.pem")
        with httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
            assert client.get("/readyz").status_code == 200
            image = client.post("/v1/sample", json={"model": "tiny-dcgan", "seed": 7})
            assert pictures.decode(image.content).shape == (16, 16, 1)
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx2.get(f"https://127.0.0.1:{port}/livez")
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(f"http://127.0.0.1:{port}/livez")
        assert server.stop() == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("certificate.pem", None, "`--ssl-certificate` and `--ssl-key` must be given together."),
        (None, "key.pem", "`--ssl-certificate` and `--ssl-key` must be given together."),
        ("none.pem", "key.pem", "No such file or directory"),
        ("certificate.pem", "other.pem", "not a certificate and its key in PEM"),
        ("text.pem", "key.pem", "not a certificate and its key in PEM"),
        ("certificate.pem", "text.pem", "not a certificate and its key in PEM"),
    ],
)
def test_wrong_tls_files_are_one_line_and_no_server(
    repository_folder: Path, tls: Path, certificate: str | None, key: str | None, reason: str
):
    files = {"--ssl-certificate": certificate, "--ssl-key": key}
    options = [word for option, name in files.items() if name for word in (option, str(tls / name))]
    (line,) = failed(repository_folder, free_port(), *options).splitlines()
    assert line.startswith("ganymede: ") and reason in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_it_answers_requests_in_flight_and_ends_cleanly(
    repository_folder: Path, tmp_path: Path, number: signal.Signals, workers: str
):
    with serving(repository_folder, tmp_path / "log.txt", "--workers", workers) as server:
        with ThreadPoolExecutor(1) as pool:
            body = {"model": "tiny-style", "n": 256, "scale": 16}  # 4096 x 4096: packing them takes a while
            reply = pool.submit(httpx2.post, f"{server.url}/v1/sample", json=body, timeout=30)
            wait(lambda: server.metric("ganymede_requests_in_flight") == 2, 20)  # and this one
            assert server.stop(number) == 0
            assert reply.result().status_code == 200
            assert pictures.decode(reply.result().content).shape == (4096, 4096, 3)
        assert "Traceback" not in server.log.read_text()
        with pytest.raises(ProcessLookupError):  # no process of its group is left
            os.killpg(server.process.pid, 0)
