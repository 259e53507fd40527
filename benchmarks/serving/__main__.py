"""Serving speed: this server, those that people would pick instead, and the model alone, with the same ONNX file.

    python -m benchmarks.serving --rounds 3 --seconds 5

Each server is started, asked and stopped in turn, round by round, so that what else the machine does falls on all.
Prints a Markdown table and the ratios, and with `--picture` draws them. The first run makes an environment for each
peer under `.bench/`. Load comes from wrk, over 127.0.0.1.
"""

import argparse
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import pss_of_tree
from benchmarks.processes import ROOT
from benchmarks.serving import load, raw
from benchmarks.serving.report import Figures, picture, table
from benchmarks.serving.servers import SERVERS, Server
from serving.engine import generation, images
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

START_SECONDS = 120
STOP_SECONDS = 20
WARM_UP_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="NAME", help="(all)")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "dcgan-mnist", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="writes every figure there")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draws the figures there")
    args = parser.parse_args(arguments)
    servers = [SERVERS[name] for name in args.servers]
    for server in servers:
        server.install()
    runtime = Runtime(load_model(args.model))
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        for round in range(args.rounds):
            print(f"round {round + 1} of {args.rounds}", file=sys.stderr)
            figures["the model alone"]["images_64"].append(raw.images_per_second(runtime, args.seconds))
            figures["the model alone"]["p50_1"].append(raw.latency(runtime, args.seconds / 2))
            for server in servers:
                print(f"  {server.name}", file=sys.stderr)
                measure(server, runtime, args.model, Path(folder), args.seconds, figures[server.name])
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.picture:
        picture(figures, args.picture)
    print(table(figures, runtime))


def measure(
    server: Server, runtime: Runtime, model: Path, folder: Path, seconds: float, figures: dict[str, list[float]]
) -> None:
    """Starts a server, loads it and stops it."""
    port = free_port()
    began = time.perf_counter()
    process = server.start(model, port, folder / "log.txt")
    try:
        content = None
        while content is None:
            content = load.ask(server, model.name, port)
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise RuntimeError(f"{server.name} does not start:\n{(folder / 'log.txt').read_text()[-4000:]}")
            time.sleep(0.01)
        figures["start"].append(time.perf_counter() - began)
        check(server, runtime, model, port)
        load.post(server, model.name, port, folder, connections=64, n=1, seconds=WARM_UP_SECONDS)
        one = load.post(server, model.name, port, folder, connections=1, n=1, seconds=seconds)
        figures["p50_1"].append(one.p50)
        many = load.post(server, model.name, port, folder, connections=64, n=1, seconds=seconds)
        figures["images_1"].append(many.requests_per_second)
        figures["p50_64"].append(many.p50)
        figures["p99_64"].append(many.p99)
        figures["errors"].append(many.errors)
        figures["wrk"].append(many.cpu)
        if server.arrays:
            arrays = load.post(server, model.name, port, folder, connections=4, n=64, seconds=seconds)
            figures["images_64"].append(64 * arrays.requests_per_second)
            figures["errors"].append(arrays.errors)
            empty = load.run(port, "/livez", connections=16, seconds=seconds)
            figures["empty"].append(empty.requests_per_second)
        figures["memory"].append(pss_of_tree(process.pid))
    finally:
        stop(process)


def check(server: Server, runtime: Runtime, model: Path, port: int) -> None:
    """What it serves are the pictures of the addresses that it is asked for."""
    expected = runtime.synthesize(generation.sample(runtime, n=64, seed=7, start=1000).inputs)
    found = load.ask(server, model.name, port, 1000)
    assert found is not None, server.name
    png = found[found.index(b"\x89PNG") :]  # Triton's reply has a header of its own
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), expected[0, ..., 0]), server.name
    if server.arrays:
        content = load.ask(server, model.name, port, 1000, 64)
        assert content == b"".join(images.npy(expected)), server.name


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it left behind
    process.wait()


def free_port() -> int:
    """The first of three free ones: Triton takes as many."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port < 60_000:
            return port


if __name__ == "__main__":
    main()
