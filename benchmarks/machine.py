"""Peak matrix throughput of the machine, and memory of processes, as references for benchmarks."""

import time
from pathlib import Path

import torch

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
MATRIX_SECONDS = 0.3  # of one measurement
PROC = Path("/proc")


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the FLOP/s in products of square matrices. A multiply-add counts as two operations.

    On CUDA, float32 means TF32, which cuDNN's convolutions use by default; this setting is changed for the process.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    size = MATRIX_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = a @ b  # the first product also initialises the library
    _wait_for(device)
    began, products, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < MATRIX_SECONDS:
        torch.matmul(a, b, out=out)
        _wait_for(device)
        products += 1
        elapsed = time.perf_counter() - began
    return products * 2 * size**3 / elapsed


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_of_tree(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes. Each page counts once. Linux only.

    Anonymous and shared memory counts by proportional share (PSS), because forked workers share the pages of their
    parent until they write. Pages of files, mostly libraries, may also be shared with other programs. Of these, the
    value of the process that has the most counts.
    """
    own, files = 0, 0
    for process in _tree(pid):
        try:
            rollup = _kilobytes(PROC / str(process) / "smaps_rollup")
            status = _kilobytes(PROC / str(process) / "status")
        except (FileNotFoundError, ProcessLookupError):  # the process has ended
            continue
        own += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
        files = max(files, status.get("RssFile", 0))
    return (own + files) * 1024


def pss_of_tree(pid: int) -> int:
    """Return the proportional set size (PSS) of a process and its descendants in bytes, library files included."""
    total = 0
    for process in _tree(pid):
        try:
            total += _kilobytes(PROC / str(process) / "smaps_rollup").get("Pss", 0)
        except (FileNotFoundError, ProcessLookupError):  # the process has ended
            continue
    return total * 1024


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the values of the lines "Name:   123 kB" of a file in /proc, in kB."""
    fields = (line.split() for line in path.read_text().splitlines())
    return {field[0].rstrip(":"): int(field[1]) for field in fields if len(field) == 3 and field[2] == "kB"}


def _tree(root: int) -> list[int]:
    """Return the ids of the process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()  # a name may contain spaces
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    tree = [root]
    for process in tree:  # the list grows during the loop
        tree += children.get(process, [])
    return tree
