"""Benchmark of one and two replicas behind HAProxy with deploy/haproxy.cfg.

    python -m benchmarks.replicas --rounds 3 --seconds 5

A replica is a server with one thread, pinned to its own CPU core. With one replica, HAProxy and the load generator wrk
run on the other core. With two replicas, they share both cores. The table lists the CPU time of each.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median

from benchmarks.processes import ROOT, running, serve
from benchmarks.serving.load import post
from benchmarks.serving.servers import SERVERS

CONFIG = ROOT / "deploy" / "haproxy.cfg"
LOADS = {"64 images a request, .npy, 8 clients": (8, 64), "1 image a request, PNG, 64 clients": (64, 1)}


def proxy(ports: Sequence[int], log: Path, cpus: str = "") -> AbstractContextManager[int]:
    """Start HAProxy on the first of three ports of 127.0.0.1, with replicas on the others. Yield its process id."""
    environment = {
        name: f"127.0.0.1:{number}"
        for name, number in zip(("GANYMEDE_BIND", "GANYMEDE_ONE", "GANYMEDE_TWO"), ports, strict=True)
    }
    command = [*pinned(cpus), "haproxy", "-db", "-f", str(CONFIG)]
    return running(command, ports[0], log, environment)


def replica(port: int, log: Path, cpu: int) -> AbstractContextManager[int]:
    """Start a server that is pinned to one CPU core; yield its process id."""
    return running([*pinned(str(cpu)), *serve(port)], port, log, {"GANYMEDE_DRAIN": "0"})


def pinned(cpus: str) -> list[str]:
    return ["taskset", "-c", cpus] if cpus else []


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5), from field 3 on
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def measure(model: str, replicas: int, through_proxy: bool, ports: list[int], seconds: int) -> dict[str, list[float]]:
    """Return for each load: images/s, CPU cores used by the replicas, HAProxy and wrk, p50 and p99 (s), and errors."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    around = str(second) if replicas == 1 else f"{first},{second}"
    found = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        pids = [
            stack.enter_context(replica(ports[1 + i], folder / f"{i}.txt", cpu))
            for i, cpu in zip(range(replicas), (first, second), strict=False)
        ]
        balancer = stack.enter_context(proxy(ports, folder / "haproxy.txt", around)) if through_proxy else None
        os.sched_setaffinity(0, {int(cpu) for cpu in around.split(",")})  # wrk inherits it
        try:
            for load, (clients, images) in LOADS.items():
                port = ports[0] if through_proxy else ports[1]
                post(SERVERS["Ganymede"], model, port, folder, connections=clients, n=images, seconds=1)
                before = [cpu_seconds(pid) for pid in (*pids, *([balancer] if balancer else []))]
                began = time.perf_counter()
                seen = post(SERVERS["Ganymede"], model, port, folder, connections=clients, n=images, seconds=seconds)
                elapsed = time.perf_counter() - began
                after = [cpu_seconds(pid) for pid in (*pids, *([balancer] if balancer else []))]
                took = [(b - a) / elapsed for a, b in zip(before, after, strict=True)]
                rate = (seen.requests_per_second - seen.errors / elapsed) * images
                shares = [sum(took[:replicas]), sum(took[replicas:]), seen.cpu]
                found[load] = [rate, *shares, seen.p50, seen.p99, seen.errors]
        finally:
            os.sched_setaffinity(0, {first, second})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan-mnist", help="model in models/ (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="length of each load (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=4100, help="port of HAProxy; the replicas use the next two (%(default)s)"
    )
    options = parser.parse_args()
    for tool in ("haproxy", "wrk", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing; install it with `apt-get install haproxy wrk util-linux`.")
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit(
            "This process may use one CPU core; at least two are needed. Allow more, for example with taskset."
        )
    ports = [options.port, options.port + 1, options.port + 2]
    setups = {"1, direct": (1, False), "1, through HAProxy": (1, True), "2, through HAProxy": (2, True)}
    metrics: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for setup, (replicas, through_proxy) in setups.items():
            found = measure(options.model, replicas, through_proxy, ports, options.seconds)
            for load, values in found.items():
                metrics.setdefault((load, setup), []).append(values)
    load_average = os.getloadavg()[0]
    print(f"{options.model}, load average {load_average:.1f}; median (minimum to maximum) of {options.rounds} rounds\n")
    heads = ["load", "replicas", "images/s", "p50, ms", "p99, ms", "errors"]
    heads += ["CPU cores: replicas", "HAProxy", "wrk", "images/s for each CPU core of the replicas"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for (load, setup), rounds in metrics.items():
        rate, *took, p50, p99, errors = ([one[i] for one in rounds] for i in range(7))
        cells = [f"{median(rate):,.0f} ({min(rate):,.0f} to {max(rate):,.0f})"]
        cells += [f"{1e3 * median(times):.1f}" for times in (p50, p99)] + [f"{sum(errors):.0f}"]
        cells += [f"{median(share):.2f}" for share in took]
        cells.append(f"{median(a / b for a, b in zip(rate, took[0], strict=True)):,.0f}")  # of the replicas
        print(f"| {load} | {setup} | {' | '.join(cells)} |")
    for load in LOADS:
        ones, twos = metrics[load, "1, through HAProxy"], metrics[load, "2, through HAProxy"]
        ratios = [two[0] / one[0] for one, two in zip(ones, twos, strict=True)]
        print(f"\n{load}: 2 vs 1 replicas: {median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
