"""In which number format a device computes fast."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 numbers itself: newer NVIDIA GPUs, and processors with AVX512-BF16 or AMX.

    There a convolution takes a third to a half of the time that float32 takes; elsewhere bfloat16 is imitated,
    slowly. Not on Apple GPUs and ARM processors, where it was never measured.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # torch has no public question for it.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and bool(ask()) for ask in asked)


def training_autocast(device: torch.device) -> torch.autocast:
    """Mixed precision for the forward passes of a training: bfloat16 where it is fast, else float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device))
