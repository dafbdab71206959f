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


def log(entry: Mapping[str, Any], folder: Path) -> None:
    """Print one step's figures and add them to ``log.jsonl``."""
    line = json.dumps({name: round(value, 5) if isinstance(value, float) else value for name, value in entry.items()})
    print(line, flush=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(line + "\n")
