"""Means of losses between two lines of the log, kept on the device so that it need not be waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medgan.training.parallel import World


class Means:
    """Running means by name. A name need not be there at every step (R1 is not)."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def tensors(self) -> dict[str, Tensor]:
        """The means over what was added, in this process."""
        return {name: value / self._counts[name] for name, value in self._sums.items()}

    def take(self, world: World) -> dict[str, float]:
        """The means over steps and processes since the last time; every process has to call it at the same step."""
        means = {name: value.float() for name, value in self.tensors().items()}
        self._sums, self._counts = {}, {}
        if not means:
            return {}
        return dict(zip(means, world.mean(torch.stack(list(means.values()))).tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "counts": dict(self._counts)}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])
