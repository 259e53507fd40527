"""What convolutions and products are computed in: what the recipe asks for, where the device has it."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


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
