"""Settings of the models that make volumes, and of those that find what is unlike what they know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


class Contrast(Enum):
    """Which intensities a volume from a label map has, when no reference volume shows them."""

    USUAL = "usual"
    RANDOM = "random"

    def label(self) -> str:
        return {"usual": "As in training", "random": "Random"}[self.value]


@dataclass
class SynthesizeSettings(Settings):
    """What a person chooses for making volumes."""

    model: str = ""
    """Name of a model that translates, or makes volumes from label maps or from noise; or its bundle folder."""

    count: Annotated[int, Bounds(1, 10_000)] = 1
    """Volumes to make; number n has the seed ``seed + n - 1``."""

    contrast: Contrast = Contrast.USUAL
    """From label maps without a reference: the intensities of the training volumes, or random ones."""

    truncation: Annotated[float, Bounds(0.0, 1.0)] = 1.0
    """From noise: length of the latent vector; below 1 volumes are more usual and less different."""

    toward: Annotated[int, Bounds(-1, 2**31 - 1)] = -1
    """From noise: a second seed; volumes lie on the way from the first to it. -1: none."""

    mix: Annotated[float, Bounds(0.0, 1.0)] = 0.5
    """From noise: where on that way a single volume lies; several are spread over all of it."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same voxels."""


@dataclass
class AnomalySettings(Settings):
    """What a person chooses for a map of anomalies."""

    model: str = ""
    """Name of an autoencoder (``medgan train autoencoder DATA`` makes one), or its bundle folder."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""
