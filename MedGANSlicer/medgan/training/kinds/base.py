"""What a training run trains: the networks, their losses, what is measured in validation and what is exported.

The loop (medgan.training.loop) knows nothing of images, labels or noise; it calls a :class:`Kind`. Everything random
that a sample needs (latent vectors, added noise, mixing numbers) is drawn by :meth:`Kind.draw` from the sample's own
generator and travels in the batch. So the losses are functions of the batch and the weights alone: a run goes on from
a checkpoint with the same losses, and two processes see what one with the doubled batch would see.

Legend for tensor names: B batch, C channels, D H W voxels (k, j, i).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""Samples with a batch axis in front."""


@dataclass(frozen=True)
class Facts:
    """What the data step found out about the training data, and a kind needs to know to build its networks."""

    channels: int = 1
    """Channels of "image", "input" or "source"."""
    target_channels: int = 1
    labels: tuple[dict[str, Any], ...] = ()
    """{"index", "value", "name", "color"} of every label but 0, in the order of the indices 1, 2, ... that "labels" of
    a batch hold."""
    intensities: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Volumes from label maps: mean and standard deviation of each label value, 0 too, in the training volumes."""
    classes: tuple[str, ...] = ()
    """Classification: their names, in the order of the numbers in "class"."""
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Along i, j, k; the median of the training volumes."""
    working_spacing_mm: tuple[float, float, float] | None = None
    """The grid that the volumes were resampled to; None: each has its own."""
    orientation: str = ""
    """"RAS" when the volumes were turned to those axes."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Intensities that became 0 and 1, by the key of a batch; the median over the volumes."""
    whole: bool = False
    """From noise: a sample is a whole body brought to the size of a patch."""
    patch: int = 32
    """Side in voxels of the cubes that training samples are."""
    paired: bool = True
    modality: str = ""
    """"CT" when all that the network is fed with is in Hounsfield units."""

    def about(self) -> dict[str, Any]:
        """What of this stands on every model's card."""
        spacing = self.working_spacing_mm
        return {
            "patch": self.patch,
            "spacing_mm": None if spacing is None else list(spacing),
            "orientation": self.orientation or None,
            "ranges": {name: list(pair) for name, pair in self.ranges.items()},
        }


@dataclass(frozen=True)
class Exported:
    """What the finished bundle holds. ``about``: more keys of "medgan" in its metadata.json, plain JSON values."""

    task: str
    network: str
    network_arguments: dict[str, Any]
    weights: dict[str, dict[str, Tensor]]
    """State dict by name: "faithful", and "natural" where there is one; the first is the one to use."""
    about: dict[str, Any] = field(default_factory=dict)


class Kind(nn.Module):
    """The base of all kinds. ``state_dict()`` holds everything that has to survive a restart, replay buffers too."""

    faithful_share: ClassVar[float] = 0.0
    """Share of the budget before the adversarial term begins; 0: it is there from the first step."""

    stops_early: ClassVar[bool] = True
    """Whether a validation score that no longer rises means done. Where the adversarial term lowers the score on
    purpose, the loop compares only steps from before it began."""

    keeps_best: ClassVar[bool] = True
    """Whether the weights of the best validation are exported; False: the last ones, so that the validation patients
    have chosen nothing and figures of them are honest."""

    keeps_faithful: ClassVar[bool] = False
    """Whether the weights that the adversarial stage began from are exported as the first ones, beside its own."""

    score_name: ClassVar[str] = "psnr"
    """The value of :meth:`validate` that "score" repeats, higher is better."""

    generator: nn.Module
    """What the generator's optimiser trains, what the average follows, what is exported."""

    critic: nn.Module | None
    """None: no adversarial term."""

    def draw(self, sample: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """A sample (no batch axis) with everything random that the losses need, drawn from its own generator.

        Called once for each training sample, right after ``Samples.sample``; may run in another process.
        """
        return dict(sample)

    def critic_loss(self, batch: Batch) -> dict[str, Tensor]:
        """ "loss" is to be minimised by the critic; "right" is the share of its correct judgements, where that makes
        sense. All are logged. The generator is not trained by it."""
        raise NotImplementedError

    def generator_loss(self, batch: Batch, adversarial: float) -> dict[str, Tensor]:
        """ "loss" is to be minimised by the generator; ``adversarial`` (0 to 1) scales the adversarial terms: 0 in
        the faithful stage, then rising to 1. The critic is not trained by it."""
        raise NotImplementedError

    def adversarial_begins(self, average: nn.Module) -> None:
        """Called before the first step with an adversarial term that a faithful stage went before, with the weights of
        that stage."""

    def faithful_goes_on(self) -> None:
        """Called when a training that was in its adversarial stage got the budget for more of the faithful one."""

    def validate(self, generator: nn.Module, batches: Sequence[Batch]) -> dict[str, float]:
        """Figures of a generator (the averaged one) on validation batches, among them "score" (higher is better)."""
        raise NotImplementedError

    def pictures(self, generator: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
        """Named 2D pictures in 0..1, all of one size, of the first sample of a batch."""
        raise NotImplementedError

    def export(self, average: nn.Module) -> Exported:
        """What the bundle needs, with weights on the CPU. ``average`` has the structure of ``generator``."""
        raise NotImplementedError


def drawn(kind: Kind, batches: Sequence[Batch], seed: int = 0) -> list[dict[str, Tensor]]:
    """Validation batches with what :meth:`Kind.draw` adds; the same at every call."""
    result = []
    for number, batch in enumerate(batches):
        rows = []
        for place in range(len(next(iter(batch.values())))):
            rng = torch.Generator().manual_seed(seed * 1_000_003 + number * 1009 + place)
            rows.append(kind.draw({name: tensor[place].cpu() for name, tensor in batch.items()}, rng))
        device = next(kind.parameters()).device
        result.append({name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]})
    return result


def uniform(rng: torch.Generator) -> Tensor:
    """A scalar between 0 and 1."""
    return torch.rand((), generator=rng)


def middle_slice(volume: Tensor) -> np.ndarray:
    """The middle slice of the first channel of (C, D, H, W), or of (D, H, W), in 0..1."""
    volume = volume if volume.ndim == 3 else volume[0]
    slice_ = volume[volume.shape[0] // 2].detach().float().clamp(0.0, 1.0).cpu().numpy()
    return np.asarray(slice_)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
