"""The device of a run: its precision, its description, and the revision of the code."""

import subprocess
from pathlib import Path

import torch

from training.recipe import Precision


def precision_on(device: torch.device, asked: Precision) -> Precision:
    """`asked`, but float32 for a bfloat16 that the device would emulate.

    On a CPU with AVX2 alone a step of StyleGAN-lite at 32 px takes 15 times as long in bfloat16 as in float32.
    """
    return "bfloat16" if asked == "bfloat16" and _has_bfloat16(device) else "float32"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # what torch itself asks before it lowers to bfloat16 (torch/_inductor); AVX-512 or AMX, or the like on ARM
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def load_advice(device: torch.device, threads: int, load: float, cores: int) -> str | None:
    """Return advice where other processes are busy on the cores that several training threads wait for each other on.

    With two threads beside one busy process StyleGAN-lite fell from 209 to 3 images/s; one thread kept 124.
    """
    if device.type != "cpu" or threads == 1 or load <= cores:
        return None
    return f"the load is {load:.1f} on {cores} cores: several threads would wait for each other; try --threads 1"


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
        git("ls-files", "--error-unmatch", "__init__.py")  # not a package installed below another checkout
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
