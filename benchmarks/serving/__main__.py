"""Serving benchmark: this checkout, an older revision, the peers and the raw model, with the same ONNX file.

    python -m benchmarks.serving --rounds 3 --seconds 5 --against e641b93

Every round starts, loads and stops each server in turn; every second round takes them in reverse order, so that a drift
of the machine's speed affects all. Prints two Markdown tables: the servers, and the ratios with their targets. The
first run makes a virtual environment for each peer under `.bench/`. wrk generates the load, over 127.0.0.1.
"""

import argparse
import compileall
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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import pss_of_tree
from benchmarks.processes import ROOT
from benchmarks.serving import load, raw
from benchmarks.serving.report import RAW, Results, chart, table
from benchmarks.serving.servers import SERVERS, Server, older
from serving.engine import generation, images
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

START_SECONDS = 120
STOP_SECONDS = 20
WARM_UP_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="NAME", help="servers to measure (all)"
    )
    parser.add_argument("--against", metavar="REVISION", help="also measure an older revision of the project")
    parser.add_argument(
        "--model",
        type=Path,
        default=ROOT / "models" / "dcgan-mnist",
        help="model to request; Ganymede also loads the other models in its folder (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all values to this file")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the throughput into this file")
    args = parser.parse_args(arguments)
    servers = [SERVERS[name] for name in args.servers]
    for server in servers:
        server.install()
    model = args.model.resolve()  # servers run in other folders
    runtime = Runtime(load_model(model))
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as name, checkout(args.against) if args.against else nullcontext() as previous:
        if previous:
            servers.insert(1, older(args.against, previous))
        for root in {server.root for server in servers}:
            compileall.compile_dir(root / "serving", quiet=2)  # before the first start is timed
        in_turn = [None, *servers]  # None: the raw model
        for round in range(args.rounds):
            print(f"round {round + 1} of {args.rounds}", file=sys.stderr)
            for server in in_turn if round % 2 == 0 else reversed(in_turn):
                print(f"  {server.name if server else RAW}", file=sys.stderr)
                if server:
                    measure(server, runtime, model, Path(name), args.seconds, results[server.name])
                else:
                    results[RAW]["throughput_64"].append(raw.images_per_second(runtime, args.seconds))
                    results[RAW]["p50_1"].append(raw.latency(runtime, args.seconds / 2))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    if args.chart:
        chart(results, args.chart)
    print(table(results, runtime, len(list(model.parent.glob("*/model.json")))))


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check out a revision of the project into a temporary git worktree. Raises SystemExit if git rejects it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        if subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision]).returncode:
            raise SystemExit(f"`--against {revision}` cannot be checked out; it must be a commit, a tag or a branch.")
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def measure(
    server: Server, runtime: Runtime, model: Path, folder: Path, seconds: float, results: dict[str, list[float]]
) -> None:
    """Start a server, check its images, apply each load, stop the server, and append a value to each metric."""
    port = free_port()
    began = time.perf_counter()
    process = server.start(model, port, folder / "log.txt")
    try:
        while load.request_once(server, model.name, port) is None:
            if process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                log = (folder / "log.txt").read_text()[-4000:]
                raise RuntimeError(f"{server.name} ended or did not start within {START_SECONDS} s. Its log:\n{log}")
            time.sleep(0.01)
        results["start"].append(time.perf_counter() - began)
        check(server, runtime, model, port)
        load.post(server, model.name, port, folder, connections=64, n=1, seconds=WARM_UP_SECONDS)
        one = load.post(server, model.name, port, folder, connections=1, n=1, seconds=seconds)
        results["p50_1"].append(one.p50)
        many = load.post(server, model.name, port, folder, connections=64, n=1, seconds=seconds)
        results["throughput_1"].append(many.requests_per_second)
        results["p50_64"].append(many.p50)
        results["p99_64"].append(many.p99)
        results["wrk"].append(many.cpu)
        errors = one.errors + many.errors
        if server.arrays:
            arrays = load.post(server, model.name, port, folder, connections=4, n=64, seconds=seconds)
            results["throughput_64"].append(64 * arrays.requests_per_second)
            livez = load.run(port, "/livez", connections=16, seconds=seconds)
            results["livez"].append(livez.requests_per_second)
            errors += arrays.errors + livez.errors
        results["errors"].append(errors)
        results["memory"].append(pss_of_tree(process.pid))
    finally:
        stop(process)


def check(server: Server, runtime: Runtime, model: Path, port: int) -> None:
    """Compare the images that a server returns with those of the model in this process."""
    expected = runtime.synthesize(generation.sample(runtime, n=64, seed=7, start=1000).inputs)
    content = load.request_once(server, model.name, port, 1000)
    assert content is not None, server.name
    png = content[content.index(b"\x89PNG") :]  # Triton's reply starts with a header
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), expected[0, ..., 0]), server.name
    if server.arrays:
        content = load.request_once(server, model.name, port, 1000, 64)
        assert content == b"".join(images.npy(expected)), server.name


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that are still alive
    process.wait()


def free_port() -> int:
    """Return a free port below 60,000. Triton also uses the next two."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port < 60_000:
            return port


if __name__ == "__main__":
    main()
