"""What the machine itself can do and what processes hold of it, as measures to set a benchmark's figures against."""

import time
from pathlib import Path

import torch

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
MATRIX_SECONDS = 0.3  # of products for one measurement
PROC = Path("/proc")


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second in products of square matrices, a multiply-add counted as two.

    On CUDA float32 means TF32, which cuDNN's convolutions use by default. Changes that setting for the process.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    size = MATRIX_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = a @ b  # the first product also sets the library up
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
    """Bytes of memory that a process and its descendants hold, each page counted once; Linux only.

    Anonymous and shared memory by proportional share, since forked workers share their parent's pages until they write;
    of pages that belong to files, the libraries', which other programs may share too, those of the process with most.
    """
    own, files = 0, 0
    for process in _tree(pid):
        try:
            rollup = _kilobytes(PROC / str(process) / "smaps_rollup")
            status = _kilobytes(PROC / str(process) / "status")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        own += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
        files = max(files, status.get("RssFile", 0))
    return (own + files) * 1024


def pss_of_tree(pid: int) -> int:
    """Bytes of memory of a process and its descendants by proportional share, the libraries' files included."""
    total = 0
    for process in _tree(pid):
        try:
            total += _kilobytes(PROC / str(process) / "smaps_rollup").get("Pss", 0)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return total * 1024


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines "Name:   123 kB" of a file of /proc."""
    fields = (line.split() for line in path.read_text().splitlines())
    return {field[0].rstrip(":"): int(field[1]) for field in fields if len(field) == 3 and field[2] == "kB"}


def _tree(root: int) -> list[int]:
    """The process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()  # a name may hold spaces
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    tree = [root]
    for process in tree:  # grows as it goes
        tree += children.get(process, [])
    return tree
