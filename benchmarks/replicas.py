"""What a second replica adds, behind HAProxy with deploy/haproxy.cfg.

    python -m benchmarks.replicas --rounds 3 --seconds 5

A replica is a server on one thread, pinned to a processor of its own. HAProxy and the load generator, wrk, have the
other processor where there is one replica; where there are two, they take what they need from both, and how much that
is, is told.
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
    """HAProxy on the first of three ports of 127.0.0.1, before replicas on the others; gives its process id."""
    environment = {
        name: f"127.0.0.1:{number}"
        for name, number in zip(("GANYMEDE_BIND", "GANYMEDE_ONE", "GANYMEDE_TWO"), ports, strict=True)
    }
    command = [*pinned(cpus), "haproxy", "-db", "-f", str(CONFIG)]
    return running(command, ports[0], log, environment)


def replica(port: int, log: Path, cpu: int) -> AbstractContextManager[int]:
    """A server on one processor; gives its process id."""
    return running([*pinned(str(cpu)), *serve(port)], port, log, {"GANYMEDE_DRAIN": "0"})


def pinned(cpus: str) -> list[str]:
    return ["taskset", "-c", cpus] if cpus else []


def processor_seconds(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5), from field 3 on
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def measure(model: str, replicas: int, through_proxy: bool, ports: list[int], seconds: int) -> dict[str, list[float]]:
    """load -> images a second, processors that the replicas, HAProxy and wrk took, p50, p99, and requests refused."""
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
                before = [processor_seconds(pid) for pid in (*pids, *([balancer] if balancer else []))]
                began = time.perf_counter()
                seen = post(SERVERS["Ganymede"], model, port, folder, connections=clients, n=images, seconds=seconds)
                elapsed = time.perf_counter() - began
                after = [processor_seconds(pid) for pid in (*pids, *([balancer] if balancer else []))]
                took = [(b - a) / elapsed for a, b in zip(before, after, strict=True)]
                rate = (seen.requests_per_second - seen.errors / elapsed) * images
                shares = [sum(took[:replicas]), sum(took[replicas:]), seen.cpu]
                found[load] = [rate, *shares, seen.p50, seen.p99, seen.errors]
        finally:
            os.sched_setaffinity(0, {first, second})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan-mnist")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--port", type=int, default=4100, help="HAProxy's; the replicas have the next two")
    options = parser.parse_args()
    for tool in ("haproxy", "wrk", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: apt-get install haproxy wrk util-linux")
    if len(os.sched_getaffinity(0)) < 2:
        raise SystemExit("two processors are needed")
    ports = [options.port, options.port + 1, options.port + 2]
    setups = {"1, asked directly": (1, False), "1, through HAProxy": (1, True), "2, through HAProxy": (2, True)}
    figures: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for setup, (replicas, through_proxy) in setups.items():
            found = measure(options.model, replicas, through_proxy, ports, options.seconds)
            for load, values in found.items():
                figures.setdefault((load, setup), []).append(values)
    print(
        f"{options.model}, load average {os.getloadavg()[0]:.1f}; median (least to most) of {options.rounds} rounds\n"
    )
    heads = ["load", "replicas", "images/s", "p50, ms", "p99, ms", "refused"]
    heads += ["processors: replicas", "HAProxy", "wrk", "images/s a processor of the replicas"]
    print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
    for (load, setup), rounds in figures.items():
        rate, *took, p50, p99, refused = ([one[i] for one in rounds] for i in range(7))
        cells = [f"{median(rate):,.0f} ({min(rate):,.0f} to {max(rate):,.0f})"]
        cells += [f"{1e3 * median(times):.1f}" for times in (p50, p99)] + [f"{sum(refused):.0f}"]
        cells += [f"{median(share):.2f}" for share in took]
        cells.append(f"{median(a / b for a, b in zip(rate, took[0], strict=True)):,.0f}")  # of the replicas
        print(f"| {load} | {setup} | {' | '.join(cells)} |")
    for load in LOADS:
        ones, twos = figures[load, "1, through HAProxy"], figures[load, "2, through HAProxy"]
        ratios = [two[0] / one[0] for one, two in zip(ones, twos, strict=True)]
        print(f"\n{load}: two are {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times one")


if __name__ == "__main__":
    main()
