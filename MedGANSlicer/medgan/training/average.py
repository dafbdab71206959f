"""The moving average of a generator's weights, which gives steadier images than the weights of any one step.

Source: Yazici et al. 2018, "The unusual effectiveness of averaging in GAN training" (arXiv 1806.04498).
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """A copy of a network whose parameters follow those of the original slowly; ``network`` is that copy.

    ``decay``: share of the old average that stays at each step; fewer at the start, where the weights still change
    fast: (1 + steps) / (10 + steps). 0: the copy equals the original. Buffers (running statistics) are copied.
    """

    def __init__(self, original: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(original).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def follow(self, original: nn.Module, steps: int) -> None:
        """Take in the weights after ``steps`` steps, the first being 1."""
        decay = min(self.decay, steps / (9.0 + steps))
        kept, new = list(self.network.parameters()), [p.detach() for p in original.parameters()]
        if kept:
            get_ema_multi_avg_fn(decay)(kept, new, None)
        for buffer, fresh in zip(self.network.buffers(), original.buffers(), strict=True):
            buffer.copy_(fresh)
