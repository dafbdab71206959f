"""What every recipe writes: a log that grows a line at a time, and weights that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(content: Any, path: Path) -> None:
    """Tensors under a temporary name, then the name they keep: a run that is killed leaves the file before it."""
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in float16, as weights are shipped; whole numbers stay what they are."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def rounded(tensor: Tensor, bits: int) -> Tensor:
    """In float16, to so many binary digits after the first (1 to 9); the other digits are 0. Whole numbers stay."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    unit = 1 << (10 - bits)
    # The bits of a float16 without its sign rise with its size, and a carry moves on to the exponent as it should.
    size = half.abs().view(torch.int16).to(torch.int32)
    held = ((size + unit // 2) // unit * unit).clamp_max(0x7BFF).to(torch.int16).view(torch.float16)
    return torch.where(half.isfinite(), torch.copysign(held, half), half)


def log(entry: Mapping[str, Any], folder: Path) -> None:
    """Print one step's figures and add them to ``log.jsonl``."""
    line = json.dumps({name: round(value, 5) if isinstance(value, float) else value for name, value in entry.items()})
    print(line, flush=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")
