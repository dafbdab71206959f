"""What validation says of a training so far: its figures, the best weights, and how long nothing got better."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgan.training.interrupt import Watched
from medgan.training.kinds.base import Kind, plain_state


class Validation:
    """The fixed batches of the validation patients, on the device of the kind, and the best result on them."""

    def __init__(self, kind: Kind, batches: list[dict[str, Tensor]], look: Callable[[], None]) -> None:
        self._kind, self._look = kind, look
        self.digest = _digest(batches)
        device = next(kind.parameters()).device
        self.batches = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
        self.of_other_data = False
        """Whether the best is one of other batches, with whose figures these can not be compared."""
        self.best: dict[str, Any] = {}
        """"step", "figures" and "state" (of the averaged generator) of the best validation that counts."""
        self.stale = 0
        """Validations that count since the best one."""
        self.last_step = -1

    def measure(self, generator: nn.Module, step: int, counts: bool) -> dict[str, Any]:
        """Figures of a generator as "val_..." values; {} without validation batches.

        ``counts``: whether the score may be compared with the others (it may not where the loss lowers it on purpose).
        """
        if not self.batches:
            self.last_step = step
            return {}
        with torch.no_grad():
            figures = self._kind.validate(generator, Watched(self.batches, self._look))
        self._kind.train()
        self.last_step = step  # not before: the person may have cancelled
        score = figures.get("score", math.nan)
        if counts:
            if math.isfinite(score) and score > self.best.get("figures", {}).get("score", -math.inf):
                self.best = {"step": step, "figures": dict(figures), "state": plain_state(generator)}
                self.stale = 0
            else:
                self.stale += 1
        values: dict[str, Any] = {f"val_{name}": float(value) for name, value in figures.items()}
        return values if counts else {**values, "val_counts": False}

    def pictures(self, generator: nn.Module) -> dict[str, np.ndarray]:
        """Named sample images of the first validation batch; {} without one."""
        if not self.batches:
            return {}
        with torch.no_grad():
            pictures = self._kind.pictures(generator, self.batches[0])
        self._kind.train()
        return pictures

    def best_figures(self) -> dict[str, Any]:
        """Figures of the best validation with its "step"; {} where there was none."""
        return {"step": self.best["step"], **self.best["figures"]} if self.best else {}

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale, "last_step": self.last_step, "digest": self.digest}

    def load(self, state: dict[str, Any], data_changed: bool) -> None:
        """``data_changed`` decides for an older checkpoint, which does not know its batches."""
        self.best, self.stale, self.last_step = state["best"], state["stale"], state["last_step"]
        self.of_other_data = state["digest"] != self.digest if "digest" in state else data_changed

    def measure_best_again(self, generator: nn.Module) -> dict[str, Any]:
        """Give the best weights their figures on the batches there are now, as "val_..." values with their "val_step";
        {} where there is no best. ``generator``: to measure them in."""
        self.stale, self.last_step, self.of_other_data = 0, -1, False
        best, self.best = self.best, {}
        if not best:
            return {}
        generator.load_state_dict(best["state"])
        values = self.measure(generator, best["step"], True)
        self.last_step = -1
        return {**values, "val_step": best["step"]} if values else {}


def _digest(batches: list[dict[str, Tensor]]) -> str:
    """SHA-256 of all numbers of the batches."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, tensor in sorted(batch.items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()
