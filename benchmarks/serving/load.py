"""Load from wrk, a separate process: a closed loop, in which a connection sends a request after each reply."""

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.servers import Server

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Load:
    """Results of a run of wrk."""

    requests_per_second: float
    p50: float  # seconds
    p99: float
    errors: int
    cpu: float  # CPU cores that wrk itself used


def request(server: Server, model: str, index: int, n: int) -> tuple[str, dict[str, str], str]:
    """Return the path, headers and body of a POST for `n` images from `index` on."""
    if server.triton:
        address = {"name": "address", "shape": [1, 2], "datatype": "UINT64", "data": [7, index]}
        output = {"name": "png", "parameters": {"binary_data": True}}
        return "/v2/models/sample/infer", {}, json.dumps({"inputs": [address], "outputs": [output]})
    headers = {"Content-Type": "application/json"} | ({"Accept": "application/x-npy"} if n > 1 else {})
    body = {"seed": 7, "start": index} | ({"n": n} if n > 1 else {})
    if server.repository:
        body = {"model": model} | body
    return "/v1/sample", headers, json.dumps(body)


def request_once(server: Server, model: str, port: int, index: int = 0, n: int = 1) -> bytes | None:
    """Send a request and return the body of the reply; None if there is no reply or an error."""
    path, headers, body = request(server, model, index, n)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        return content if reply.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def post(server: Server, model: str, port: int, folder: Path, *, connections: int, n: int, seconds: float) -> Load:
    """Run wrk with POST requests, each for new images."""
    path, headers, body = request(server, model, 123456789, n)
    before, after = body.split("123456789")
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = folder / "request.lua"
    script.write_text(
        "\n".join([*lines, "local index = 0", "request = function()", f"  index = index + {n}"])
        + f"\n  return wrk.format('POST', '{path}', nil, '{before}' .. index .. '{after}')\nend\n"
    )
    return run(port, "/", connections=connections, seconds=seconds, script=script)


def run(port: int, path: str, *, connections: int, seconds: float, script: Path | None = None) -> Load:
    """Run wrk against `port` of 127.0.0.1 for `seconds`. Raises RuntimeError if wrk fails."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is missing; install it with `apt-get install wrk`.")
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "10s"]
    command += ["-s", str(script)] * bool(script) + [f"http://127.0.0.1:{port}{path}"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - began
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if process.returncode or rate is None:
        raise RuntimeError(f"{' '.join(command)}: {text}")
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Load(
        float(rate[1]),
        _percentile(text, 50),
        _percentile(text, 99),
        (int(errors[1]) if errors else 0) + (sum(map(int, sockets.groups())) if sockets else 0),
        (usage.ru_utime + usage.ru_stime) / elapsed,
    )


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", text)
    return float(found[1]) * UNITS[found[2]] if found else float("nan")
