"""`make audit`: what is known of the versions that a server installs, from a service that answers, or that none did."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from server import ROOT, free_port

ADVISORY = {
    "id": "PYSEC-2030-1",
    "modified": "2030-01-02T00:00:00Z",
    "published": "2030-01-01T00:00:00Z",
    "aliases": ["CVE-2030-1"],
    "summary": "A flaw.",
    "affected": [
        {
            "package": {"name": "pillow", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9999.1"}]}],
        }
    ],
}


@contextmanager
def service(flawed: set[str]) -> Iterator[tuple[str, list[str]]]:
    """OSV's API (https://google.github.io/osv.dev/post-v1-query), which knows of flaws in these packages alone.

    Its address, and the packages that it was asked about.
    """
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(query["package"]["name"])
            body = json.dumps({"vulns": [ADVISORY]} if asked[-1] in flawed else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def audit(url: str, cache: Path) -> tuple[int, str]:
    options = ["--vulnerability-service=osv", "--osv-url", url, "--cache-dir", str(cache)]
    command = [sys.executable, str(ROOT / "requirements" / "audit.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_every_package_of_the_lock_is_asked_about(tmp_path: Path):
    with service(set()) as (url, asked):
        code, said = audit(url, tmp_path)
    lock = (ROOT / "requirements" / "serve.txt").read_text().splitlines()
    assert {"bentoml", "onnxruntime-gpu", "pillow", "starlette"} <= set(asked)
    assert len(asked) <= sum("==" in line for line in lock)
    assert (code, said) == (0, f"{len(asked)} packages of serve.txt were audited; no advisory is known.\n")


def test_an_advisory_is_printed_with_the_fixed_version(tmp_path: Path):
    with service({"pillow"}) as (url, _):
        code, said = audit(url, tmp_path)
    (line,) = said.splitlines()
    assert code == 1
    assert line.startswith("pillow ") and line.endswith(": PYSEC-2030-1, fixed in 9999.1")


def test_a_service_that_does_not_answer_is_no_success(tmp_path: Path):
    code, said = audit(f"http://127.0.0.1:{free_port()}/v1/query", tmp_path)
    assert code == 2
    assert said.startswith("No advisory service answered, so nothing was audited: ")
