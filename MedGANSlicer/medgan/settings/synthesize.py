"""Settings of the models that make volumes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from medgan.settings.base import Bounds, Device, Settings


class Contrast(Enum):
    """Where a volume from a label map takes the intensities of its labels from."""

    USUAL = "usual"
    REFERENCE = "reference"
    T1 = "T1"
    T2 = "T2"
    FLAIR = "FLAIR"
    CT = "CT"
    BY_HAND = "by hand"
    RANDOM = "random"

    def label(self) -> str:
        if self in (Contrast.T1, Contrast.T2, Contrast.FLAIR):
            return f"MR {self.value}"
        said = {"usual": "Reference, or the model's own", "reference": "Reference volume", "CT": "CT"}
        return said.get(self.value) or self.value.capitalize()


class Target(Enum):
    """The contrast of a scan of the head."""

    ANY = "any"
    T1 = "T1"
    T2 = "T2"
    FLAIR = "FLAIR"

    def label(self) -> str:
        return {"any": "Not said"}.get(self.value, f"MR {self.value}")


SETTINGS_FOR = {
    "models from label maps": ("contrast", "intensities", "deformation_mm", "noise", "bias", "slice_mm"),
    "models from noise": ("truncation", "toward", "mix", "sliders", "spacing_mm"),
    "translation": ("target", "source"),
    "variations": ("deformation_mm", "coarse_mm", "minutes"),
}
"""Settings that only what makes volumes in this way heeds."""


@dataclass
class SynthesizeSettings(Settings):
    """What a person chooses for making volumes."""

    model: str = ""
    """Name of a model that translates, or makes volumes from label maps or from noise; or its bundle folder."""

    count: Annotated[int, Bounds(1, 10_000)] = 1
    """Volumes to make; number n has the seed ``seed + n - 1``."""

    contrast: Contrast = Contrast.USUAL
    """From label maps: where intensities come from. "usual": a reference if there is one, else the model's own."""

    intensities: str = ""
    """From label maps: intensities by hand, as "2=0.7/0.03 3=0.5": label value = mean / standard deviation. They
    replace those of the contrast, a mean alone only its mean; with "by hand" every label needs one, in any unit. CT is
    in HU, T1, T2 and FLAIR go from 0 to 1."""

    deformation_mm: Annotated[float, Bounds(0.0, 30.0)] = 0.0
    """From label maps: how far the labels are moved at random on average (root mean square), without folding."""

    noise: Annotated[float, Bounds(0.0, 0.5)] = 0.0
    """From label maps: further noise of the scanner, as a share of the range of intensities."""

    bias: Annotated[float, Bounds(0.0, 1.0)] = 0.0
    """From label maps: strength of a smooth brightness field; 0.2 is a usual one."""

    slice_mm: Annotated[float, Bounds(0.0, 50.0)] = 0.0
    """From label maps: as slices of this thickness along the coarsest axis would show it, on the same grid; 0: as it
    is."""

    truncation: Annotated[float, Bounds(0.0, 1.0)] = 1.0
    """From noise: length of the latent vector; below 1 volumes are more usual and less different."""

    toward: Annotated[int, Bounds(-1, 2**31 - 1)] = -1
    """From noise: a second seed; volumes lie on the way from the first to it. -1: none."""

    mix: Annotated[float, Bounds(0.0, 1.0)] = 0.5
    """From noise: where on that way a single volume lies; several are spread over all of it."""

    sliders: str = ""
    """From noise: the first numbers of the latent vector, as "1.5 -0.3", in place of those of the seed."""

    spacing_mm: Annotated[float, Bounds(0.0, 4.0)] = 0.0
    """From noise: side of the voxels, for models that can make several; 0: the model's own."""

    target: Target = Target.ANY
    """Translation: the contrast to make, for models that make several."""

    source: Target = Target.ANY
    """Translation: the contrast of the scan; "any": it is recognised."""

    coarse_mm: Annotated[float, Bounds(0.1, 64.0)] = 3.0
    """Variations of a volume: what is larger stays as it is, what is finer is made anew."""

    minutes: Annotated[float, Bounds(0.0, 240.0)] = 0.0
    """Variations of a volume: most time for one; 0: as long as it takes."""

    device: Device = Device.AUTO
    """Where the network runs."""

    memory_limit_gb: Annotated[float, Bounds(0.0, 4096.0)] = 0.0
    """Most memory the run may use, in GB (1e9 bytes); 0 reads what is free."""

    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0
    """Seed of everything random; the same seed gives the same voxels."""
