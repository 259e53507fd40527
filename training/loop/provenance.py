"""Where a run came from, for its checkpoint and the model card: the device and the code."""

import subprocess
from pathlib import Path

import torch


def describe_device(device: torch.device, precision: str = "", processes: int = 1) -> str:
    """Such as "CUDA, NVIDIA H100" or "CPU, AMD EPYC, 1 thread, float32, 2 processes"."""
    shared = [precision] * bool(precision) + [f"{processes} processes"] * (processes > 1)
    if device.type == "cuda":
        return ", ".join(["CUDA", torch.cuda.get_device_name(device), *shared])
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    threads = torch.get_num_threads()
    return ", ".join(filter(None, ["CPU", model, f"{threads} thread{'s' * (threads > 1)}", *shared]))


def git_revision() -> str | None:
    """The commit of this code, with "+" where `training/` differs from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
