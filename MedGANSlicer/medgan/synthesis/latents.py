"""Volumes from noise: latent vectors of seeds, between seeds, and nearer to the usual."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.inference import autocast, run_or_on_cpu
from medgan.models import ModelError
from medgan.networks.from_noise import NoiseNet
from medgan.settings import SynthesizeSettings
from medgan.synthesis.scan import Run, usual_range
from medgan.volume import Volume

MOST = 5.0
"""Standard deviations that a slider may be moved by."""


def from_noise(settings: SynthesizeSettings, seed: int, mix: float, run: Run) -> tuple[Volume, dict[str, Any]]:
    """The volume that a seed gives, or one that lies ``mix`` of the way to the seed ``settings.toward``.

    Axes along right, anterior, superior; the centre of the volume at the origin; the spacing of the training volumes.
    """
    network = run.network
    if not isinstance(network, NoiseNet):
        raise ModelError(f"Model '{run.card.name}' has the network {run.card.network}, which takes no latent vector.")
    latent = latent_for(settings, seed, mix, network.latent)

    def make(device: torch.device) -> Tensor:
        with torch.inference_mode(), autocast(device):
            answer: Tensor = network.to(device)(latent[None].to(device))
        return answer.float().cpu()

    made, run.chosen, told = run_or_on_cpu(make, run.chosen)
    run.told += told
    if made.shape[1] != 1:
        raise ModelError(f"Model '{run.card.name}' makes {made.shape[1]} channels; choose one that makes one.")
    result = made[0, 0].clamp_min(0.0).numpy()
    scale = usual_range(run.card, "image")
    if scale is not None:
        result = scale.invert(result)
    unit = "typical of the volumes that the model was trained on" if scale else "0 is the darkest, 1 the brightest"
    spacing = [float(step) for step in run.card.details.get("spacing_mm") or (1.0, 1.0, 1.0)]
    return Volume(result, centred(result.shape, spacing), {}, "float32"), {"intensity_unit": unit}


def latent_for(settings: SynthesizeSettings, seed: int, mix: float, length: int, sliders: int = 0) -> Tensor:
    """(length,) the latent vector of a seed, or of what lies between it and another, shortened by the truncation; its
    first numbers are those of the sliders, of which there may be ``sliders`` (0: as many as numbers). Raises
    ``ValueError``."""
    latent = latent_of(seed, length)
    if settings.toward >= 0:
        latent = between(latent, latent_of(settings.toward, length), mix)
    latent = settings.truncation * latent
    set_by_hand = sliders_of(settings.sliders)
    if len(set_by_hand) > (sliders or length):
        raise ValueError(
            f"'sliders' has {len(set_by_hand)} numbers, the latent vector only {sliders or length}; give fewer."
        )
    latent[: len(set_by_hand)] = torch.tensor(set_by_hand)
    return latent


def sliders_of(text: str) -> list[float]:
    """The numbers of "1.5 -0.3" or "1.5, -0.3". Raises ``ValueError``."""
    try:
        found = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise ValueError(f"'sliders' must be numbers such as '1.5 -0.3', not {text!r}.") from None
    if any(not abs(number) <= MOST for number in found):
        raise ValueError(f"'sliders' must be numbers from -{MOST:g} to {MOST:g}, as standard deviations; not {text!r}.")
    return found


def latent_of(seed: int, length: int) -> Tensor:
    """(length,) standard normal numbers, the same on every device."""
    return torch.randn(length, generator=torch.Generator().manual_seed(seed))


def between(one: Tensor, other: Tensor, mix: float) -> Tensor:
    """A latent vector on the arc from one to another, as long as they are (White 2016, arXiv 1609.04468)."""
    if mix in (0.0, 1.0):  # to the last bit
        return other if mix else one
    cosine = float(torch.dot(one, other) / (one.norm() * other.norm()))
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if math.sin(angle) < 1e-3:
        return torch.lerp(one, other, mix)
    return (math.sin((1.0 - mix) * angle) * one + math.sin(mix * angle) * other) / math.sin(angle)


def centred(shape: tuple[int, ...], spacing_mm: list[float]) -> np.ndarray:
    """The matrix of a volume [k, j, i] along the axes of the patient whose centre is the origin."""
    matrix = np.diag([*spacing_mm, 1.0])
    matrix[:3, 3] = [-0.5 * step * (count - 1) for step, count in zip(spacing_mm, reversed(shape), strict=True)]
    return matrix
