"""A network's way from a loss to new weights: precision, accumulated gradients, clipping, losses that are no number."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from medgan.precision import fast_bfloat16
from medgan.settings import Precision
from medgan.training.parallel import World

CLIP = 1.0
"""Longest gradient, over all the weights of a network together."""


def number_format(wanted: Precision, device: torch.device) -> torch.dtype:
    """The format of the forward passes. Automatic: bfloat16 on a GPU that is fast with it, else float32.

    Not on processors: some of torch's layers for them (a normalisation over even background) answer NaN in bfloat16.
    """
    if wanted is Precision.AUTO:
        return torch.bfloat16 if device.type == "cuda" and fast_bfloat16(device) else torch.float32
    return {
        Precision.FLOAT32: torch.float32,
        Precision.BFLOAT16: torch.bfloat16,
        Precision.FLOAT16: torch.float16,
    }[wanted]


class Updates:
    """Optimiser and, for float16, loss scaler of one network (Micikevicius et al. 2017, arXiv 1710.03740).

    Only the parameters that could be trained at the start are, so a kind may freeze some.
    """

    def __init__(
        self,
        network: nn.Module,
        phase: nn.Module,
        rate: float,
        betas: tuple[float, float],
        format: torch.dtype,
        device: torch.device,
    ) -> None:
        self.phase, self.rate = phase, rate
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        fused = device.type in ("cpu", "cuda")  # one pass over the weights instead of several
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, betas=betas, weight_decay=1e-4, fused=fused)
        self.scaler = torch.amp.GradScaler(device.type, enabled=format is torch.float16)
        self._autocast = torch.autocast(device.type, format, enabled=format is not torch.float32)

    def freeze(self, freeze: bool) -> None:
        """Keep gradients out of this network while the other one is trained, or let them in again."""
        for parameter in self.parameters:
            parameter.requires_grad_(not freeze)

    def set_rate(self, factor: float) -> float:
        """The learning rate from now on: ``factor`` times the chosen one."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        return self.rate * factor

    def begin(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)

    def add(self, batch: dict[str, Tensor], share: float, last: bool, *more: Any) -> dict[str, Tensor]:
        """Add ``share`` of the gradient of the loss of a batch; the values of the loss, detached.

        ``last``: whether no further batch follows before :meth:`apply`.
        """
        waits = contextlib.nullcontext() if last else self.phase.no_sync()  # type: ignore[operator]
        with waits:
            with self._autocast:
                values = self.phase(batch, *more)
            self.scaler.scale(values["loss"].float() * share).backward()
        return {name: value.detach().float() for name, value in values.items()}

    def apply(self, loss: Tensor, world: World) -> bool:
        """Change the weights, unless gradient or loss are not finite; whether all is well.

        ``loss``: the sum of the losses that were added. float16 finds its scale by trying, so there a gradient that is
        not finite is nothing to worry about until the scale has become 1.
        """
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.parameters, CLIP)
        finite_loss, finite_norm = torch.stack([loss, norm]).isfinite().tolist()  # waits for the device once
        sound = not world.any(not (finite_loss and finite_norm))
        searching = finite_loss and self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
        if sound:
            self.scaler.step(self.optimiser)
        self.scaler.update()
        return sound or searching

    def state(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        fused = self.optimiser.param_groups[0]["fused"]  # of this device, which need not be the one that saved
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            group["fused"] = fused
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
